/** Promise 5 for a live backfill: no row of it is lost, and none travels back in time. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log } from '../src/log/log.js'
import { askBackfill as ask, backfillNews } from './support/backfills.js'
import { hangCommits } from './support/hanging-commits.js'
import { type ItemEvent, itemEvents, requireForwards } from './support/item-events.js'
import { readAll, type RunningPipeline, startPipeline } from './support/pipeline.js'
import { startPostgres } from './support/postgres.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

let directory: string
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

const seen = (database: TestDatabase, table?: string): Promise<ItemEvent[]> => itemEvents(openLog, database, table)

const { news, until, completed } = backfillNews(openLog)

async function untilSeen(database: TestDatabase, count: number): Promise<void> {
  while ((await seen(database)).length < count) await new Promise((resolve) => setTimeout(resolve, 20))
}

/** The rows that a consumer has in the end. */
function fold(events: readonly ItemEvent[]): Map<number, number> {
  const rows = new Map<number, number>()
  for (const { op, id, n } of events) {
    if (op === 'd') rows.delete(id)
    else rows.set(id, n)
  }
  return rows
}

async function requireEqual(database: TestDatabase, events: readonly ItemEvent[]): Promise<void> {
  const rows = await database.query('select id, n from item order by id')
  const expected = rows.map(({ id, n }) => [Number(id), Number(n)])
  expect([...fold(events)].toSorted(([a], [b]) => a - b)).toEqual(expected)
}

/** How many keys of the table begin like that. */
async function keysWith(database: TestDatabase, start: string): Promise<number> {
  const log = await openLog()
  const records = await readAll(log, `${database.name}.public.item`)
  await log.close()
  const keys = records.map(({ key }) => String(key)).filter((key) => key.startsWith(start))
  return new Set(keys).size
}

async function startStreaming(database: TestDatabase, rows: number): Promise<RunningPipeline> {
  await database.query(`create table item (id int primary key, n int, note text);
    insert into item select g, 0, 'note' from generate_series(1, ${rows}) g`)
  const pipeline = startPipeline(database, { openLog, snapshot: 'none' })
  await pipeline.caughtUp()
  return pipeline
}

describe('a live backfill', () => {
  it('publishes every row once, behind what was streamed before and before what is streamed after', async () => {
    const database = await freshDatabase()
    const pipeline = await startStreaming(database, 12_345)
    await database.query('update item set n = 1 where id % 1000 = 0')
    await ask(database, { tables: 'item' })
    await completed(database)
    await database.query('update item set n = 2 where id = 7')
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const events = await seen(database)
    requireForwards(events)
    await requireEqual(database, events)
    const rows = events.filter(({ op }) => op === 'r')
    expect(rows.length).toBe(12_345)
    expect(new Set(rows.map(({ id }) => id)).size).toBe(12_345)
    expect(await news(database)).toMatchObject([
      { kind: 'backfill-started', id: 'one', tables: 1 },
      { kind: 'backfill-table', schema: 'public', table: 'item', rows: 12_345 },
      { kind: 'backfill-complete', tables: 1, rows: 12_345 },
    ])
    await database.drop()
  })

  it('refuses what it cannot do, and says why', async () => {
    const database = await freshDatabase()
    await database.query('create table keyless (n int)')
    const pipeline = await startStreaming(database, 1)
    await ask(database, { id: 'keyless', tables: 'keyless', columns: ['n'] })
    await until(database, ({ kind, id }) => kind === 'backfill-refused' && id === 'keyless')
    await ask(database, { id: 'nothing', tables: 'nothing' })
    await until(database, ({ kind, id }) => kind === 'backfill-refused' && id === 'nothing')
    await ask(database, { id: 'unknown', do: 'pause' })
    await until(database, ({ kind, id }) => kind === 'backfill-refused' && id === 'unknown')
    await ask(database, { id: 'another', pipeline: 'another' })
    await database.query(`select pg_logical_emit_message(true, 'evert', 'no JSON')`)
    await ask(database, { id: 'last' })
    await completed(database, 'last')
    expect(await pipeline.stop()).toBeUndefined()
    expect((await news(database)).filter(({ id }) => id === 'another')).toEqual([])
    const off = startPipeline(database, { openLog, requests: false })
    await ask(database, { id: 'off' })
    await until(database, ({ kind, id }) => kind === 'backfill-refused' && id === 'off')
    expect(await off.stop()).toBeUndefined()
    await database.drop()
  })

  it('says only the key and the columns that it was asked for', async () => {
    const database = await freshDatabase()
    const pipeline = await startStreaming(database, 3)
    await database.query('alter table item add column added int default 7')
    await ask(database, { columns: ['missing'], id: 'missing' })
    await until(database, ({ kind, id }) => kind === 'backfill-refused' && id === 'missing')
    await ask(database, { columns: ['added'] })
    await completed(database)
    expect(await pipeline.stop()).toBeUndefined()
    const log = await openLog()
    const records = await readAll(log, `${database.name}.public.item`)
    await log.close()
    expect(records.map(({ value }) => JSON.parse(String(value)))).toMatchObject(
      [1, 2, 3].map((id) => ({ op: 'u', before: null, after: { id, added: 7 }, unchanged: ['n', 'note'] })),
    )
    await database.drop()
  })

  it('waits for who rewrites its table, whom an older snapshot would show an empty one', async () => {
    const database = await freshDatabase()
    const pipeline = await startStreaming(database, 1200)
    const session = await database.client()
    await ask(database, { maxRowsPerSecond: 1000 })
    await untilSeen(database, 400)
    await session.query('begin; alter table item alter n type bigint')
    // Longer than a chunk waits for its lock.
    await new Promise((resolve) => setTimeout(resolve, 2500))
    await session.query('commit')
    expect(await completed(database)).toMatchObject({ rows: 1200 })
    expect(await pipeline.stop()).toBeUndefined()
    expect((await seen(database)).filter(({ op }) => op === 'r')).toHaveLength(1200)
    await database.drop()
  })

  it('has every row where the key is of a type of an extension, and of types that were altered', async () => {
    const database = await freshDatabase()
    await database.query(`create extension citext; create type pair as (a int, b text);
      create table item (id citext primary key, n int, note pair);
      insert into item select case when g % 2 = 0 then upper(md5(g::text)) else md5(g::text) end, 0, '(1,x)'::pair
        from generate_series(1, 1500) g;
      create table sides (side citext, id int, primary key (side, id)); insert into sides values ('a', 1), ('A', 2)`)
    const pipeline = startPipeline(database, { openLog, snapshot: 'none' })
    await pipeline.caughtUp()
    await database.query(`update item set n = 1 where id = upper(md5('2')); alter type pair add attribute c int`)
    await ask(database, { tables: 'item' })
    expect(await completed(database)).toMatchObject({ rows: 1500 })
    await ask(database, { id: 'both', tables: 'sides' })
    // Rows cannot be compared by several columns at once here: they come as if they had no key.
    expect(await completed(database, 'both')).toMatchObject({ rows: 2 })
    await ask(database, { id: 'one', tables: 'sides', columns: ['id'] })
    await until(database, ({ kind, id }) => kind === 'backfill-refused' && id === 'one')
    expect(await pipeline.stop()).toBeUndefined()
    const rows = (await seen(database)).filter(({ op }) => op === 'r')
    expect(new Set(rows.map(({ id }) => id)).size).toBe(1500)
    expect(rows).toHaveLength(1500)
    expect(rows[0]?.note).toEqual({ a: 1, b: 'x', c: null })
    await database.drop()
  })

  it('starts again by the new key where that was changed', async () => {
    const database = await freshDatabase()
    const pipeline = await startStreaming(database, 3000)
    await database.query('alter table item add other int; update item set other = 10000 - id')
    await ask(database, { maxRowsPerSecond: 2000 })
    while ((await seen(database)).filter(({ op }) => op === 'r').length < 500)
      await new Promise((resolve) => setTimeout(resolve, 20))
    await database.query('alter table item drop constraint item_pkey; alter table item add primary key (other)')
    await completed(database)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect(await keysWith(database, '{"other"')).toBe(3000)
    await database.drop()
  })

  it('is paused, goes on in another process where it was, and is cancelled', async () => {
    const database = await freshDatabase()
    const first = await startStreaming(database, 20_000)
    await ask(database, { maxRowsPerSecond: 5000 })
    await until(database, ({ kind }) => kind === 'backfill-started')
    await untilSeen(database, 1000)
    await ask(database, { do: 'pause' })
    await until(database, ({ kind }) => kind === 'backfill-paused')
    await first.caughtUp()
    const published = (await seen(database)).length
    expect(await first.stop()).toBeUndefined()
    const second = startPipeline(database, { openLog, snapshot: 'none' })
    await second.caughtUp()
    expect((await seen(database)).length).toBe(published)
    await ask(database, { do: 'resume' })
    await completed(database)
    const rows = (await seen(database)).filter(({ op }) => op === 'r')
    requireForwards(rows)
    expect(rows.length).toBe(20_000)
    expect(new Set(rows.map(({ id }) => id)).size).toBe(20_000)
    await ask(database, { id: 'two', maxRowsPerSecond: 100 })
    await until(database, ({ kind, id }) => kind === 'backfill-started' && id === 'two')
    await ask(database, { id: 'two', do: 'cancel' })
    await until(database, ({ kind, id }) => kind === 'backfill-cancelled' && id === 'two')
    await ask(database, { id: 'three', tables: 'item' })
    await completed(database, 'three')
    expect(await second.stop()).toBeUndefined()
    await database.drop()
  })

  it('comes by itself for a table that joins the publication', async () => {
    const database = await freshDatabase()
    await database.query(`create table other (id int primary key, n int, note text);
      insert into other select g, 0 from generate_series(1, 1000) g;
      create table item (id int primary key, n int, note text); insert into item values (1, 0);
      create publication "${database.name}" for table item`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await database.query(`alter publication "${database.name}" add table other`)
    await completed(database, 'joined public.other')
    expect(await pipeline.stop()).toBeUndefined()
    expect((await seen(database, 'other')).filter(({ op }) => op === 'r')).toHaveLength(1000)
    expect((await seen(database)).map(({ op }) => op)).toEqual(['r'])
    await database.query(`create table third (id int primary key, n int, note text); insert into third values (1, 0);
      alter publication "${database.name}" add table third`)
    const again = startPipeline(database, { openLog })
    await completed(database, 'joined public.third')
    expect(await again.stop()).toBeUndefined()
    expect((await seen(database, 'third')).map(({ op }) => op)).toEqual(['r'])
    await database.drop()
  })

  it('of a table that joins waits for who had changed it before, for no stream has that', async () => {
    const database = await freshDatabase()
    await database.query(`create table other (id int primary key); create publication "${database.name}" for table other;
      create table item (id int primary key, n int, note text); insert into item select g, 0 from generate_series(1, 3) g`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    const open = await database.client()
    await open.query(
      'begin; update item set n = 1 where id = 1; insert into item values (4, 1); delete from item where id = 2',
    )
    await database.query(`alter publication "${database.name}" add table item`)
    await until(database, ({ kind, id }) => kind === 'backfill-started' && id === 'joined public.item')
    await new Promise((resolve) => setTimeout(resolve, 1000))
    expect((await seen(database)).filter(({ op }) => op === 'r')).toEqual([])
    await open.query('update item set n = 2 where id = 3; insert into other values (1); commit')
    await completed(database, 'joined public.item')
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    await requireEqual(database, await seen(database))
    await database.drop()
  })

  it('starts again where its key comes to be ordered otherwise', async () => {
    const database = await freshDatabase()
    const pipeline = await startStreaming(database, 3000)
    await ask(database, { maxRowsPerSecond: 2000 })
    await untilSeen(database, 500)
    await database.query('alter table item alter id type text')
    await completed(database)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect(await keysWith(database, '{"id":"')).toBe(3000)
    await database.drop()
  })

  it.each([
    ['before it', false],
    ['while it is under way', true],
  ])('lets no row travel back where commits wait for a standby %s', async (_, late) => {
    const server = await startPostgres({
      settings: { synchronous_standby_names: 'nobody', synchronous_commit: 'local' },
    })
    const database = await freshDatabase(server.url('postgres'))
    const pipeline = await startStreaming(database, 4000)
    // The second row is small in the end, and its note still out of line.
    await database.query(`alter table item add filler text, alter note set storage external, alter filler set storage external;
      alter table item set (toast_tuple_target = 128);
      update item set note = repeat('x', 4000) where id = 3900;
      update item set note = repeat('y', 200), filler = repeat('z', 4000) where id = 3890;
      update item set filler = null where id = 3890`)
    const start = async (): Promise<void> => ask(database, { maxRowsPerSecond: 2000 })
    if (late) {
      await start()
      await untilSeen(database, 400)
    }
    const hanging = await hangCommits(database, [
      'insert into item values (5000, 1)',
      'update item set n = 1 where id in (1, 3890, 3900)',
      'delete from item where id = 3950',
    ])
    await pipeline.caughtUp()
    // The row whose update does not say its note is read again until that can be seen.
    if (late) await untilSeen(database, 3850)
    else {
      await start()
      await until(database, ({ kind }) => kind === 'backfill-started')
      await new Promise((resolve) => setTimeout(resolve, 1000))
      expect((await seen(database)).filter(({ op }) => op === 'r')).toEqual([])
    }
    await hanging.release()
    await completed(database)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const events = await seen(database)
    requireForwards(events)
    await requireEqual(database, events)
    const noted = events.findLast(({ id, note }) => id === 3900 && note !== undefined)
    expect(noted).toMatchObject({ op: 'r', n: 1, note: 'x'.repeat(4000) })
    const small = events.findLast(({ id, note }) => id === 3890 && note !== undefined)
    expect(small).toMatchObject({ op: 'r', n: 1, note: 'y'.repeat(200) })
    const gone = events.findLastIndex(({ op, id }) => op === 'd' && id === 3950)
    expect(events.slice(gone + 1).filter(({ id }) => id === 3950)).toEqual([])
    await database.drop()
    await server.stop()
  })
})
