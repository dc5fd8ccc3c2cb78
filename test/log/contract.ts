/**
 * What every log keeps, as a suite for each implementation to run. It assumes no more than the contract says: offsets may have
 * gaps, and a commit may become visible a moment after its append has returned, which is why each test waits for a last record.
 */
import { randomUUID } from 'node:crypto'
import type { Compression } from '../../src/log/compression.js'
import type { Log, LogRecord, LogWriter } from '../../src/log/log.js'
import { partitionOf } from '../../src/log/murmur2.js'
import { type PlainRecord, encode, event } from './records.js'

/** How many partitions the logs under test give to new topics. */
export const CONTRACT_PARTITIONS = 3

export interface LogUnderTest {
  /** Opens one and the same log again and again; the suite closes what it opened. New topics get CONTRACT_PARTITIONS. */
  open(options?: { readonly compression?: Compression }): Promise<Log>
}

const LAST = 'the last record'
const signal = new AbortController().signal
const NOTHING: ReadonlyMap<string, Buffer> = new Map()

function progress(entries: Record<string, string>): ReadonlyMap<string, Buffer> {
  return new Map(Object.entries(entries).map(([entry, value]) => [entry, Buffer.from(value)]))
}

function shown(entries: ReadonlyMap<string, Buffer>): Record<string, string> {
  return Object.fromEntries([...entries].map(([entry, value]) => [entry, value.toString()]))
}

function values(records: readonly LogRecord[]): (string | undefined)[] {
  return records.map(({ value }) => value?.toString())
}

function partitionOfKey(key: string): number {
  return partitionOf(Buffer.from(key), 0, Buffer.byteLength(key), CONTRACT_PARTITIONS)
}

function positionOf(lsn: number, ordinal: number): string {
  return `${lsn.toString(16).padStart(16, '0')}-${ordinal.toString(16).padStart(8, '0')}`
}

/** A key that goes to that partition. */
function keyFor(partition: number): string {
  for (let i = 0; ; i++) if (partitionOfKey(`key ${i}`) === partition) return `key ${i}`
}

async function fill(writer: LogWriter, topic: string, records: readonly PlainRecord[], keyed = true): Promise<void> {
  const sinkTopic = await writer.sink.topic({ name: topic, keyed })
  for (const record of records) writer.sink.append(sinkTopic, encode(record))
}

async function append(writer: LogWriter, entries: ReadonlyMap<string, Buffer> | null): Promise<void> {
  await writer.append(writer.cut(), entries)
}

/** Reads until that many records were seen. */
async function take(log: Log, topic: string, partition: number, count: number, from = 0n): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const record of log.read({ topic, partition, from, signal })) {
    records.push(record)
    if (records.length === count) break
  }
  return records
}

/** Progress as the next writer and a reader find it. A new writer waits until the last log transaction is visible everywhere. */
async function remembered(log: Log, pipeline: string): Promise<Record<string, string>> {
  const writer = await log.openWriter({ name: pipeline, signal })
  await writer.close()
  expect(shown(await log.readProgress({ name: pipeline, signal }))).toEqual(shown(writer.progress))
  return shown(writer.progress)
}

/** Commits a last record into every partition and returns everything that is visible before it, per partition. */
async function settle(log: Log, pipeline: string, topic: string): Promise<LogRecord[][]> {
  const writer = await log.openWriter({ name: pipeline, signal })
  writer.sink.appendToAll(await writer.sink.topic({ name: topic, keyed: true }), encode(event(LAST, LAST)))
  await append(writer, NOTHING)
  await writer.close()
  const partitions: LogRecord[][] = []
  for (let partition = 0; partition < CONTRACT_PARTITIONS; partition++) {
    const records: LogRecord[] = []
    for await (const record of log.read({ topic, partition, from: 0n, signal })) {
      if (record.value?.toString() === LAST) break
      records.push(record)
    }
    partitions.push(records)
  }
  return partitions
}

export function logContract(name: string, underTest: LogUnderTest): void {
  describe(`the contract of a log, kept by ${name}`, () => {
    const opened: Log[] = []
    let log: Log
    let pipeline: string
    let topic: string

    async function open(options: { readonly compression?: Compression } = {}): Promise<Log> {
      const another = await underTest.open(options)
      opened.push(another)
      return another
    }

    const openWriter = (): Promise<LogWriter> => log.openWriter({ name: pipeline, signal })

    beforeEach(async () => {
      pipeline = `shop-${randomUUID()}`
      topic = `${pipeline}.public.cart`
      log = await open()
    })

    afterEach(async () => {
      const names = (await log.topics(pipeline)).map((description) => description.name)
      await log.deleteTopics(names)
      await log.deleteProgress(pipeline)
      for (const each of opened.splice(0)) await each.close()
    })

    describe('records', () => {
      it('are read as they were appended: keys, values, timestamps, headers, tombstones', async () => {
        const writer = await openWriter()
        const key = keyFor(1)
        const headers = [
          { key: 'previous', value: Buffer.from('{"id":1}') },
          { key: 'empty', value: Buffer.alloc(0) },
        ]
        const written: PlainRecord[] = [
          { ...event(key, '{"op":"c"}'), timestampMs: 1_700_000_000_001, headers },
          { ...event(key, null), timestampMs: 1_700_000_000_000 },
          { ...event(key, ''), timestampMs: 1_700_000_500_000 },
        ]
        await fill(writer, topic, written)
        await append(writer, NOTHING)
        const records = await take(log, topic, 1, 3)
        expect(records).toEqual(
          written.map((record, i) => ({
            ...record,
            topic,
            partition: 1,
            offset: records[i]?.offset,
            headers: record.headers ?? [],
          })),
        )
        await writer.close()
      })

      it('go to the partition that murmur2 of their key chooses', async () => {
        const writer = await openWriter()
        const keys = Array.from({ length: 100 }, (_, i) => `{"id":${i}}`)
        await fill(
          writer,
          topic,
          keys.map((key) => event(key, key)),
        )
        await append(writer, NOTHING)
        await writer.close()
        const partitions = await settle(log, pipeline, topic)
        partitions.forEach((records, partition) => {
          expect(values(records)).toEqual(keys.filter((key) => partitionOfKey(key) === partition))
        })
      })

      it('without a key go to partition 0', async () => {
        const writer = await openWriter()
        const unkeyed = `${pipeline}.public.audit`
        await fill(writer, unkeyed, [event(null, 'a'), event(null, 'b')], false)
        await append(writer, NOTHING)
        const records = await take(log, unkeyed, 0, 2)
        expect(records.map(({ key, value }) => [key, value?.toString()])).toEqual([
          [null, 'a'],
          [null, 'b'],
        ])
        await writer.close()
      })

      it('without a key may come into a topic that was made for records with one', async () => {
        await log.createTopics([{ name: topic, keyed: true }])
        const writer = await openWriter()
        await fill(writer, topic, [event(keyFor(0), 'keyed')])
        await fill(writer, topic, [event(null, 'truncate')], false)
        await append(writer, NOTHING)
        expect(values(await take(log, topic, 0, 2))).toEqual(['keyed', 'truncate'])
        await writer.close()
      })

      it('reach every partition where they are appended to all, each in its place', async () => {
        const writer = await openWriter()
        const before = [0, 1, 2].map((partition) => event(keyFor(partition), 'before'))
        const after = [0, 1, 2].map((partition) => event(keyFor(partition), 'after'))
        await fill(writer, topic, before)
        writer.sink.appendToAll(await writer.sink.topic({ name: topic, keyed: true }), encode(event('all', 'truncate')))
        await fill(writer, topic, after)
        await append(writer, NOTHING)
        await writer.close()
        for (const records of await settle(log, pipeline, topic)) {
          expect(values(records)).toEqual(['before', 'truncate', 'after'])
        }
      })

      it('stay in order over many batches of one append and over many appends', async () => {
        const writer = await openWriter()
        const expected: string[] = []
        for (let round = 0; round < 3; round++) {
          const written = Array.from({ length: 20_000 }, (_, i) => `round ${round} row ${i} ${'x'.repeat(100)}`)
          expected.push(...written)
          await fill(
            writer,
            topic,
            written.map((value) => event(keyFor(2), value)),
          )
          await append(writer, round === 1 ? null : NOTHING)
        }
        await writer.close()
        const [, , records] = await settle(log, pipeline, topic)
        expect(values(records ?? []).join('\n') === expected.join('\n')).toBe(true)
        const offsets = (records ?? []).map(({ offset }) => offset)
        expect(offsets.every((offset, i) => i === 0 || offset > offsets[i - 1]!)).toBe(true)
      })

      it('stay in order where each append is made as soon as the writer is ready', async () => {
        const writer = await openWriter()
        const expected = Array.from({ length: 100 }, (_, i) => `row ${i}`)
        const appended: Promise<void>[] = []
        for (const [i, value] of expected.entries()) {
          await fill(writer, topic, [event(keyFor(2), value)])
          appended.push(writer.append(writer.cut(), i % 3 === 1 ? null : progress({ at: value })))
          await writer.ready()
        }
        await Promise.all(appended)
        const [, , records] = await settle(log, pipeline, topic)
        expect(values(records ?? [])).toEqual(expected)
        expect((await openWriter()).progress.get('at')?.toString()).toBe(expected.at(-1))
      })

      it('may be large, several of them in one append', async () => {
        const writer = await openWriter()
        const large = [...'abcdefghijkl'].map((letter) => letter.repeat(900_000))
        await fill(
          writer,
          topic,
          large.map((value) => event(keyFor(0), value)),
        )
        await append(writer, NOTHING)
        const records = await take(log, topic, 0, large.length)
        expect(values(records).every((value, i) => value === large[i])).toBe(true)
        await writer.close()
      })

      it.each<Compression>(['gzip', 'snappy', 'lz4'])(
        'are read as they were appended under %s',
        async (compression) => {
          const compressed = await open({ compression })
          const writer = await compressed.openWriter({ name: pipeline, signal })
          const written = Array.from({ length: 1000 }, (_, i) => `{"a":${i},"b":"the same again"}`)
          await fill(
            writer,
            topic,
            written.map((value) => event(keyFor(0), value)),
          )
          await append(writer, NOTHING)
          expect(values(await take(log, topic, 0, 1000))).toEqual(written)
          await writer.close()
        },
      )

      it('can be appended while an append is under way, and come behind it', async () => {
        const writer = await openWriter()
        await fill(writer, topic, [event(keyFor(0), 'first')])
        const appending = append(writer, NOTHING)
        await fill(writer, topic, [event(keyFor(0), 'second')])
        await appending
        await append(writer, NOTHING)
        expect(values(await take(log, topic, 0, 2))).toEqual(['first', 'second'])
        await writer.close()
      })
    })

    describe('a log transaction', () => {
      it('is invisible until it commits, then visible in all its topics, with its progress', async () => {
        const other = `${pipeline}.public.orders`
        const writer = await openWriter()
        await log.createTopics([
          { name: topic, keyed: true },
          { name: other, keyed: true },
        ])
        await fill(writer, topic, [event(keyFor(0), 'one')])
        await append(writer, null)
        await fill(writer, other, [event(keyFor(0), 'two')])
        await append(writer, null)
        for (const each of [topic, other]) expect((await log.offsets(each, 0)).end).toBe(0n)
        expect(await log.readProgress({ name: pipeline, signal })).toEqual(NOTHING)

        await fill(writer, topic, [event(keyFor(0), 'three')])
        await append(writer, progress({ end: '7' }))
        expect(values(await take(log, topic, 0, 2))).toEqual(['one', 'three'])
        expect(values(await take(log, other, 0, 1))).toEqual(['two'])
        await writer.close()
        expect(await remembered(log, pipeline)).toEqual({ end: '7' })
      })

      it('that is aborted leaves neither records nor progress', async () => {
        const first = await openWriter()
        await fill(first, topic, [event(keyFor(0), 'committed')])
        await append(first, progress({ end: '1' }))
        await fill(first, topic, [event(keyFor(0), 'aborted'), event(keyFor(1), 'aborted')])
        await append(first, null)
        await fill(first, topic, [event(keyFor(2), 'never appended')])
        await first.close()
        await first.close()

        const second = await openWriter()
        expect(shown(second.progress)).toEqual({ end: '1' })
        await fill(second, topic, [event(keyFor(0), 'committed too')])
        await append(second, progress({ end: '2' }))
        await second.close()
        const partitions = await settle(log, pipeline, topic)
        expect(partitions.map(values)).toEqual([['committed', 'committed too'], [], []])
      })

      it('may hold progress and no records', async () => {
        const writer = await openWriter()
        await append(writer, progress({ end: 'idle' }))
        await writer.close()
        expect(await remembered(log, pipeline)).toEqual({ end: 'idle' })
      })

      it('may hold nothing but an empty append before it commits', async () => {
        const writer = await openWriter()
        await append(writer, null)
        await append(writer, progress({ end: '1' }))
        await writer.close()
        expect(await remembered(log, pipeline)).toEqual({ end: '1' })
      })
    })

    describe('progress', () => {
      it('is, per entry, what the last committed log transaction said', async () => {
        const first = await openWriter()
        expect(first.progress.size).toBe(0)
        await append(first, progress({ end: '1', relation: 'a' }))
        await append(first, progress({ end: '2', snapshot: 'b' }))
        await first.close()
        const second = await openWriter()
        expect(shown(second.progress)).toEqual({ end: '2', relation: 'a', snapshot: 'b' })
        await second.close()
      })

      it('belongs to a pipeline and is empty for one that never wrote', async () => {
        const writer = await openWriter()
        await append(writer, progress({ end: '1' }))
        await writer.close()
        expect((await log.readProgress({ name: `${pipeline}-2`, signal })).size).toBe(0)
        expect(await log.pipelines()).toContain(pipeline)
      })

      it('can be deleted, and the name starts afresh', async () => {
        const writer = await openWriter()
        await append(writer, progress({ end: '1', relation: 'a' }))
        await writer.close()
        await log.deleteProgress(pipeline)
        expect(await log.pipelines()).not.toContain(pipeline)
        const again = await openWriter()
        expect(again.progress.size).toBe(0)
        await append(again, progress({ end: '9' }))
        await again.close()
        expect(await remembered(log, pipeline)).toEqual({ end: '9' })
      })
    })

    describe('fencing', () => {
      it('makes an older writer fail and leaves nothing of it behind', async () => {
        const older = await openWriter()
        await fill(older, topic, [event(keyFor(0), 'before')])
        await append(older, progress({ end: '1' }))
        const other = await open()
        const newer = await other.openWriter({ name: pipeline, signal })
        await fill(older, topic, [event(keyFor(0), 'fenced')])
        await expect(append(older, progress({ end: 'fenced' }))).rejects.toMatchObject({ code: 'LOG_FENCED' })
        await older.close()
        await fill(newer, topic, [event(keyFor(0), 'after')])
        await append(newer, progress({ end: '2' }))
        await newer.close()
        expect(await remembered(log, pipeline)).toEqual({ end: '2' })
        expect((await settle(log, pipeline, topic)).map(values)).toEqual([['before', 'after'], [], []])
      })

      it('also ends a log transaction that the older writer has open', async () => {
        const older = await openWriter()
        await fill(older, topic, [event(keyFor(0), 'fenced'), event(keyFor(1), 'fenced')])
        await append(older, null)
        const newer = await (await open()).openWriter({ name: pipeline, signal })
        await fill(newer, topic, [event(keyFor(0), 'kept')])
        await append(newer, null)
        await fill(older, topic, [event(keyFor(0), 'fenced'), event(keyFor(2), 'fenced')])
        await expect(append(older, progress({ end: 'fenced' }))).rejects.toMatchObject({ code: 'LOG_FENCED' })
        await older.close()
        await append(newer, progress({ end: '1' }))
        await newer.close()
        expect(await remembered(log, pipeline)).toEqual({ end: '1' })
        expect((await settle(log, pipeline, topic)).map(values)).toEqual([['kept'], [], []])
      })

      it('is the same for the writer of a topic, which is no pipeline and remembers nothing', async () => {
        const pipelineWriter = await openWriter()
        const older = await log.openTopicWriter({ topic, signal })
        expect(older.progress.size).toBe(0)
        await fill(older, topic, [event(keyFor(0), 'before')])
        await append(older, NOTHING)
        await fill(older, topic, [event(keyFor(0), 'left open')])
        await append(older, null)
        const newer = await (await open()).openTopicWriter({ topic, signal })
        await fill(newer, topic, [event(keyFor(0), 'after')])
        await append(newer, NOTHING)
        await fill(older, topic, [event(keyFor(0), 'fenced')])
        await expect(append(older, NOTHING)).rejects.toMatchObject({ code: 'LOG_FENCED' })
        await older.close()
        await newer.close()
        await append(pipelineWriter, progress({ end: '1' }))
        await pipelineWriter.close()
        expect((await log.pipelines()).filter((found) => found.startsWith(topic))).toEqual([])
        expect((await settle(log, pipeline, topic)).map(values)).toEqual([['before', 'after'], [], []])
      })

      it('leaves writers of other pipelines alone', async () => {
        const writer = await openWriter()
        const other = await log.openWriter({ name: `${pipeline}-2`, signal })
        await append(writer, progress({ end: '1' }))
        await append(other, progress({ end: '2' }))
        await writer.close()
        await other.close()
        await log.deleteProgress(`${pipeline}-2`)
      })
    })

    describe('reading', () => {
      async function write(count: number): Promise<LogRecord[]> {
        const writer = await openWriter()
        await fill(
          writer,
          topic,
          Array.from({ length: count }, (_, i) => event(keyFor(0), `row ${i}`)),
        )
        await append(writer, NOTHING)
        await writer.close()
        return take(log, topic, 0, count)
      }

      it('starts at an offset and ends before another', async () => {
        const all = await write(100)
        const read: LogRecord[] = []
        const from = all[37]!.offset
        const until = all[80]!.offset
        for await (const record of log.read({ topic, partition: 0, from, until, signal })) read.push(record)
        expect(values(read)).toEqual(values(all.slice(37, 80)))
      })

      it('of an empty range ends at once', async () => {
        const all = await write(3)
        const offset = all[1]!.offset
        for await (const record of log.read({ topic, partition: 0, from: offset, until: offset, signal })) {
          throw new Error(`read ${record.offset}`)
        }
      })

      it('up to the end gives everything and ends', async () => {
        await write(10)
        const { earliest, end } = await log.offsets(topic, 0)
        const read: LogRecord[] = []
        for await (const record of log.read({ topic, partition: 0, from: earliest, until: end, signal }))
          read.push(record)
        expect(read.length).toBe(10)
      })

      it('without an end follows what is committed later, and ends when aborted', async () => {
        const [first] = await write(1)
        const abort = new AbortController()
        const follow = log.read({ topic, partition: 0, from: 0n, signal: abort.signal })[Symbol.asyncIterator]()
        expect((await follow.next()).value).toMatchObject({ offset: first!.offset })
        const next = follow.next()
        const writer = await (await open()).openWriter({ name: pipeline, signal })
        await fill(writer, topic, [event(keyFor(0), 'later')])
        await append(writer, NOTHING)
        await writer.close()
        expect(((await next).value as LogRecord).value?.toString()).toBe('later')
        const none = follow.next()
        abort.abort()
        expect((await none).done).toBe(true)
      })

      it('ends when aborted between two records', async () => {
        await write(10)
        const abort = new AbortController()
        let count = 0
        for await (const record of log.read({ topic, partition: 0, from: 0n, signal: abort.signal })) {
          expect(record.value).not.toBeNull()
          count += 1
          if (count === 4) abort.abort()
        }
        expect(count).toBe(4)
      })

      it('fails where the topic does not exist', async () => {
        const iterator = log.read({ topic, partition: 0, from: 0n, signal })[Symbol.asyncIterator]()
        await expect(iterator.next()).rejects.toMatchObject({ code: 'TOPIC_MISSING' })
        await expect(log.offsets(topic, 0)).rejects.toMatchObject({ code: 'TOPIC_MISSING' })
      })
    })

    describe('offsetAt', () => {
      const at = (lsn: number, ordinal: number): PlainRecord =>
        event(keyFor(0), `{"op":"c","after":{"position":"x"},"source":{"position":"${positionOf(lsn, ordinal)}"}}`)
      const find = (lsn: number, ordinal: number): Promise<bigint> =>
        log.offsetAt({ topic, partition: 0, position: positionOf(lsn, ordinal), signal })

      it('finds each position, and the next one where there is none', async () => {
        const writer = await openWriter()
        for (let lsn = 10; lsn < 60; lsn += 10) {
          await fill(writer, topic, [at(lsn, 0), event(keyFor(0), null), at(lsn, 1), at(lsn, 5)])
          await append(writer, NOTHING)
        }
        await writer.close()
        const [records] = await settle(log, pipeline, topic)
        const offset = (i: number): bigint => records![i]!.offset
        expect(await find(0, 0)).toBe(offset(0))
        expect(await find(10, 0)).toBe(offset(0))
        expect(await find(10, 1)).toBe(offset(2))
        expect(await find(10, 2)).toBe(offset(3))
        expect(await find(15, 0)).toBe(offset(4))
        expect(await find(30, 5)).toBe(offset(11))
        expect(await find(50, 5)).toBe(offset(19))
        expect(await find(50, 6)).toBe((await log.offsets(topic, 0)).end)
      })

      it('of a partition without positions is its end', async () => {
        await log.createTopics([{ name: topic, keyed: true }])
        expect(await find(1, 0)).toBe(0n)
        await settle(log, pipeline, topic)
        expect(await find(1, 0)).toBe((await log.offsets(topic, 0)).end)
      })
    })

    describe('topics', () => {
      it('are made once, listed by prefix in order, and keep their records when made again', async () => {
        const requests = ['b', 'a', 'c'].map((table) => ({ name: `${pipeline}.${table}`, keyed: true }))
        await log.createTopics(requests)
        const writer = await openWriter()
        await fill(writer, `${pipeline}.a`, [event(keyFor(0), 'kept')])
        await append(writer, NOTHING)
        await writer.close()
        await log.createTopics(requests)
        expect(await log.topics(`${pipeline}.`)).toEqual(
          ['a', 'b', 'c'].map((table) => ({ name: `${pipeline}.${table}`, partitions: CONTRACT_PARTITIONS })),
        )
        expect(await log.topics(`${pipeline}.b`)).toHaveLength(1)
        expect(values(await take(log, `${pipeline}.a`, 0, 1))).toEqual(['kept'])
        expect(await log.offsets(`${pipeline}.b`, 0)).toEqual({ earliest: 0n, end: 0n })
      })

      it('are made by the sink when first asked for, the same object afterwards', async () => {
        const writer = await openWriter()
        const made = await writer.sink.topic({ name: topic, keyed: true })
        expect(made).toMatchObject({ name: topic, partitions: CONTRACT_PARTITIONS })
        expect(writer.sink.topic({ name: topic, keyed: true })).toBe(made)
        expect(await log.topics(topic)).toEqual([{ name: topic, partitions: CONTRACT_PARTITIONS }])
        await writer.close()
      })

      it('can be deleted, others stay, and what is not there is no error', async () => {
        const other = `${pipeline}.public.orders`
        await log.createTopics([
          { name: topic, keyed: true },
          { name: other, keyed: true },
        ])
        await log.deleteTopics([topic, `${pipeline}.never.there`])
        expect((await log.topics(pipeline)).map((description) => description.name)).toEqual([other])
      })
    })
  })
}
