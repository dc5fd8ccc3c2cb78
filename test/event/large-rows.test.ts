/** What is left out of an event that is larger than its topic takes, and what is not. */
import type { LargeValues } from '../../src/event/transcoder.js'
import { envelope } from '../../src/event/formats.js'
import { LSN_ZERO, toLsn } from '../../src/event/lsn.js'
import { compileTable } from '../../src/event/table.js'
import { Transcoder } from '../../src/event/transcoder.js'
import { NULL } from '../../src/event/tuple.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import { BatchSink } from '../../src/log/batch-sink.js'
import { decodeRecords, readBatches } from '../../src/log/read-batch.js'
import { type Cell, relationOf, tupleOf } from '../support/tuples.js'

const LIMIT = 10_000
const BYTEA = 17
const TEXT_OID = 25

interface Told {
  readonly op: string
  readonly before: Record<string, string | null> | null
  readonly after: Record<string, string | null>
  readonly omitted?: readonly string[]
}

/** Of a table with REPLICA IDENTITY FULL: a key, and values of those types. */
async function update(
  types: readonly number[],
  [old, row]: readonly (readonly Cell[])[],
  largeValues: LargeValues = { omit: true, onSkip: () => undefined },
): Promise<{ readonly events: readonly Told[]; readonly largestBatch: number; readonly mostReserved: number }> {
  const topic = { name: 't', partitions: 1, maxRecordBytes: LIMIT }
  const sink = new BatchSink({ lookup: () => topic })
  const form = envelope('evert', { pipeline: '', database: '', version: '' })
  const table = compileTable({
    relation: relationOf([
      { name: 'id', typeOid: TEXT_OID, key: true },
      ...types.map((typeOid, i) => ({ name: `v${i}`, typeOid, key: false })),
    ]),
    topic: await sink.topic({ name: 't', keyed: true }),
    types: {},
    values: DEFAULT_VALUES,
    envelope: form,
  })
  let mostReserved = 0
  const open = sink.open.bind(sink)
  sink.open = (to, record, bytes) => {
    mostReserved = Math.max(mostReserved, bytes)
    return open(to, record, bytes)
  }
  const transcoder = new Transcoder(sink, form, largeValues, LSN_ZERO)
  transcoder.begin({ commitLsn: toLsn(1000n), timeUs: 0n, xid: 1, snapshot: false })
  transcoder.update(table, 0, 900, tupleOf(row!), tupleOf(old!), 'full')
  const events: Told[] = []
  const filled = sink.cut()
  for (const { builder } of filled.batches)
    for (const batch of readBatches(builder.finish(0n), { topic: 't', partition: 0 }))
      for (const { value } of await decodeRecords(batch)) events.push(JSON.parse(String(value)) as Told)
  const largestBatch = Math.max(0, ...filled.batches.map(({ builder }) => builder.bytes))
  return { events, largestBatch, mostReserved }
}

const x = (length: number): string => 'x'.repeat(length)
/** So many bytes, which take two thirds of these characters in base64. */
const hex = (bytes: number): string => `\\x${'00'.repeat(bytes)}`

describe('an update whose event is too large', () => {
  it.each([
    ['a text, which no event can hold', [TEXT_OID], x(12_000), 'small', 'small'],
    ['a text, which became null', [TEXT_OID], x(12_000), NULL, null],
    ['bytes, whose size is known when they are written', [BYTEA], hex(7000), '\\x01', 'AQ=='],
  ])('has the new value where the old one was large: %s', async (_, types, old, value, shown) => {
    const { events, mostReserved } = await update(types, [
      ['1', old],
      ['1', value as Cell],
    ])
    expect(events).toEqual([
      expect.objectContaining({ before: { id: '1' }, after: { id: '1', v0: shown }, omitted: ['v0'] }),
    ])
    // A text of which that is known is not reckoned with.
    if (types[0] === TEXT_OID) expect(mostReserved).toBeLessThan(LIMIT)
  })

  it('goes without an old value that is longer in JSON than in Postgres, where nothing is left of the new one', async () => {
    const key = x(2000)
    const { events } = await update(
      [TEXT_OID],
      [
        [key, '\u0001'.repeat(700)],
        [key, NULL],
      ],
    )
    expect(events).toEqual([
      expect.objectContaining({ before: { id: key }, after: { id: key, v0: null }, omitted: ['v0'] }),
    ])
  })

  it('goes without old values rather than new ones, though the new ones are larger', async () => {
    const { events } = await update(
      [TEXT_OID, TEXT_OID],
      [
        ['1', x(3000), 'b'],
        ['1', x(8000), 'c'],
      ],
    )
    expect(events).toEqual([
      expect.objectContaining({
        before: { id: '1', v1: 'b' },
        after: { id: '1', v0: x(8000), v1: 'c' },
        omitted: ['v0'],
      }),
    ])
  })

  it('goes without the old value also where both are longer in JSON than in Postgres', async () => {
    const quotes = '"a", '.repeat(1200)
    const { events } = await update(
      [TEXT_OID],
      [
        ['1', `${quotes}old`],
        ['1', `${quotes}new`],
      ],
    )
    expect(events).toEqual([
      expect.objectContaining({ before: { id: '1' }, after: { id: '1', v0: `${quotes}new` }, omitted: ['v0'] }),
    ])
  })

  it('goes without new values where the old ones are not what is large, and keeps those', async () => {
    const { events } = await update(
      [BYTEA, TEXT_OID],
      [
        ['1', '\\x01', 'b'],
        ['1', hex(8000), 'c'],
      ],
    )
    expect(events).toEqual([
      expect.objectContaining({
        before: { id: '1', v0: 'AQ==', v1: 'b' },
        after: { id: '1', v1: 'c' },
        omitted: ['v0'],
      }),
    ])
  })

  it('goes without both where both are too large', async () => {
    const { events } = await update(
      [BYTEA],
      [
        ['1', hex(8000)],
        ['1', hex(9000)],
      ],
    )
    expect(events).toEqual([expect.objectContaining({ before: { id: '1' }, after: { id: '1' }, omitted: ['v0'] })])
  })

  it('is told of where nothing is left but a key that is too large', async () => {
    const skipped: number[] = []
    const largeValues = { omit: true, onSkip: ({ bytes }: { bytes: number }) => void skipped.push(bytes) }
    const { events } = await update(
      [TEXT_OID],
      [
        [x(9500), 'a'],
        [x(9500), 'b'],
      ],
      largeValues,
    )
    expect(events).toEqual([])
    expect(skipped).toEqual([expect.any(Number)])
  })
})

it('counts the headers of a record, too: each key of a change names the other', async () => {
  for (const length of [3000, 3500, 4000, 4300, 4600]) {
    const keys = ['a', 'b'].map((end) => `${x(2000)}${end}`)
    // A delete with the old row, its tombstone, and an insert.
    const { events, largestBatch } = await update(
      [TEXT_OID],
      keys.map((key) => [key, x(length)]),
    )
    expect(events).toHaveLength(3)
    expect(largestBatch).toBeLessThanOrEqual(LIMIT)
  }
})
