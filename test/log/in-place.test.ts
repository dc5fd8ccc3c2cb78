/** Records whose values are written where they stay, against copies of the same records that were whole before. */
import fc from 'fast-check'
import type { SinkTopic } from '../../src/event/sink.js'
import { BatchSink, type FilledBatches } from '../../src/log/batch-sink.js'
import { BufferPool } from '../../src/log/buffer-pool.js'
import { partitionOf } from '../../src/log/murmur2.js'
import { BatchBuilder } from '../../src/log/record-batch.js'
import { type PlainRecord, encode } from './records.js'

const PARTITIONS = 3
/** Larger than what any of these tests appends. */
const NO_LIMIT = 1 << 30

interface InPlace {
  readonly record: PlainRecord
  /** What its encoder asks for beyond what it turns out to need. */
  readonly spareBytes: number
}

/** Where the varint of a value's length takes one byte more, and, some bytes of key and headers before that, the record's. */
const nearBorder = fc
  .tuple(fc.constantFrom(64, 8192), fc.integer({ min: -60, max: 2 }))
  .map(([border, distance]) => border + distance)
const valueBytes = fc.oneof(
  { weight: 6, arbitrary: nearBorder },
  { weight: 3, arbitrary: fc.nat(300) },
  { weight: 1, arbitrary: fc.integer({ min: 1_048_500, max: 1_048_577 }) },
)
const spareBytes = fc.oneof(fc.nat(3), fc.nat(130), fc.constantFrom(8191, 8192, 8192, 1_048_576))

const value = fc.tuple(valueBytes, fc.nat(255)).map(([length, byte]) => Buffer.alloc(length, byte))
const shortBytes = fc.uint8Array({ maxLength: 70 }).map((array) => Buffer.from(array))
const record: fc.Arbitrary<PlainRecord> = fc.record({
  key: fc.option(shortBytes),
  value: fc.option(value, { freq: 6 }),
  timestampMs: fc.integer({ min: 1_700_000_000_000, max: 1_700_000_100_000 }),
  headers: fc.array(fc.record({ key: fc.string({ unit: 'grapheme', maxLength: 5 }), value: shortBytes }), {
    maxLength: 2,
  }),
})
const inPlace: fc.Arbitrary<InPlace> = fc.record({ record, spareBytes })

/** As the encoder asks: before there is a value. */
const withoutValue = ({ key, timestampMs, headers = [] }: PlainRecord): ReturnType<typeof encode> =>
  encode({ key, value: null, timestampMs, ...(headers.length === 0 ? {} : { headers }) })

const wantedBytes = ({ record: { value: of }, spareBytes: spare }: InPlace): number =>
  of === null ? -1 : of.length + spare

/** Writes over all the room that there is, as an encoder may, and then the value; says where it ends. */
function fill(buffer: Buffer, start: number, one: InPlace): number {
  if (one.record.value === null) return start
  buffer.fill(0xee, start, start + wantedBytes(one))
  return start + one.record.value.copy(buffer, start)
}

function copied(records: readonly PlainRecord[]): BatchBuilder {
  const builder = new BatchBuilder({ pool: new BufferPool(), maxBytes: NO_LIMIT })
  for (const { headers = [], ...rest } of records) {
    expect(builder.append(encode(headers.length === 0 ? rest : { ...rest, headers }))).toBe(true)
  }
  return builder
}

describe('a record batch that is written in place', () => {
  it('is byte for byte what copies make, however much room was asked for and whatever was given up', () => {
    const steps = fc.array(fc.record({ one: inPlace, givenUp: fc.array(inPlace, { maxLength: 2 }) }), {
      minLength: 1,
      maxLength: 12,
    })
    fc.assert(
      fc.property(steps, (records) => {
        const builder = new BatchBuilder({ pool: new BufferPool(), maxBytes: NO_LIMIT })
        for (const { one, givenUp } of records) {
          const bytes = builder.bytes
          for (const other of givenUp) {
            const start = builder.open(withoutValue(other.record), wantedBytes(other))
            fill(builder.buffer, start, other)
          }
          // Nothing counts before it is closed.
          expect(builder.bytes).toBe(bytes)
          const start = builder.open(withoutValue(one.record), wantedBytes(one))
          builder.close(fill(builder.buffer, start, one))
        }
        const expected = copied(records.map(({ one }) => one.record))
        expect(builder.count).toBe(expected.count)
        expect(builder.maxTimestampMs).toBe(expected.maxTimestampMs)
        expect(builder.finish(0n).equals(expected.finish(0n))).toBe(true)
      }),
      { numRuns: 150 },
    )
  })
})

type Way = 'append' | 'append to all' | 'in place' | 'given up'

interface Step extends InPlace {
  readonly way: Way
  readonly topic: number
}

/** Each batch holds the next records of its partition, as copies make them; afterwards no record is left. */
function expectFilled(filled: FilledBatches, due: Map<string, PlainRecord[]>, maxBatchBytes: number): void {
  const batches = filled.batches.map(({ topic, partition, builder }) => {
    const records = due.get(`${topic}/${partition}`)!.splice(0, builder.count)
    expect(builder.finish(0n).equals(copied(records).finish(0n))).toBe(true)
    expect(builder.bytes <= maxBatchBytes || builder.count === 1).toBe(true)
    return builder
  })
  expect([...due.values()].flat()).toEqual([])
  expect(filled.records).toBe(batches.reduce((sum, { count }) => sum + count, 0))
  expect(filled.bytes).toBe(batches.reduce((sum, { bytes }) => sum + bytes, 0))
}

describe('a sink that is written in place', () => {
  const step: fc.Arbitrary<Step> = fc.record({
    record,
    spareBytes,
    way: fc.constantFrom<Way>('append', 'append to all', 'in place', 'in place', 'given up'),
    topic: fc.nat(1),
  })
  const rounds = fc.array(fc.array(step, { maxLength: 15 }), { minLength: 1, maxLength: 3 })

  it('holds each partition its records in order, as copies make them, and nothing that was given up', () => {
    fc.assert(
      fc.property(rounds, fc.constantFrom(700, 20_000, 2_000_000), (steps, maxBatchBytes) => {
        const lookup = ({ name }: { readonly name: string }): SinkTopic => ({ name, partitions: PARTITIONS })
        const sink = new BatchSink({ lookup, maxBatchBytes })
        const topics = ['a', 'b'].map((name) => sink.topic({ name, keyed: false }) as SinkTopic)
        for (const round of steps) {
          const due = new Map<string, PlainRecord[]>()
          for (const one of round) {
            const topic = topics[one.topic]!
            take(sink, topic, one)
            for (const partition of partitionsOf(one)) {
              const name = `${topic.name}/${partition}`
              due.set(name, [...(due.get(name) ?? []), one.record])
            }
          }
          const filled = sink.cut()
          expectFilled(filled, due, maxBatchBytes)
          // What is given back is taken for the next round, with all that stands in it.
          filled.release()
        }
      }),
      { numRuns: 150 },
    )
  })
})

function take(sink: BatchSink, topic: SinkTopic, step: Step): void {
  const { record: whole, way } = step
  if (way === 'append') sink.append(topic, encode(whole))
  else if (way === 'append to all') sink.appendToAll(topic, encode(whole))
  else {
    const room = sink.open(topic, withoutValue(whole), wantedBytes(step))
    const end = fill(room.bytes, room.start, step)
    if (way === 'in place') sink.close(end)
  }
}

function partitionsOf({ way, record: { key } }: Step): readonly number[] {
  if (way === 'given up') return []
  if (way === 'append to all') return Array.from({ length: PARTITIONS }, (_, partition) => partition)
  return [key === null ? 0 : partitionOf(key, 0, key.length, PARTITIONS)]
}
