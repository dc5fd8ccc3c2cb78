import { getEventListeners } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { systemClock } from '../src/base/clock.js'
import { appendAll, bridge, type BridgeOptions } from '../src/bridge.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { FilledRecords, Log } from '../src/log/log.js'
import { readAll, startPipeline, withWriters } from './support/pipeline.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

/** Of a log transaction. */
const LIMIT_BYTES = 20_000

let database: TestDatabase
let directory: string
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 2 } })

beforeEach(async () => {
  database = await freshDatabase()
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
})

afterEach(async () => {
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
})

/** What a test looks at: the operation and the rows, in position order. */
async function events(): Promise<{ op: string; before: unknown; after: unknown; position: string }[]> {
  const log = await openLog()
  const records = await readAll(log, `${database.name}.public.`)
  await log.close()
  return records
    .flatMap((record) => (record.value === null ? [] : [JSON.parse(record.value.toString())]))
    .map(({ op, before, after, source }) => ({ op, before, after, position: source.position as string }))
    .toSorted((a, b) => (a.position < b.position ? -1 : 1))
}

it('has its topics before its writer is opened, and none is made while the stream is read', async () => {
  await database.query('create table orders (id int primary key)')
  const at: string[][] = []
  const asked: unknown[] = []
  const opened = async (): Promise<Log> => {
    const log = await openLog()
    const { createTopics, openWriter } = log
    log.createTopics = async (requests, pipeline) => {
      asked.push([pipeline, requests.filter(({ lasting }) => lasting).map(({ name }) => name)])
      await createTopics(requests, pipeline)
    }
    log.openWriter = async (options) => {
      at.push((await log.topics(`${database.name}.`)).map(({ name }) => name.slice(database.name.length)))
      return await openWriter(options)
    }
    return log
  }
  const pipeline = startPipeline(database, { openLog: opened })
  await pipeline.caughtUp()
  await pipeline.stop()
  expect(at).toEqual([['.notification', '.public.orders', '.schema']])
  expect(asked).toEqual([[database.name, ['schema', 'notification'].map((last) => `${database.name}.${last}`)]])
})

it('has one topic for a partitioned table, whichever of its partitions is changed', async () => {
  await database.query(`create table event (id int primary key, n int) partition by range (id);
    create table event_1 partition of event for values from (0) to (100);
    create table event_2 partition of event for values from (100) to (200)`)
  const pipeline = startPipeline(database, { openLog })
  await pipeline.caughtUp()
  await database.query(`insert into event values (1, 1), (101, 1); update event_2 set n = 2; delete from event_1;
    truncate event`)
  await pipeline.caughtUp()
  await pipeline.stop()
  expect((await events()).map(({ op }) => op)).toEqual(['c', 'c', 'u', 'd', 't', 't'])
  const log = await openLog()
  const topics = (await log.topics(`${database.name}.`)).map(({ name }) => name.slice(database.name.length))
  const schemas = await readAll(log, `${database.name}.schema`)
  await log.close()
  expect(topics).toEqual(['.message', '.notification', '.public.event', '.schema'])
  expect(schemas).toHaveLength(1)
})

describe('what is appended as it comes', () => {
  const filled = { bytes: 1, records: 1 }
  const writer = { ready: async () => undefined }
  const cut = (): FilledRecords => filled

  it('commits first, then every few batches, and when nothing comes for a while', async () => {
    const said: string[] = []
    const fire: (() => void)[] = []
    const clock = {
      ...systemClock,
      after: (_: number, work: () => void) => {
        fire.push(work)
        return { cancel: () => undefined, unref: () => undefined }
      },
    }
    let goOn = (): void => undefined
    const rows = async function* (): AsyncGenerator<FilledRecords> {
      for (let i = 0; i < 11; i++) {
        if (i === 10) await new Promise<void>((resolve) => (goOn = resolve))
        yield filled
      }
    }
    const appending = appendAll(rows(), {
      append: async (_, commit) => void said.push(commit ? 'commit' : 'append'),
      writer,
      cut,
      clock,
    })
    while (said.length < 10) await new Promise((resolve) => setImmediate(resolve))
    // The tenth is in the log, uncommitted, and the eleventh does not come.
    fire.at(-1)?.()
    while (said.length < 11) await new Promise((resolve) => setImmediate(resolve))
    goOn()
    await appending
    const seven = Array(7).fill('append')
    expect(said).toEqual(['commit', ...seven, 'commit', 'append', 'commit', 'append'])
  })

  it('goes on while one commits, and ends when all have', async () => {
    const said: boolean[] = []
    let commit = (): void => undefined
    const committed = new Promise<void>((resolve) => (commit = resolve))
    const rows = async function* (): AsyncGenerator<FilledRecords> {
      for (let i = 0; i < 4; i++) yield filled
    }
    let ended = false
    const append = async (_: FilledRecords, commits: boolean): Promise<void> => {
      said.push(commits)
      if (commits) await committed
    }
    const appending = appendAll(rows(), { append, writer, cut, clock: systemClock }).then(() => (ended = true))
    while (said.length < 4) await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setImmediate(resolve))
    expect(said).toEqual([true, false, false, false])
    expect(ended).toBe(false)
    commit()
    await appending
  })

  it('ends at once where a commit fails while no row comes', async () => {
    const failure = new Error('fenced')
    const rows = async function* (): AsyncGenerator<FilledRecords> {
      yield filled
      await new Promise(() => undefined)
    }
    const appending = appendAll(rows(), { append: () => Promise.reject(failure), writer, cut, clock: systemClock })
    await expect(appending).rejects.toBe(failure)
  })
})

describe('bridge', () => {
  it('stops at once where a commit fails while nothing comes, and acknowledges nothing', async () => {
    const acknowledged: unknown[] = []
    const filled = { bytes: 1, records: 1 }
    const changes = async function* ({ signal }: { signal: AbortSignal }): AsyncGenerator {
      yield { records: filled, endLsn: 8n, commitLsn: 1n }
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
    }
    const failure = new Error('fenced')
    const stop = new AbortController()
    const writer = { ready: async () => undefined, append: () => Promise.reject(failure) }
    const bridging = bridge({
      source: { changes, acknowledge: (lsn: unknown) => acknowledged.push(lsn) },
      writer,
      progress: { at: () => new Map() },
      signal: stop.signal,
      onCommit: (committed: unknown) => acknowledged.push(committed),
    } as unknown as BridgeOptions)
    await expect(bridging).rejects.toBe(failure)
    expect(acknowledged).toEqual([])
    expect(getEventListeners(stop.signal, 'abort')).toEqual([])
  })

  it('tells of all parts of a log transaction when it commits', async () => {
    const told: unknown[] = []
    const changes = async function* (): AsyncGenerator {
      for (const endLsn of [null, null, 8n, 16n]) yield { records: { bytes: 10, records: 2 }, endLsn, commitLsn: 1n }
    }
    await bridge({
      source: { changes, acknowledge: () => undefined },
      writer: { ready: async () => undefined, append: async () => undefined },
      progress: { at: () => new Map() },
      signal: new AbortController().signal,
      onCommit: (committed: unknown) => told.push(committed),
    } as unknown as BridgeOptions)
    expect(told).toEqual([
      { records: 6, bytes: 30, endLsn: 8n },
      { records: 2, bytes: 10, endLsn: 16n },
    ])
  })

  it('commits with the transactions of the database, also where the log is slower than the stream', async () => {
    await database.query(`create table item (id int primary key)`)
    const first = startPipeline(database, { openLog })
    await first.caughtUp()
    await first.stop()
    await database.query(`do $$ begin for i in 1 .. 2000 loop insert into item values (i); commit; end loop; end $$`)
    for (const from of [2001, 3001, 4001])
      await database.query(`insert into item select g from generate_series(${from}, ${from + 999}) g`)
    const appended: { readonly bytes: number; readonly part: boolean; readonly from: number; readonly to: number }[] =
      []
    let records = 0
    const openSlowLog = withWriters(openLog, (writer) => {
      const append = writer.append.bind(writer)
      let last = Promise.resolve()
      writer.append = async (filled, progress) => {
        const from = records
        records += filled.records
        appended.push({ bytes: filled.bytes, part: progress === null, from, to: records })
        last = setTimeout(20).then(() => append(filled, progress))
        await last
      }
      writer.ready = () => last
    })
    const pipeline = startPipeline(database, { openLog: openSlowLog, limits: { bytes: LIMIT_BYTES, ageMs: 0 } })
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const parts = appended.filter(({ part }) => part)
    // Of those that are larger than that by themselves, and of no other; each ends by itself, too.
    expect(parts.length).toBeGreaterThan(5)
    expect(parts.filter(({ from }) => from < 1900)).toEqual([])
    const ends = appended.filter(({ part }) => !part).map(({ to }) => to)
    expect(ends.filter((to) => to <= 2000).length).toBeGreaterThan(5)
    expect(ends).toEqual(expect.arrayContaining([3000, 4000, 5000]))
    expect(Math.max(...appended.map(({ bytes }) => bytes))).toBeLessThan(2.5 * LIMIT_BYTES)
    expect((await events()).length).toBe(5000)
  })

  it('publishes the rows that are there, then every change', async () => {
    await database.query(
      `create table item (id int primary key, name text); insert into item values (1, 'old'), (2, 'older')`,
    )
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await database.query(`insert into item values (3, 'new')`)
    await database.query(`update item set name = 'newer' where id = 3`)
    await database.query(`delete from item where id = 1`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect((await events()).map(({ op, before, after }) => ({ op, before, after }))).toEqual([
      { op: 'r', before: null, after: { id: 1, name: 'old' } },
      { op: 'r', before: null, after: { id: 2, name: 'older' } },
      { op: 'c', before: null, after: { id: 3, name: 'new' } },
      { op: 'u', before: null, after: { id: 3, name: 'newer' } },
      { op: 'd', before: { id: 1 }, after: null },
    ])
  })

  it('goes on where it stopped, and repeats nothing', async () => {
    await database.query(`create table item (id int primary key)`)
    for (let round = 0; round < 4; round++) {
      const pipeline = startPipeline(database, { openLog })
      await pipeline.caughtUp()
      await database.query(`insert into item select g from generate_series(${round * 100}, ${round * 100 + 49}) g`)
      await pipeline.caughtUp()
      expect(await pipeline.stop()).toBeUndefined()
      await database.query(`insert into item select g from generate_series(${round * 100 + 50}, ${round * 100 + 99}) g`)
    }
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await pipeline.stop()
    const ids = (await events()).map(({ after }) => (after as { id: number }).id)
    expect(ids).toEqual(Array.from({ length: 400 }, (_, id) => id))
  })
})
