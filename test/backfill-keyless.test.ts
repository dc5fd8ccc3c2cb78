/** Promise 5 for a live backfill of tables without a key: all their rows at one place of the stream, each of them once. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { EvertError } from '../src/base/errors.js'
import { silentLogger } from '../src/base/logger.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { FilledRecords, Log, LogWriter, Progress } from '../src/log/log.js'
import { BACKFILL_ENTRY } from '../src/progress.js'
import { askBackfill as ask, backfillNews } from './support/backfills.js'
import { killAll, startCli } from './support/cli.js'
import { hangCommits } from './support/hanging-commits.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { MAJORS, startPostgres } from './support/postgres.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

let directory: string
let server: Awaited<ReturnType<typeof startPostgres>>
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })
const { news, until, completed } = backfillNews(openLog)

// Of its own: while a test holds a transaction open until its backfill waits, that of another suite would wait for it, too, and be first.
beforeAll(async () => {
  server = await startPostgres()
})

afterAll(async () => {
  await server.stop()
})

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
})

afterEach(async () => {
  await killAll()
  rmSync(directory, { recursive: true, force: true })
})

/** Of two columns, a and b. */
const TABLES = `create table fact (a int, b text);
  create table whole (a int, b text); alter table whole replica identity full;`

const DEADLOCK = '40P01'

interface Event {
  readonly op: string
  readonly before: object | null
  readonly after: object | null
  readonly position: string
}

async function eventsOf(database: TestDatabase, table: string): Promise<Event[]> {
  const log = await openLog()
  const records = await readAll(log, `${database.name}.public.${table}`)
  await log.close()
  return records.map(({ value }) => {
    const { op, before, after, source } = JSON.parse(String(value))
    return { op, before, after, position: source.position }
  })
}

/** How often each row is there for who has forgotten what he had when the rows of the last backfill began. */
function fold(events: readonly Event[]): Map<string, number> {
  const last = events.findLast(({ op }) => op === 'r')?.position.slice(0, 16)
  const from = events.findIndex(({ position }) => position.slice(0, 16) === last)
  const rows = new Map<string, number>()
  const add = (row: object | null, count: number): void => {
    const text = JSON.stringify(row)
    const there = (rows.get(text) ?? 0) + count
    if (there < 0) throw new Error(`${text} is gone before it came`)
    if (there === 0) rows.delete(text)
    else rows.set(text, there)
  }
  let position = ''
  for (const event of events.slice(from)) {
    if (event.position <= position) throw new Error(`${event.position} is not behind ${position}`)
    position = event.position
    if (event.op === 't') rows.clear()
    if (event.op === 'u' || event.op === 'd') add(event.before, -1)
    if (event.op !== 't' && event.op !== 'd') add(event.after, 1)
  }
  return rows
}

async function requireEqual(database: TestDatabase, table: string): Promise<void> {
  const rows = await database.query(
    `select json_build_object('a', a, 'b', b)::jsonb::text as row, count(*) as count from ${table} group by a, b`,
  )
  const text = (row: string): string => JSON.stringify(JSON.parse(row))
  const expected = rows.map(({ row, count }) => [text(row ?? ''), Number(count)])
  const sorted = (entries: unknown[][]): unknown[][] => entries.toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1))
  expect(sorted([...fold(await eventsOf(database, table))])).toEqual(sorted(expected))
}

const rowsSeen = async (database: TestDatabase, table: string): Promise<number> =>
  (await eventsOf(database, table)).filter(({ op }) => op === 'r').length

/** Writes into both tables until it is stopped; a few values, so that rows are alike. */
async function keepWriting(database: TestDatabase, sessions: number): Promise<() => Promise<void>> {
  let stopped = false
  const clients = await Promise.all(Array.from({ length: sessions }, () => database.client()))
  const transaction = async (client: pg.Client, i: number): Promise<void> => {
    await client.query(`begin; insert into fact select (random() * 20)::int, 'x' from generate_series(1, 3);
      insert into whole values ((random() * 20)::int, 'x'); savepoint s;
      update whole set a = (random() * 20)::int, b = repeat('y', 1 + (random() * 3000)::int)
        where ctid = (select ctid from whole offset (random() * 100)::int limit 1)`)
    if (i % 3 === 0) await client.query('rollback to s')
    await client.query(`delete from whole where ctid = (select ctid from whole offset 50 limit 1);
      insert into fact values (-1, 'subtransaction'); ${i % 7 === 0 ? 'rollback' : 'commit'}`)
    if (i % 10 === 0) await client.query(`begin; insert into fact values (-2, 'slow'); select pg_sleep(0.2); commit`)
  }
  const writing = clients.map(async (client) => {
    for (let i = 0; !stopped; i++) {
      try {
        await transaction(client, i)
      } catch (error) {
        if (!(error instanceof pg.DatabaseError) || error.code !== DEADLOCK) throw error
        // Only the savepoint is undone so far, and a backfill waits for the transaction around it.
        await client.query('rollback')
      }
    }
  })
  return async () => {
    stopped = true
    await Promise.all(writing)
  }
}

/** The log, with every append of its writer handed to somebody first. */
async function watchedLog(onAppend: (records: FilledRecords, progress: Progress | null) => void): Promise<Log> {
  const log = await openLog()
  const openWriter = async (options: Parameters<Log['openWriter']>[0]): Promise<LogWriter> => {
    const writer = await log.openWriter(options)
    const append: LogWriter['append'] = async (records, progress) => {
      onAppend(records, progress)
      await writer.append(records, progress)
    }
    return {
      sink: writer.sink,
      progress: writer.progress,
      cut: () => writer.cut(),
      append,
      ready: () => writer.ready(),
      close: () => writer.close(),
    }
  }
  return new Proxy(log, {
    get: (target, name) => {
      if (name === 'openWriter') return openWriter
      const value = Reflect.get(target, name) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

describe('a live backfill of a table without a key', () => {
  it('publishes each row once, at one place of the stream, while rows are written', async () => {
    const database = await freshDatabase(server.url('postgres'))
    await database.query(`${TABLES} insert into fact select g % 50, 'old' from generate_series(1, 5000) g;
      insert into whole select g % 50, repeat('z', 1 + g % 3000) from generate_series(1, 500) g`)
    const pipeline = startPipeline(database, { openLog, snapshot: 'none', limits: { bytes: 65_536, ageMs: 0 } })
    await pipeline.caughtUp()
    const stop = await keepWriting(database, 4)
    for (const id of ['one', 'two', 'three']) {
      await ask(database, { id })
      await completed(database, id)
    }
    await stop()
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    for (const table of ['fact', 'whole']) await requireEqual(database, table)
    const told = (await news(database)).filter(({ kind }) => kind === 'backfill-table')
    expect(told).toHaveLength(6)
    for (const one of told) {
      const { lsn, rows, table } = one as { lsn: string; rows: number; table: string }
      const [high = '', low = ''] = lsn.split('/').map((half) => half.padStart(8, '0').toLowerCase())
      const before = (await eventsOf(database, table)).filter(({ op, position }) => {
        const behind = BigInt(`0x${high}${low}`) - BigInt(`0x${position.slice(0, 16)}`)
        return op === 'r' && behind > 0n && behind < 8n
      })
      expect(before).toHaveLength(rows)
    }
    expect(
      await database.query(`select 1 from pg_replication_slots where temporary and database = current_database()`),
    ).toEqual([])
    await database.drop()
  })

  it.each(MAJORS.slice(1))('does so on Postgres %i', async (major) => {
    const old = await startPostgres({ major })
    const database = await freshDatabase(old.url('postgres'))
    await database.query(`${TABLES} insert into whole select g % 50, 'old' from generate_series(1, 500) g`)
    const pipeline = startPipeline(database, { openLog, snapshot: 'none' })
    await pipeline.caughtUp()
    const stop = await keepWriting(database, 3)
    await ask(database, {})
    await completed(database)
    await stop()
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    for (const table of ['fact', 'whole']) await requireEqual(database, table)
    await database.drop()
    await old.stop()
  })

  it('is exact where commits wait for a standby, in the WAL before they can be seen', async () => {
    const synchronous = await startPostgres({
      settings: { synchronous_standby_names: 'nobody', synchronous_commit: 'local' },
    })
    const database = await freshDatabase(synchronous.url('postgres'))
    await database.query(`${TABLES} insert into whole values (1, 'first'), (2, 'gone'), (3, 'changed')`)
    const pipeline = startPipeline(database, { openLog, snapshot: 'none' })
    await pipeline.caughtUp()
    const hanging = await hangCommits(database, [
      `insert into whole values (4, 'new')`,
      `delete from whole where a = 2`,
      `update whole set b = 'as it is' where a = 3`,
    ])
    await ask(database, { tables: 'whole' })
    await until(database, ({ kind }) => kind === 'backfill-started')
    // The stream goes on meanwhile, and takes requests.
    await ask(database, { id: 'another', tables: 'fact' })
    await ask(database, { id: 'another', do: 'cancel' })
    await until(database, ({ kind, id }) => kind === 'backfill-cancelled' && id === 'another')
    expect(await rowsSeen(database, 'whole')).toBe(0)
    await hanging.release()
    await completed(database)
    // Now some commit while others hang, at every moment: an answer is given up after a while.
    let released = false
    const releasing = (async () => {
      while (!released) {
        await delay(30)
        await database.query(
          `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep' and random() < 0.3`,
        )
      }
    })()
    const sessions = await Promise.all([1, 2, 3, 4, 5, 6].map(() => database.client()))
    let stopped = false
    const writing = sessions.map(async (session, i) => {
      await session.query('set synchronous_commit = on')
      for (let n = 0; !stopped; n++) {
        await session.query(`insert into fact values (${i}, 'fact ${n}'); insert into whole values (${10 + i}, '${n}')`)
        await session.query(`update whole set b = b || '.' where a = ${10 + i}`)
        if (n % 4 === 3) await session.query(`delete from whole where a = ${10 + i}`)
      }
    })
    for (const id of ['two', 'three', 'four', 'five']) {
      await ask(database, { id })
      await completed(database, id)
    }
    stopped = true
    await Promise.all(writing)
    released = true
    await releasing
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    for (const table of ['fact', 'whole']) await requireEqual(database, table)
    await database.drop()
    await synchronous.stop()
  })

  it('leaves nothing where it is killed or stopped, and then begins at its beginning', async () => {
    const database = await freshDatabase(server.url('postgres'))
    await database.query(
      `${TABLES} insert into fact select g, repeat('x', 200) from generate_series(1, 300000) g; analyze fact`,
    )
    const start = (): ReturnType<typeof startCli> =>
      startCli(
        ['run', '--source', database.url, '--log', directory, '--partitions', '1', '--snapshot', 'none'].concat(
          '--batch-bytes',
          '64KiB',
        ),
        { EVERT_NAME: database.name },
      )
    const reading = `select 1 from pg_stat_progress_copy where datname = '${database.name}' and tuples_processed > 20000`
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      const daemon = start()
      await daemon.says('streaming')
      if (signal === 'SIGKILL') await ask(database, { tables: 'fact' })
      while ((await database.query(reading)).length === 0) await delay(2)
      daemon.process.kill(signal)
      expect((await daemon.ended).code).toBe(signal === 'SIGTERM' ? 0 : null)
      expect(await rowsSeen(database, 'fact')).toBe(0)
      // Until the server knows that nobody reads any more.
      while ((await database.query(reading)).length > 0) await delay(2)
    }
    await database.query(`insert into fact values (0, 'late')`)
    const last = start()
    await completed(database)
    last.process.kill('SIGTERM')
    expect((await last.ended).code).toBe(0)
    await requireEqual(database, 'fact')
    // The row may have been streamed before the rows were read again, or they may have it.
    const rows = await rowsSeen(database, 'fact')
    expect(rows).toBeGreaterThanOrEqual(300_000)
    expect(rows).toBeLessThanOrEqual(300_001)
    await database.drop()
  })

  it('hands rows on while they are read, in one log transaction, whatever their number', async () => {
    const database = await freshDatabase(server.url('postgres'))
    await database.query(`${TABLES} insert into fact select g, repeat('x', 100) from generate_series(1, 100000) g`)
    const appends: { bytes: number; records: number; commits: boolean; state: string }[] = []
    const pipeline = startPipeline(database, {
      openLog: () =>
        watchedLog(({ bytes, records }, progress) => {
          const state = String(progress?.get(BACKFILL_ENTRY))
          appends.push({ bytes, records, commits: progress !== null, state })
        }),
      snapshot: 'none',
      limits: { bytes: 65_536, ageMs: 0 },
    })
    await pipeline.caughtUp()
    await ask(database, { tables: 'fact' })
    await completed(database)
    expect(await pipeline.stop()).toBeUndefined()
    const parts = appends.filter(({ commits }) => !commits)
    const first = appends.findIndex(({ commits }) => !commits)
    // Each is what fills the sink, and what was read of the socket with that.
    const total = parts.reduce((sum, { bytes }) => sum + bytes, 0)
    expect(parts.length).toBeGreaterThan(10)
    expect(Math.max(...parts.map(({ bytes }) => bytes))).toBeLessThan(total / 5)
    expect(appends.slice(first, first + parts.length).every(({ commits }) => !commits)).toBe(true)
    // That it was begun is in the log before, and that nothing is left to be done where it ends.
    expect(JSON.parse(appends[first - 1]?.state ?? '').jobs).toMatchObject([{ id: 'one', attempts: 1 }])
    const [end] = appends.slice(first + parts.length)
    expect(end?.commits).toBe(true)
    expect(JSON.parse(end?.state ?? '').jobs).toEqual([])
    expect(parts.reduce((sum, { records }) => sum + records, 0) + (end?.records ?? 0)).toBeGreaterThanOrEqual(100_000)
    await requireEqual(database, 'fact')
    await database.drop()
  })

  it('is given up where its log transaction never comes to its end, and the stream goes on', async () => {
    const database = await freshDatabase(server.url('postgres'))
    await database.query(`${TABLES} insert into fact select g, repeat('x', 100) from generate_series(1, 5000) g`)
    let begun = 0
    const pipeline = startPipeline(database, {
      openLog: () =>
        watchedLog((_, progress) => {
          if (progress !== null) return
          begun++
          throw new EvertError('TRANSACTION_TOO_LONG', { message: 'a log transaction was open for too long' })
        }),
      snapshot: 'none',
      limits: { bytes: 65_536, ageMs: 0 },
    })
    await pipeline.caughtUp()
    await ask(database, { tables: 'fact' })
    const refused = await until(database, ({ kind }) => kind === 'backfill-refused')
    expect(refused).toMatchObject({ id: 'one', table: 'fact', reason: expect.stringContaining('begun 5 times') })
    expect(begun).toBe(5)
    await database.query(`insert into fact values (0, 'after')`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect((await eventsOf(database, 'fact')).map(({ op }) => op)).toEqual(['c'])
    await database.drop()
  })

  it('waits for who has transactions open, and meanwhile is paused, resumed and cancelled', async () => {
    const database = await freshDatabase(server.url('postgres'))
    await database.query(`${TABLES} insert into fact values (1, 'x')`)
    const pipeline = startPipeline(database, { openLog, snapshot: 'none' })
    await pipeline.caughtUp()
    const open = await database.client()
    await open.query(`begin; insert into fact values (2, 'open')`)
    const slots = `select 1 from pg_replication_slots where temporary and database = current_database()`
    const temporary = async (count: number): Promise<void> => {
      while ((await database.query(slots)).length !== count) await delay(20)
    }
    await ask(database, {})
    await temporary(1)
    await ask(database, { do: 'pause' })
    await temporary(0)
    await ask(database, { do: 'resume' })
    await temporary(1)
    await ask(database, { do: 'cancel' })
    await temporary(0)
    await ask(database, { id: 'two' })
    await temporary(1)
    await database.query(`insert into fact values (3, 'streamed')`)
    await pipeline.caughtUp()
    expect(await rowsSeen(database, 'fact')).toBe(0)
    await open.query('commit')
    await completed(database, 'two')
    expect(await pipeline.stop()).toBeUndefined()
    expect((await eventsOf(database, 'fact')).map(({ op }) => op)).toEqual(['c', 'c', 'r', 'r', 'r'])
    await database.drop()
  })

  it('does not hold the stream up for a transaction that began while it waited for another one', async () => {
    const database = await freshDatabase(server.url('postgres'))
    await database.query(`${TABLES} insert into fact values (1, 'x')`)
    const said: string[] = []
    const note = (_: object, message: string): void => void said.push(message)
    const logger = { ...silentLogger, info: note, warn: note }
    const pipeline = startPipeline(database, { openLog, snapshot: 'none', logger })
    await pipeline.caughtUp()
    const [first, second] = [await database.client(), await database.client()]
    await first.query(`begin; insert into fact values (2, 'first')`)
    await ask(database, { tables: 'fact' })
    const waits = `select 1 from pg_locks where locktype = 'transactionid' and not granted`
    while ((await database.query(waits)).length === 0) await delay(20)
    await second.query(`begin; insert into fact values (3, 'second')`)
    await first.query('commit')
    // That it waits is said after some seconds; where it has taken too long, earlier.
    while (!said.some((message) => /waits for transactions|^backfill: /.test(message))) await delay(20)
    await pipeline.caughtUp()
    await second.query('commit')
    await completed(database)
    expect(await pipeline.stop()).toBeUndefined()
    expect(said.filter((message) => message.startsWith('backfill: '))).toEqual([])
    await requireEqual(database, 'fact')
    await database.drop()
  })

  it('lets those of several pipelines on one server come one after the other', async () => {
    const pipelines = await Promise.all(
      ['one', 'two', 'three'].map(async (folder) => {
        const database = await freshDatabase(server.url('postgres'))
        await database.query(`${TABLES} insert into fact values (1, 'x')`)
        const ofItsOwn = (): Promise<Log> =>
          openEmbeddedLog({ directory: join(directory, folder), topics: { partitions: 1 } })
        const pipeline = startPipeline(database, { openLog: ofItsOwn, snapshot: 'none' })
        await pipeline.caughtUp()
        return { database, pipeline, told: backfillNews(ofItsOwn) }
      }),
    )
    const open = await pipelines[0]?.database.client()
    await open?.query('begin; select pg_current_xact_id()')
    for (const { database } of pipelines) await ask(database, { tables: 'fact' })
    // Long enough for each to be where it would wait for the others.
    await delay(1000)
    await open?.query('commit')
    for (const { database, pipeline, told } of pipelines) {
      await told.completed(database)
      expect(await pipeline.stop()).toBeUndefined()
      await database.drop()
    }
  })

  it('comes by itself for a table that joins the publication', async () => {
    const database = await freshDatabase(server.url('postgres'))
    await database.query(`${TABLES} insert into whole values (1, 'a'), (1, 'a');
      create publication "${database.name}" for table fact`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await database.query(`alter publication "${database.name}" add table whole`)
    await completed(database, 'joined public.whole')
    await database.query(`delete from whole where ctid = (select min(ctid) from whole)`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect((await eventsOf(database, 'whole')).map(({ op }) => op)).toEqual(['r', 'r', 'd'])
    await requireEqual(database, 'whole')
    await database.drop()
  })
})
