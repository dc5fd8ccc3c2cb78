/**
 * `npm run bench -- functions`: what each part of the hot path costs by itself, in nanoseconds a row, without servers: to find out what is
 * worth a change, and whether it was one.
 */
import { EVERT } from '../src/event/formats.js'
import { toLsn } from '../src/event/lsn.js'
import type { RecordSink, SinkTopic } from '../src/event/sink.js'
import { compileTable, type CompiledTable } from '../src/event/table.js'
import { Transcoder } from '../src/event/transcoder.js'
import { TEXT, Tuple } from '../src/event/tuple.js'
import { DEFAULT_VALUES } from '../src/event/type-kinds.js'
import { BatchSink } from '../src/log/batch-sink.js'
import { wholeRecords } from '../src/event/whole-records.js'
import { Framer, uint32 } from '../src/postgres/framer.js'
import { PgoutputDecoder } from '../src/postgres/pgoutput.js'

const ROWS = 1000
const ROUNDS = 400

interface Sample {
  readonly name: string
  readonly columns: readonly (readonly [name: string, typeOid: number])[]
  readonly row: (i: number) => readonly (string | null)[]
}

const [INT8, INT4, INT2, FLOAT8, FLOAT4, NUMERIC] = [20, 23, 21, 701, 700, 1700]
const [TEXT_OID, VARCHAR, JSONB, TIMESTAMPTZ, TIMESTAMP, DATE, BOOL, UUID] = [
  25, 1043, 3802, 1184, 1114, 1082, 16, 2950,
]

/** As in workloads.sql. */
const SAMPLES: readonly Sample[] = [
  {
    name: 'narrow',
    columns: [
      ['id', INT8],
      ['a', INT4],
      ['b', TEXT_OID],
      ['ts', TIMESTAMPTZ],
    ],
    row: (i) => [
      String(500_000 + i),
      String((i * 7919) % 1_000_000),
      hex(i, 16),
      `2026-01-07 ${clock(i)}.${i + 100_000}+00`,
    ],
  },
  {
    name: 'wide',
    columns: [
      ['id', INT8],
      ['i1', INT4],
      ['i2', INT4],
      ['i3', INT8],
      ['s1', INT2],
      ['f1', FLOAT8],
      ['f2', FLOAT4],
      ['n1', NUMERIC],
      ['n2', NUMERIC],
      ['t1', TEXT_OID],
      ['t2', VARCHAR],
      ['t3', TEXT_OID],
      ['t4', TEXT_OID],
      ['j1', JSONB],
      ['j2', JSONB],
      ['ts1', TIMESTAMPTZ],
      ['ts2', TIMESTAMP],
      ['d1', DATE],
      ['b1', BOOL],
      ['u1', UUID],
    ],
    row: (i) => [
      String(500_000 + i),
      String((i * 7919) % 100_000),
      String(i),
      String(i * 1_000_003),
      String(i % 30_000),
      String(Math.sqrt(i)),
      String(Math.fround(i / 7)),
      (i * 1.2345).toFixed(4),
      (i / 3).toFixed(2),
      hex(i, 60),
      hex(i + 1, 24),
      `Note ${i} for the customer: leave it at the door, ring twice, and wait for a while. Ref ${hex(i, 20)}`,
      i % 10 === 0 ? `say "hi" \\ naïve café ${i}` : `plain text ${i}`,
      `{"qty": ${i % 17}, "sku": "A-${i}", "tags": ["x", "y", ${i % 5}], "price": ${(i % 1000) / 10}}`,
      `{"v": ${i % 3}}`,
      `2026-01-07 ${clock(i)}.000001+00`,
      `2026-02-01 ${clock(i)}`,
      '2023-05-17',
      i % 2 === 0 ? 't' : 'f',
      `${hex(i, 8)}-0123-4567-89ab-${hex(i, 12)}`,
    ],
  },
]

function hex(i: number, length: number): string {
  return (i * 2_654_435_761).toString(16).padStart(16, '0').repeat(4).slice(0, length)
}

function clock(i: number): string {
  return [Math.floor(i / 3600) % 24, Math.floor(i / 60) % 60, i % 60].map((n) => String(n).padStart(2, '0')).join(':')
}

const TOPIC: SinkTopic = { name: 'bench.public.sample', partitions: 1 }

function tableOf({ name, columns }: Sample): CompiledTable {
  const relation = {
    oid: 16_384,
    schema: 'public',
    table: name,
    replicaIdentity: 'default' as const,
    columns: columns.map(([column, typeOid], i) => ({ name: column, typeOid, typeModifier: -1, key: i === 0 })),
  }
  return compileTable({ relation, topic: TOPIC, types: {}, values: DEFAULT_VALUES, envelope: EVERT })
}

/** XLogData messages with inserts, as the walsender sends them. */
function stream({ row }: Sample): Buffer {
  const messages: Buffer[] = []
  for (let i = 0; i < ROWS; i++) {
    const values = row(i).map((value) => {
      if (value === null) return Buffer.from('n')
      const bytes = Buffer.from(value)
      const head = Buffer.from([TEXT, 0, 0, 0, 0])
      head.writeInt32BE(bytes.length, 1)
      return Buffer.concat([head, bytes])
    })
    const insert = Buffer.from([0x49, 0, 0, 0x40, 0, 0x4e, 0, values.length])
    const head = Buffer.alloc(30)
    head[0] = 0x64
    head[5] = 0x77
    head.writeUInt32BE(0x0a00_0000 + i * 128, 10)
    const body = Buffer.concat([head, insert, ...values])
    body.writeInt32BE(body.length - 1, 1)
    messages.push(body)
  }
  return Buffer.concat(messages)
}

const NOTHING: RecordSink = {
  bytes: 0,
  records: 0,
  topic: () => TOPIC,
  ...wholeRecords(() => undefined),
  appendToAll: () => undefined,
}

const ignored = (): never => {
  throw new Error('there is nothing but inserts')
}

function decode(bytes: Buffer, onRow: (high: number, low: number, row: Tuple) => void): void {
  const decoder = new PgoutputDecoder({
    begin: ignored,
    commit: ignored,
    origin: ignored,
    relation: ignored,
    insert: (_oid, high, low, row) => onRow(high, low, row),
    update: ignored,
    delete: ignored,
    truncate: ignored,
    message: ignored,
  })
  const framer = new Framer((_tag, message, start, end) => {
    decoder.decode(message, start + 25, end, uint32(message, start + 1), uint32(message, start + 5))
  })
  framer.push(bytes)
}

/** As they come out of the framer: in one buffer. */
function tuples(sample: Sample): Tuple[] {
  const rows: Tuple[] = []
  decode(stream(sample), (_high, _low, row) => {
    const tuple = new Tuple()
    tuple.bytes = row.bytes
    tuple.count = row.count
    tuple.size = row.size
    tuple.state.set(row.state)
    tuple.start.set(row.start)
    tuple.end.set(row.end)
    rows.push(tuple)
  })
  return rows
}

function begun(sink: RecordSink): Transcoder {
  const transcoder = new Transcoder(sink, EVERT, { omit: false, onSkip: ignored })
  transcoder.begin({ commitLsn: toLsn(0x16c_5348n), timeUs: 1_772_366_400_123_456n, xid: 755, snapshot: false })
  return transcoder
}

/** The quickest of many rounds: what it costs where nothing else is done. */
function nanoseconds(round: () => void): number {
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < ROUNDS; i++) {
    const started = process.hrtime.bigint()
    round()
    best = Math.min(best, Number(process.hrtime.bigint() - started))
  }
  return best / ROWS
}

export function functions(): void {
  process.stdout.write('| what | narrow ns/row | wide ns/row |\n|---|---|---|\n')
  const parts: Readonly<Record<string, (sample: Sample) => () => void>> = {
    'framing and decoding pgoutput': (sample) => {
      const bytes = stream(sample)
      return () => decode(bytes, () => undefined)
    },
    'the event, into nothing': (sample) => {
      const [table, rows] = [tableOf(sample), tuples(sample)]
      return () => {
        const transcoder = begun(NOTHING)
        for (const row of rows) transcoder.insert(table, 0, 0x0a00_0000, row)
      }
    },
    'the event, into its record batch': (sample) => {
      const [table, rows, sink] = [tableOf(sample), tuples(sample), new BatchSink({ lookup: () => TOPIC })]
      const topic = sink.topic({ name: TOPIC.name, keyed: true }) as SinkTopic
      return () => {
        const transcoder = begun(sink)
        const into = { ...table, topic }
        for (const row of rows) transcoder.insert(into, 0, 0x0a00_0000, row)
        sink.cut().release()
      }
    },
    'the same, each in a transaction of its own': (sample) => {
      const [table, rows, sink] = [tableOf(sample), tuples(sample), new BatchSink({ lookup: () => TOPIC })]
      const topic = sink.topic({ name: TOPIC.name, keyed: true }) as SinkTopic
      let [commitLsn, timeUs] = [0x16c_5348n, 1_772_366_400_123_456n]
      return () => {
        const transcoder = begun(sink)
        const into = { ...table, topic }
        for (const row of rows) {
          commitLsn += 100n
          timeUs += 100n
          transcoder.begin({ commitLsn: toLsn(commitLsn), timeUs, xid: 755, snapshot: false })
          transcoder.insert(into, 0, 0x0a00_0000, row)
        }
        sink.cut().release()
      }
    },
    'all of it, and the batch made ready': (sample) => {
      const [table, bytes, sink] = [tableOf(sample), stream(sample), new BatchSink({ lookup: () => TOPIC })]
      const topic = sink.topic({ name: TOPIC.name, keyed: true }) as SinkTopic
      const into = { ...table, topic }
      return () => {
        const transcoder = begun(sink)
        decode(bytes, (high, low, row) => transcoder.insert(into, high, low, row))
        const filled = sink.cut()
        for (const { builder } of filled.batches) builder.finish(0n)
        filled.release()
      }
    },
  }
  for (const [name, part] of Object.entries(parts)) {
    const cells = SAMPLES.map((sample) => Math.round(nanoseconds(part(sample))))
    process.stdout.write(`| ${name} | ${cells.join(' | ')} |\n`)
  }
}
