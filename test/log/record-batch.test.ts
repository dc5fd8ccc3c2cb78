/** Record batches: what the builder writes, an independent decoder (kafkajs) and ours read back alike. */
import fc from 'fast-check'
import { createRequire } from 'node:module'
import type { RecordHeader } from '../../src/event/sink.js'
import { BufferPool } from '../../src/log/buffer-pool.js'
import { type Compression, loadCodec } from '../../src/log/compression.js'
import { murmur2, partitionOf } from '../../src/log/murmur2.js'
import { decodeRecords, readBatches } from '../../src/log/read-batch.js'
import { BATCH_HEADER_BYTES, BatchBuilder, FIELD } from '../../src/log/record-batch.js'
import { crc32c } from '@node-rs/crc32'
import { type PlainRecord, encode, event } from './records.js'

interface KafkaJsRecord {
  readonly offset: string
  readonly timestamp: string
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Record<string, Buffer | Buffer[]>
}
interface KafkaJsBatch {
  readonly producerId: string
  readonly producerEpoch: number
  readonly firstSequence: number
  readonly inTransaction: boolean
  readonly maxTimestamp: string
  readonly lastOffsetDelta: number
  readonly records: readonly KafkaJsRecord[]
}
const require = createRequire(import.meta.url)
const KafkaJsDecoder = require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => object
const kafkaJsBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder') as (
  decoder: object,
) => Promise<KafkaJsBatch>
const kafkaJsMurmur2 = require('kafkajs/src/producer/partitioners/default/murmur2') as (key: Buffer) => number

const origin = { topic: 'shop.public.cart', partition: 3 }

function build(records: readonly PlainRecord[], maxBytes = 1_000_000): BatchBuilder {
  const builder = new BatchBuilder({ pool: new BufferPool(), maxBytes })
  for (const record of records) expect(builder.append(encode(record))).toBe(true)
  return builder
}

/** Text instead of buffers, which jest compares a hundred times slower. */
interface ShownRecord {
  readonly key: string | undefined
  readonly value: string | undefined
  readonly timestampMs: number
  readonly headers: readonly { readonly key: string; readonly value: string }[]
}

function show({ key, value, timestampMs, headers = [] }: PlainRecord): ShownRecord {
  return {
    key: key?.toString('latin1'),
    value: value?.toString('latin1'),
    timestampMs,
    headers: headers.map((header) => ({ key: header.key, value: header.value.toString('latin1') })),
  }
}

async function decode(bytes: Buffer): Promise<ShownRecord[]> {
  const decoded: ShownRecord[] = []
  for (const batch of readBatches(bytes, origin)) decoded.push(...(await decodeRecords(batch)).map(show))
  return decoded
}

const bytesOf = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array))
const header: fc.Arbitrary<RecordHeader> = fc.record({ key: fc.string({ unit: 'grapheme' }), value: bytesOf(100) })
const record: fc.Arbitrary<PlainRecord> = fc.record({
  key: fc.option(bytesOf(200)),
  value: fc.option(bytesOf(300)),
  timestampMs: fc.oneof(fc.integer({ min: 1_700_000_000_000, max: 1_700_000_100_000 }), fc.nat(4_000_000_000_000)),
  headers: fc.array(header, { maxLength: 3 }),
})

describe('a record batch', () => {
  it('is read back as it was appended, whatever keys, values, timestamps and headers it holds', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 200 }), async (records) => {
        expect(await decode(build(records).finish(0n))).toEqual(records.map(show))
      }),
      { numRuns: 300 },
    )
  })

  it('is read by kafkajs as it was appended', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 50 }), async (records) => {
        const batch = await kafkaJsBatch(new KafkaJsDecoder(Buffer.from(build(records).finish(1000n))))
        expect(batch.lastOffsetDelta).toBe(records.length - 1)
        expect(Number(batch.maxTimestamp)).toBe(Math.max(...records.map(({ timestampMs }) => timestampMs)))
        batch.records.forEach((read, i) => {
          const written = records[i]!
          expect(read.offset).toBe(String(1000 + i))
          expect(Number(read.timestamp)).toBe(written.timestampMs)
          expect(read.key).toEqual(written.key)
          expect(read.value).toEqual(written.value)
          expect(new Set(Object.keys(read.headers))).toEqual(new Set(written.headers!.map(({ key }) => key)))
        })
      }),
    )
  })

  it('carries the stamp of a transactional producer', async () => {
    const bytes = build([event('k', 'v'), event('k', null)]).stamp({
      producerId: 2n ** 40n + 5n,
      producerEpoch: 300,
      baseSequence: 2_147_483_000,
      transactional: true,
    })
    const batch = await kafkaJsBatch(new KafkaJsDecoder(Buffer.from(bytes)))
    expect(batch).toMatchObject({
      producerId: '1099511627781',
      producerEpoch: 300,
      firstSequence: 2_147_483_000,
      inTransaction: true,
    })
    const [ours] = readBatches(bytes, origin)
    expect(ours).toMatchObject({
      producerId: 2n ** 40n + 5n,
      producerEpoch: 300,
      isTransactional: true,
      isControl: false,
    })
  })

  it('has the stored base offset without a change of its checksum', () => {
    const builder = build([event('k', 'v'), event('k', 'w')])
    const [batch] = readBatches(builder.finish(2n ** 53n), origin)
    expect(batch).toMatchObject({ baseOffset: 2n ** 53n, lastOffset: 2n ** 53n + 1n, count: 2, producerId: -1n })
  })

  it('refuses a record beyond its limit and is unchanged by it', async () => {
    const builder = build([event('k', 'x'.repeat(500))], 1000)
    const bytes = builder.bytes
    expect(builder.append(encode(event('k', 'y'.repeat(500))))).toBe(false)
    expect(builder.bytes).toBe(bytes)
    expect(builder.append(encode(event('k', 'z')))).toBe(true)
    expect((await decode(builder.finish(0n))).map(({ value }) => value)).toEqual(['x'.repeat(500), 'z'])
  })

  it('fills up to its limit to the byte', () => {
    const room = 1000 - build([event('k', 'x'.repeat(500))], 1000).bytes
    const sizeOf = (length: number): number =>
      build([event('k', 'x'.repeat(500)), event('k', 'y'.repeat(length))]).bytes
    let length = room
    while (sizeOf(length) > 1000) length -= 1
    const fits = build([event('k', 'x'.repeat(500))], 1000)
    expect(fits.append(encode(event('k', 'y'.repeat(length))))).toBe(true)
    expect(fits.bytes).toBe(1000)
    const tooLong = build([event('k', 'x'.repeat(500))], 1000)
    expect(tooLong.append(encode(event('k', 'y'.repeat(length + 1))))).toBe(false)
  })

  it('takes a record that is larger than its limit alone', async () => {
    const huge = event('k', 'x'.repeat(3_000_000))
    const builder = build([huge], 1000)
    expect(builder.append(encode(event('k', 'y')))).toBe(false)
    expect(await decode(builder.finish(0n))).toEqual([show(huge)])
  })

  const library = loadCodec('zstd').then(
    () => true,
    () => false,
  )
  it.each<Compression>(['none', 'gzip', 'snappy', 'lz4', 'zstd'])('is compressed by %s and read back', async (name) => {
    if (name === 'zstd' && !(await library)) {
      await expect(loadCodec('zstd')).rejects.toMatchObject({ code: 'COMPRESSION_MISSING' })
      return
    }
    const records = Array.from({ length: 2000 }, (_, i) => event(`key ${i}`, `{"a":${i},"b":"the same again"}`))
    const builder = build(records)
    const bytes = builder.bytes
    await builder.compress(await loadCodec(name))
    if (name === 'none') expect(builder.bytes).toBe(bytes)
    else expect(builder.bytes).toBeLessThan(bytes / 2)
    expect(await decode(builder.finish(0n))).toEqual(records.map(show))
  })

  it('is read by kafkajs when compressed by gzip', async () => {
    const builder = build([event('k', 'v'.repeat(1000))])
    await builder.compress(await loadCodec('gzip'))
    const batch = await kafkaJsBatch(new KafkaJsDecoder(Buffer.from(builder.finish(0n))))
    expect(batch.records[0]?.value?.toString()).toBe('v'.repeat(1000))
  })

  it('is read when compressed by snappy in blocks, as Java does it', async () => {
    const builder = build([event('k', 'v'.repeat(1000)), event('k', 'w'.repeat(1000))])
    const section = Buffer.from(builder.finish(0n).subarray(BATCH_HEADER_BYTES))
    const codec = await loadCodec('snappy')
    const blocks: Buffer[] = [Buffer.from('82534e41505059000000000100000001', 'hex')]
    for (const part of [section.subarray(0, 700), section.subarray(700)]) {
      const block = await codec.compress(part)
      const length = Buffer.alloc(4)
      length.writeInt32BE(block.length)
      blocks.push(length, block)
    }
    expect(await codec.decompress(Buffer.concat(blocks))).toEqual(section)
  })
})

describe('a range of batches', () => {
  const first = Buffer.from(build([event('a', '1'), event('b', '2')]).finish(10n))
  const second = Buffer.from(build([event('c', '3')]).finish(12n))
  const range = Buffer.concat([first, second])

  it('is read batch by batch', () => {
    const batches = [...readBatches(range, origin)]
    expect(batches.map(({ baseOffset, lastOffset }) => [baseOffset, lastOffset])).toEqual([
      [10n, 11n],
      [12n, 12n],
    ])
  })

  it('may end anywhere within a batch, which is then left out', () => {
    for (let end = 0; end < range.length; end++) {
      const batches = [...readBatches(range.subarray(0, end), origin)]
      expect(batches.length).toBe(end < first.length ? 0 : 1)
    }
  })

  it('fails naming topic, partition and offset where a byte under the checksum was changed', () => {
    const damaged = Buffer.from(range)
    damaged[first.length + 65] = damaged[first.length + 65]! ^ 1
    expect(() => [...readBatches(damaged, origin)]).toThrow(
      expect.objectContaining({
        code: 'LOG_PROTOCOL',
        message: expect.stringContaining('offset 12 of topic "shop.public.cart" partition 3'),
      }),
    )
  })

  it('fails on batches of an older format and on lengths that cannot be', () => {
    const old = Buffer.from(first)
    old[FIELD.magic] = 1
    expect(() => [...readBatches(old, origin)]).toThrow(expect.objectContaining({ code: 'LOG_PROTOCOL' }))
    const short = Buffer.from(first)
    short.writeInt32BE(3, FIELD.length)
    expect(() => [...readBatches(short, origin)]).toThrow(expect.objectContaining({ code: 'LOG_PROTOCOL' }))
  })

  it('fails with the right error, and no other, on records that cannot be, under a correct checksum', async () => {
    const whole = Buffer.from(build([event('key', 'value'), event(null, null)]).finish(5n))
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 57, max: whole.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, flip) => {
          const damaged = Buffer.from(whole)
          damaged[at] = damaged[at]! ^ flip
          damaged.writeUInt32BE(crc32c(damaged.subarray(FIELD.attributes)), FIELD.crc)
          await decode(damaged).catch((error: unknown) => expect(error).toMatchObject({ code: 'LOG_PROTOCOL' }))
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('knows control batches as aborts and commits, without records for a consumer', async () => {
    for (const [type, control] of [
      [0, 'abort'],
      [1, 'commit'],
      [2, null],
    ] as const) {
      const key = Buffer.from([0, 0, 0, type])
      const bytes = Buffer.from(build([{ key, value: Buffer.alloc(6), timestampMs: 1 }]).finish(7n))
      bytes.writeInt16BE(0x30, FIELD.attributes)
      bytes.writeUInt32BE(crc32c(bytes.subarray(FIELD.attributes)), FIELD.crc)
      const [batch] = readBatches(bytes, origin)
      expect(batch).toMatchObject({ isControl: true, isTransactional: true, control })
      expect(await decodeRecords(batch!)).toEqual([])
    }
  })

  it('gives records the append time where the topic is set so', async () => {
    const bytes = Buffer.from(build([{ key: null, value: null, timestampMs: 1 }]).finish(0n))
    bytes.writeInt16BE(0x08, FIELD.attributes)
    bytes.writeBigInt64BE(99n, FIELD.maxTimestamp)
    bytes.writeUInt32BE(crc32c(bytes.subarray(FIELD.attributes)), FIELD.crc)
    expect((await decode(bytes))[0]?.timestampMs).toBe(99)
  })
})

describe('murmur2', () => {
  it.each([
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ])('of %s is what Java says', (key, hash) => {
    const bytes = Buffer.from(key)
    expect(murmur2(bytes, 0, bytes.length)).toBe(hash)
  })

  it('chooses the partition that kafkajs chooses, for any bytes anywhere in a buffer', () => {
    fc.assert(
      fc.property(bytesOf(64), fc.nat(9), fc.integer({ min: 1, max: 50 }), (key, start, partitions) => {
        const bytes = Buffer.concat([Buffer.alloc(start, 1), key, Buffer.alloc(3, 2)])
        const expected = (kafkaJsMurmur2(key) & 0x7fffffff) % partitions
        expect(partitionOf(bytes, start, start + key.length, partitions)).toBe(expected)
      }),
    )
  })
})
