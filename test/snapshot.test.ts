/** Promise 5: a snapshot never travels back in time, and nothing falls between it and the stream. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '../src/base/logger.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log } from '../src/log/log.js'
import { hangCommits } from './support/hanging-commits.js'
import { type ItemEvent, itemEvents, requireForwards } from './support/item-events.js'
import { readAll, startPipeline, withWriters } from './support/pipeline.js'
import { startPostgres } from './support/postgres.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

const ROWS = 100_000
let directory: string
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

const seen = (database: TestDatabase): Promise<ItemEvent[]> => itemEvents(openLog, database)

describe('a first snapshot', () => {
  it('that is interrupted starts again, says so, and leaves one slot', async () => {
    const database = await freshDatabase()
    await database.query(
      `create table item (id int primary key, n int); insert into item select g, 0 from generate_series(1, ${ROWS}) g`,
    )
    let interrupted = (): void => undefined
    const interruption = new Promise<void>((resolve) => (interrupted = resolve))
    const first = startPipeline(database, { openLog, limits: { bytes: 65_536, ageMs: 0 }, onCommit: interrupted })
    await interruption
    expect(await first.stop()).toBeUndefined()
    const before = await seen(database)
    expect(before.length).toBeGreaterThan(0)
    expect(before.length).toBeLessThan(ROWS)

    await database.query('update item set n = n + 1 where id % 100 = 1')
    const warnings: string[] = []
    const logger = { ...silentLogger, warn: (_: object, message: string) => void warnings.push(message) }
    const second = startPipeline(database, { openLog, logger })
    // The stream up to the new snapshot comes first; only what is behind it tells that the snapshot is in the log.
    await second.caughtUp()
    await second.caughtUp()
    expect(await second.stop()).toBeUndefined()
    expect(warnings).toEqual([expect.stringContaining('interrupted')])

    const events = await seen(database)
    requireForwards(events)
    const again = events.slice(before.length).filter(({ op }) => op === 'r')
    expect(new Set(again.map(({ id }) => id)).size).toBe(ROWS)
    expect(again.length).toBe(ROWS)
    expect(again.filter(({ id, n }) => n !== (id % 100 === 1 ? 1 : 0))).toEqual([])
    const log = await openLog()
    const told = (await readAll(log, `${database.name}.notification`)).map(({ value }) => JSON.parse(String(value)))
    await log.close()
    expect(told).toMatchObject([
      { kind: 'snapshot-started', tables: 1, bytes: expect.any(Number) },
      { kind: 'snapshot-interrupted', lsn: told[0].lsn },
      { kind: 'snapshot-started' },
      { kind: 'snapshot-table', lsn: told[2].lsn, schema: 'public', table: 'item', rows: ROWS },
      { kind: 'snapshot-complete', lsn: told[2].lsn, rows: ROWS },
    ])
    expect(
      await database.query(`select slot_name from pg_replication_slots where database = '${database.name}'`),
    ).toEqual([{ slot_name: database.name }])
    await database.drop()
  })

  it('loses nothing where commits wait for a synchronous standby, in the WAL before any snapshot sees them', async () => {
    const server = await startPostgres({
      settings: { synchronous_standby_names: 'nobody', synchronous_commit: 'local' },
    })
    const database = await freshDatabase(server.url('postgres'))
    await database.query('create table item (id int primary key, n int); insert into item values (1, 0), (2, 0)')
    await database.query(`create publication "${database.name}" for table item`)
    await database.query(`select pg_create_logical_replication_slot('${database.name}', 'pgoutput')`)
    const hanging = await hangCommits(database, [
      'insert into item values (3, 0)',
      'update item set n = 1 where id = 1',
    ])
    const said: string[] = []
    const logger = { ...silentLogger, warn: (_: object, message: string) => void said.push(message) }
    const pipeline = startPipeline(database, { openLog, logger })
    while (!said.some((message) => message.includes('waits for')))
      await new Promise((resolve) => setTimeout(resolve, 20))
    await hanging.release()
    await pipeline.caughtUp()
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const events = await seen(database)
    requireForwards(events)
    const last = new Map(events.map(({ id, n }) => [id, n]))
    expect([...last].toSorted(([a], [b]) => a - b)).toEqual([
      [1, 1],
      [2, 0],
      [3, 0],
    ])
    for (const op of ['c', 'u']) expect(events.filter((event) => event.op === op)).toHaveLength(1)
    await database.drop()
    await server.stop()
  })

  it('is left out with --snapshot none', async () => {
    const database = await freshDatabase()
    await database.query('create table item (id int primary key, n int); insert into item values (1, 0)')
    const pipeline = startPipeline(database, { openLog, snapshot: 'none' })
    await pipeline.caughtUp()
    await database.query('insert into item values (2, 0)')
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect((await seen(database)).map(({ op, id }) => [op, id])).toEqual([['c', 2]])
    await database.drop()
  })

  it('has rows of every published table: partitioned, inherited, with a row filter or a column list', async () => {
    const database = await freshDatabase()
    await database.query(`
      create table item (id int primary key, n int) partition by range (id);
      create table item_low partition of item for values from (0) to (100);
      create table item_high partition of item for values from (100) to (200);
      insert into item values (1, 1), (101, 2), (150, 3);
      create publication "${database.name}" for table item (id, n) where (id < 150) with (publish_via_partition_root = true)`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await database.query('insert into item values (2, 4), (102, 5), (151, 6)')
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect((await seen(database)).map(({ op, id }) => [op, id])).toEqual([
      ['r', 1],
      ['r', 101],
      ['c', 2],
      ['c', 102],
    ])
    await database.drop()
  })

  it('begins again where a composite type is altered while its rows are read, for only tables are locked', async () => {
    const database = await freshDatabase()
    await database.query(`create type pair as (a int, b text);
      create table item (id int primary key, n int, p pair, pad text); alter table item alter pad set storage external;
      insert into item select g, 0, row(g, 'b')::pair, repeat('x', 2500) from generate_series(1, 30000) g`)
    let attempts = 0
    const openLogAndAlter = withWriters(openLog, (writer) => {
      const append = writer.append.bind(writer)
      let altered = attempts++ > 0
      writer.append = async (filled, progress) => {
        if (filled.records > 100 && !altered) {
          altered = true
          await database.query('alter type pair add attribute c int')
        }
        await append(filled, progress)
      }
    })
    const pipeline = startPipeline(database, {
      openLog: openLogAndAlter,
      limits: { bytes: 1 << 20, ageMs: 0 },
      readers: 1,
    })
    // The stream up to the second snapshot comes first.
    await pipeline.caughtUp()
    await pipeline.caughtUp()
    await database.query(`insert into item values (0, 0, row(1, 'b', 2)::pair, null)`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect(attempts).toBe(2)
    const log = await openLog()
    const rows = (await readAll(log, `${database.name}.public.item`)).map(
      ({ value }) => JSON.parse(String(value)).after,
    )
    await log.close()
    const whole = rows.filter(({ p }) => 'c' in p)
    expect(new Set(whole.map(({ id }) => id)).size).toBe(30_001)
    expect(whole.find(({ id }) => id === 7).p).toEqual({ a: 7, b: 'b', c: null })
    await database.drop()
  })

  it('has the tables that are there when it is taken, not those that were there when evert started', async () => {
    const database = await freshDatabase()
    await database.query('create table item (id int primary key, n int); insert into item values (1, 0)')
    await database.query(`create publication "${database.name}" for all tables`)
    const open = await database.client()
    await open.query('begin; select txid_current()')
    const said: string[] = []
    const logger = { ...silentLogger, warn: (_: object, message: string) => void said.push(message) }
    const pipeline = startPipeline(database, { openLog, logger })
    while (!said.some((message) => message.includes('waits for')))
      await new Promise((resolve) => setTimeout(resolve, 20))
    await database.query(`create table late (id int primary key); insert into late values (7);
      alter table item add column note text; update item set note = 'new'`)
    await open.query('commit')
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const log = await openLog()
    const records = await readAll(log, `${database.name}.public.`)
    await log.close()
    expect(records.map(({ value }) => JSON.parse(String(value))).map(({ op, after }) => [op, after])).toEqual([
      ['r', { id: 1, n: 0, note: 'new' }],
      ['r', { id: 7 }],
    ])
    await database.drop()
  })
})
