/** Rows whose buffer is given to whoever writes them, against the same rows in one that is not. */
import fc from 'fast-check'
import type { FormatName } from '../../src/event/envelope.js'
import { envelope } from '../../src/event/formats.js'
import { LSN_ZERO, toLsn } from '../../src/event/lsn.js'
import type { OldTuple } from '../../src/event/row.js'
import type { SinkTopic } from '../../src/event/sink.js'
import { type CompiledTable, compileTable } from '../../src/event/table.js'
import { Transcoder } from '../../src/event/transcoder.js'
import { moveTo, NULL, type Tuple, UNCHANGED } from '../../src/event/tuple.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import { BatchSink, type FilledBatches } from '../../src/log/batch-sink.js'
import { decodeRecords, readBatches } from '../../src/log/read-batch.js'
import { type Cell, relationOf, tupleOf } from '../support/tuples.js'

/** Postgres' types, and texts of them. Longer texts are looked at to know what they become. */
const TEXTS: readonly (readonly [oid: number, text: fc.Arbitrary<string>])[] = [
  [25, fc.string({ unit: fc.constantFrom('a', 'é', '"', '\\', '\n', '\u0001'), maxLength: 40 })],
  [25, fc.tuple(fc.constantFrom('x', 'ab"', '\u0001', 'é\n'), fc.nat(9000)).map(([unit, n]) => unit.repeat(n))],
  [17, fc.nat(9000).map((bytes) => `\\x${'5a'.repeat(bytes)}`)],
  [20, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)],
  [701, fc.constantFrom('1.5', 'NaN', '-Infinity', '1e+300')],
  [16, fc.constantFrom('t', 'f')],
  [1184, fc.constantFrom('2026-03-01 12:00:00.123456+00', 'infinity', '0044-03-15 00:00:00+00 BC')],
  [1082, fc.constantFrom('2026-03-01', '12026-03-01')],
  [790, fc.constantFrom('-$1,234.50')],
  [1009, fc.nat(2000).map((n) => `{NULL${',""'.repeat(n)}${',"\\\\x"'.repeat(n)}}`)],
  [3802, fc.nat(9000).map((n) => `{"a": "${'b'.repeat(n)}"}`)],
]

const CHANGES = ['insert', 'update', 'update with key', 'update with old row', 'delete'] as const

interface Row {
  readonly columns: readonly (readonly [oid: number, key: boolean, old: Cell, value: Cell])[]
  readonly change: (typeof CHANGES)[number]
  readonly format: FormatName
  /** Bytes of the buffer before and behind the values. */
  readonly before: number
  readonly spare: number
  readonly maxRecordBytes: number | undefined
}

const column = fc.constantFrom(...TEXTS).chain(([oid, text]) => {
  const cell = fc.oneof({ weight: 8, arbitrary: text }, { weight: 1, arbitrary: fc.constant(NULL) })
  const value = fc.oneof({ weight: 8, arbitrary: cell }, { weight: 1, arbitrary: fc.constant(UNCHANGED) })
  return fc.tuple(fc.constant(oid), fc.boolean(), cell, value)
})
const row: fc.Arbitrary<Row> = fc.record({
  columns: fc.array(column, { minLength: 1, maxLength: 6 }),
  change: fc.constantFrom(...CHANGES),
  format: fc.constantFrom('evert', 'debezium', 'plain'),
  before: fc.nat(100),
  spare: fc.oneof(fc.nat(3000), fc.nat(60_000), fc.constant(400_000)),
  maxRecordBytes: fc.option(fc.constantFrom(5000, 30_000, 1_000_000), { nil: undefined }),
})

/** Old and new row one behind the other, as in a message. */
function place(tuples: readonly Tuple[], { before, spare }: Row): Buffer {
  const values = tuples.map(({ bytes }) => bytes)
  const bytes = Buffer.concat([Buffer.alloc(before, 0xee), ...values, Buffer.alloc(spare, 0xee)])
  let at = before
  for (const tuple of tuples) {
    const { length } = tuple.bytes
    moveTo(bytes, at, [tuple])
    at += length
  }
  return bytes
}

function write(one: Row, given: boolean, followed = true): { readonly filled: FilledBatches; readonly bytes: Buffer } {
  const { columns, change, maxRecordBytes } = one
  const topic = { name: 't', partitions: 1, ...(maxRecordBytes === undefined ? {} : { maxRecordBytes }) }
  const sink = new BatchSink({ lookup: () => topic })
  const form = envelope(one.format, { pipeline: 'p', database: 'd', version: '1' })
  const table: CompiledTable = compileTable({
    relation: relationOf(columns.map(([typeOid, key], i) => ({ name: `c${i}`, typeOid, key }))),
    topic: sink.topic({ name: 't', keyed: true }) as SinkTopic,
    types: {},
    values: DEFAULT_VALUES,
    envelope: form,
  })
  const transcoder = new Transcoder(sink, form, { omit: true, onSkip: () => undefined }, LSN_ZERO)
  transcoder.begin({ commitLsn: toLsn(1000n), timeUs: 0n, xid: 1, snapshot: false })
  const kind: OldTuple = change === 'update with key' ? 'key' : 'full'
  const hasOld = change === 'delete' || change.startsWith('update with')
  // No key is unchanged but where the old one says what it is.
  const value = tupleOf(columns.map(([, key, was, is]) => (is === UNCHANGED && (key || !hasOld) ? was : is)))
  const old = tupleOf(columns.map(([, key, was]) => (kind === 'full' || key ? was : NULL)))
  const tuples = change === 'delete' ? [old] : hasOld ? [old, value] : [value]
  const bytes = place(tuples, one)
  for (const tuple of tuples) tuple.given = given
  if (change === 'delete') transcoder.delete(table, 0, 900, old, kind)
  else if (change === 'insert') transcoder.insert(table, 0, 900, value)
  else transcoder.update(table, 0, 900, value, hasOld ? old : null, kind)
  // What follows is not written into the buffer.
  if (followed) transcoder.insert(table, 0, 950, tupleOf(columns.map(([, , was]) => was)))
  return { filled: sink.cut(), bytes }
}

/** The records of all batches, one after the other; where one ends is not what this is about. */
async function recordsOf({ batches }: FilledBatches): Promise<unknown[]> {
  const records: unknown[] = []
  for (const { builder } of batches)
    for (const batch of readBatches(builder.finish(0n), { topic: 't', partition: 0 }))
      for (const { key, value, headers, timestampMs } of await decodeRecords(batch))
        records.push({ key: String(key), value: String(value), headers, timestampMs })
  return records
}

const LARGE: Row = {
  columns: [
    [23, true, '1', '1'],
    [25, false, 'x'.repeat(20_000), 'x'.repeat(20_000)],
  ],
  change: 'insert',
  format: 'evert',
  before: 0,
  spare: 5000,
  maxRecordBytes: undefined,
}

it.each<[string, boolean, Partial<Row>]>([
  ['a batch that fills it', true, {}],
  ['a row whose value is left out', false, { maxRecordBytes: 5000 }],
  [
    'a row whose old values are not written',
    false,
    {
      change: 'update with old row',
      format: 'plain',
      columns: [
        [23, true, '1', '1'],
        [25, false, 'x'.repeat(20_000), NULL],
      ],
    },
  ],
  [
    'a row that is small under its new key',
    false,
    {
      change: 'update with old row',
      columns: [
        [23, true, '1', '2'],
        [25, false, 'x'.repeat(20_000), NULL],
      ],
    },
  ],
])('the buffer is held for %s: %s', (_, held, part) => {
  const { filled, bytes } = write({ ...LARGE, ...part }, true, false)
  expect(filled.batches.some(({ builder }) => builder.buffer === bytes)).toBe(held)
  expect(filled.batches.reduce((sum, { builder }) => sum + builder.buffer.length, 0)).toBeLessThan(
    filled.bytes * 3 + 1024,
  )
})

it('a row that is written into its own buffer becomes the same records as one that is not', async () => {
  const inPlace = new Map<string, number>()
  await fc.assert(
    fc.asyncProperty(row, async (one) => {
      const { filled, bytes } = write(one, true)
      const expected = write(one, false)
      const own = filled.batches.filter(({ builder }) => builder.buffer === bytes)
      inPlace.set(one.change, (inPlace.get(one.change) ?? 0) + own.length)
      expect(expected.filled.batches.some(({ builder }) => builder.buffer === expected.bytes)).toBe(false)
      expect(await recordsOf(filled)).toEqual(await recordsOf(expected.filled))
    }),
    { numRuns: 800 },
  )
  for (const change of CHANGES) expect(inPlace.get(change)).toBeGreaterThan(0)
})
