/** The sink: which batch a record lands in, what a cut takes, and what memory stays. */
import { BatchSink, type FilledBatches } from '../../src/log/batch-sink.js'
import { BufferPool } from '../../src/log/buffer-pool.js'
import { decodeRecords, readBatches } from '../../src/log/read-batch.js'
import type { TopicRequest } from '../../src/event/sink.js'
import { encode, event } from './records.js'

const lookup = ({ name }: TopicRequest): { name: string; partitions: number } => ({ name, partitions: 6 })

async function contents(filled: FilledBatches): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {}
  for (const { topic, partition, builder } of filled.batches) {
    const values = (found[`${topic}/${partition}`] ??= [])
    for (const batch of readBatches(builder.finish(0n), { topic, partition })) {
      for (const record of await decodeRecords(batch)) values.push(String(record.value))
    }
  }
  return found
}

describe('the sink of record batches', () => {
  it('counts bytes and records since the last cut, and goes on empty', async () => {
    const sink = new BatchSink({ lookup })
    const topic = await sink.topic({ name: 'a', keyed: true })
    expect([sink.bytes, sink.records]).toEqual([0, 0])
    sink.append(topic, encode(event('k', 'one')))
    sink.appendToAll(topic, encode(event('k', 'two')))
    const filled = sink.cut()
    expect(filled.records).toBe(7)
    expect(filled.bytes).toBe(filled.batches.reduce((sum, { builder }) => sum + builder.bytes, 0))
    expect([sink.bytes, sink.records]).toEqual([0, 0])
    expect(sink.cut().batches).toEqual([])
  })

  it('keeps what was cut as it was while it is filled again', async () => {
    const sink = new BatchSink({ lookup })
    const topic = await sink.topic({ name: 'a', keyed: false })
    sink.append(topic, encode(event(null, 'first')))
    const first = sink.cut()
    sink.append(topic, encode(event(null, 'second')))
    const second = sink.cut()
    expect(await contents(first)).toEqual({ 'a/0': ['first'] })
    expect(await contents(second)).toEqual({ 'a/0': ['second'] })
  })

  it('opens another batch where one is full, in order, and gives a huge record one of its own', async () => {
    const sink = new BatchSink({ lookup, maxBatchBytes: 1000 })
    const topic = await sink.topic({ name: 'a', keyed: false })
    const values = ['a'.repeat(400), 'b'.repeat(400), 'c'.repeat(400), 'd'.repeat(5000), 'e']
    for (const value of values) sink.append(topic, encode(event(null, value)))
    const filled = sink.cut()
    expect(filled.batches.map(({ builder }) => builder.count)).toEqual([2, 1, 1, 1])
    expect(filled.batches.every(({ builder }) => builder.bytes <= 1000 || builder.count === 1)).toBe(true)
    expect(await contents(filled)).toEqual({ 'a/0': values })
  })

  it('fills no batch beyond what its topic takes, where that is known', async () => {
    const sink = new BatchSink({ lookup: (request) => ({ ...lookup(request), maxRecordBytes: 1000 }) })
    const topic = await sink.topic({ name: 'a', keyed: false })
    for (let i = 0; i < 10; i++) sink.append(topic, encode(event(null, 'a'.repeat(400))))
    expect(sink.cut().batches.map(({ builder }) => builder.count)).toEqual([2, 2, 2, 2, 2])
  })

  it('gives the buffer of a record that was forgotten back when it is cut', async () => {
    const pool = new BufferPool()
    const sink = new BatchSink({ lookup, pool })
    const topic = await sink.topic({ name: 'a', keyed: false })
    sink.open(topic, encode(event(null, null)), 900_000)
    expect(sink.cut().batches).toEqual([])
    expect(pool.keptBytes).toBeGreaterThanOrEqual(900_000)
    sink.append(topic, encode(event(null, 'next')))
    expect(await contents(sink.cut())).toEqual({ 'a/0': ['next'] })
  })

  it('asks for a topic once, and once more when records without a key turn up', async () => {
    const asked: TopicRequest[] = []
    const sink = new BatchSink({
      lookup: async (request) => {
        asked.push(request)
        return lookup(request)
      },
    })
    const one = await sink.topic({ name: 'a', keyed: true })
    expect(sink.topic({ name: 'a', keyed: true })).toBe(one)
    expect(await sink.topic({ name: 'a', keyed: false })).toBe(one)
    expect(sink.topic({ name: 'a', keyed: false })).toBe(one)
    expect(asked).toEqual([
      { name: 'a', keyed: true },
      { name: 'a', keyed: false },
    ])
  })

  it('gives one object for a topic that two ask for at once, or its order would be lost', async () => {
    const sink = new BatchSink({ lookup: async (request) => lookup(request) })
    const request = { name: 'a', keyed: true }
    const [one, two] = await Promise.all([sink.topic(request), sink.topic(request)])
    expect(two).toBe(one)
  })

  it('asks again for a topic whose lookup failed', async () => {
    let fails = true
    const sink = new BatchSink({
      lookup: async (request) => {
        if (fails) throw new Error('no leader')
        return lookup(request)
      },
    })
    await expect(sink.topic({ name: 'a', keyed: true })).rejects.toThrow('no leader')
    fails = false
    expect(await sink.topic({ name: 'a', keyed: true })).toMatchObject({ name: 'a', partitions: 6 })
  })

  it('spends half a kilobyte on a partition with a short row, and gives it back', async () => {
    const pool = new BufferPool()
    const sink = new BatchSink({ lookup, pool })
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 2000; i++) {
      sink.appendToAll(await sink.topic({ name: `topic ${i}`, keyed: true }), encode(event('k', 'a short row')))
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(12_000 * 1024)
    const filled = sink.cut()
    filled.release()
    filled.release()
    expect(pool.keptBytes).toBe(12_000 * 512)
  })

  it('takes its buffers again, and keeps none of a huge record', async () => {
    const pool = new BufferPool()
    const sink = new BatchSink({ lookup, pool })
    const topic = await sink.topic({ name: 'a', keyed: false })
    const fill = (): void => {
      for (let i = 0; i < 3000; i++) sink.append(topic, encode(event(null, 'x'.repeat(1000))))
      sink.cut().release()
    }
    fill()
    const kept = pool.keptBytes
    for (let round = 0; round < 5; round++) fill()
    expect(pool.keptBytes).toBe(kept)
    sink.append(topic, encode(event(null, 'x'.repeat(30_000_000))))
    sink.cut().release()
    expect(pool.keptBytes).toBeLessThanOrEqual(kept + (2 << 20))
  })

  it('keeps no more than a bound in its pool, however much was in use at once', async () => {
    const pool = new BufferPool()
    const sink = new BatchSink({ lookup, pool })
    const topic = await sink.topic({ name: 'a', keyed: false })
    for (let i = 0; i < 60; i++) sink.append(topic, encode(event(null, 'x'.repeat(900_000))))
    sink.cut().release()
    expect(pool.keptBytes).toBeLessThanOrEqual(16 << 20)
  })
})
