/** Promise 1 across a failover of Postgres: a promoted standby that carries the slot is followed; one without it is refused. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalPostgres } from '../../src/cli/local-postgres.js'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import type { Log } from '../../src/log/log.js'
import { connectionOptions } from '../../src/postgres/connection-options.js'
import { readAll, startPipeline } from '../support/pipeline.js'
import { startPostgres } from '../support/postgres.js'
import { freshDatabase, openSession, type TestDatabase } from '../support/servers.js'
import { STANDBY_SLOT, startStandby } from '../support/standby.js'

let directory: string
let servers: LocalPostgres[]
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  servers = []
})

afterEach(async () => {
  for (const server of servers) await server.stop()
  rmSync(directory, { recursive: true, force: true })
})

/** A primary with a table, and its standby. */
async function pair(
  major: number,
  settings: { readonly primary?: Record<string, string>; readonly standby?: Record<string, string> } = {},
): Promise<{ primary: LocalPostgres; standby: LocalPostgres; database: TestDatabase }> {
  const primary = await startPostgres({ major, settings: settings.primary ?? {} })
  servers.push(primary)
  const database = await freshDatabase(primary.url('postgres'))
  await database.query('create table item (id int primary key)')
  const standby = await startStandby(primary, { major, settings: settings.standby ?? {} })
  servers.push(standby)
  return { primary, standby, database }
}

/** `database`, on both hosts, in that order. */
function both(
  first: LocalPostgres,
  second: LocalPostgres,
  database: TestDatabase,
): ReturnType<typeof connectionOptions> {
  const hosts = [first, second].map(({ host, port }) => `${host}:${port}`).join(',')
  return connectionOptions(`postgres://postgres@${hosts}/${database.name}`, {}, 'postgres')
}

async function until(query: TestDatabase['query'], condition: string): Promise<void> {
  while ((await query(`select 1 where ${condition}`)).length === 0)
    await new Promise((resolve) => setTimeout(resolve, 50))
}

async function ids(database: TestDatabase): Promise<number[]> {
  const log = await openLog()
  const records = await readAll(log, `${database.name}.public.item`)
  await log.close()
  return records.map(({ value }) => JSON.parse(String(value)).after.id)
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe.each([17, 18])('a failover of Postgres %i', (major) => {
  it('to a standby that carries the slot loses nothing and repeats nothing', async () => {
    const { primary, standby, database } = await pair(major, {
      // A walsender sends no more than the standby has, so that evert is never ahead of it.
      primary: { synchronized_standby_slots: STANDBY_SLOT },
      standby: { sync_replication_slots: 'on' },
    })
    const pipeline = startPipeline(database, { openLog, connection: both(standby, primary, database) })
    await pipeline.caughtUp()
    await database.query('insert into item select generate_series(1, 100)')
    await pipeline.caughtUp()
    const onStandby = await openSession(standby.url(database.name))
    await until(
      onStandby,
      `exists (select from pg_replication_slots where slot_name = '${database.name}' and synced and not temporary)`,
    )

    await primary.kill('SIGKILL')
    await onStandby('select pg_promote()')
    await onStandby('insert into item select generate_series(101, 200)')
    const promoted = { ...database, query: onStandby }
    await waitFor(promoted)
    await onStandby('insert into item select generate_series(201, 300)')
    await waitFor(promoted)
    expect(await pipeline.stop()).toBeUndefined()
    expect(await ids(database)).toEqual(range(1, 300))
  })

  it('to a standby without the slot is refused', async () => {
    const { primary, standby, database } = await pair(major)
    const pipeline = startPipeline(database, { openLog, connection: both(primary, standby, database) })
    await pipeline.caughtUp()
    await database.query('insert into item select generate_series(1, 100)')
    await pipeline.caughtUp()
    const onStandby = await openSession(standby.url(database.name))
    await until(onStandby, `exists (select from item where id = 100)`)
    await primary.kill('SIGKILL')
    await onStandby('select pg_promote()')
    expect(await pipeline.ended).toMatchObject({
      code: 'SLOT_MISSING',
      exit: 3,
      message: expect.stringMatching(/is gone, but the log .* ends at/),
    })
  })
})

describe('a failover', () => {
  it('to a standby that lacks what was published is refused', async () => {
    const { primary, standby, database } = await pair(18, { standby: { sync_replication_slots: 'on' } })
    const pipeline = startPipeline(database, { openLog, connection: both(primary, standby, database) })
    await pipeline.caughtUp()
    const onStandby = await openSession(standby.url(database.name))
    await until(
      onStandby,
      `exists (select from pg_replication_slots where slot_name = '${database.name}' and synced and not temporary)`,
    )
    // From here on the standby receives nothing.
    await onStandby(`alter system set primary_conninfo = ''`)
    await onStandby('select pg_reload_conf()')
    await until(onStandby, 'not exists (select from pg_stat_wal_receiver)')
    await database.query('insert into item select generate_series(1, 20000)')
    await pipeline.caughtUp()
    await primary.kill('SIGKILL')
    await onStandby('select pg_promote()')
    expect(await pipeline.ended).toMatchObject({
      code: 'SERVER_BEHIND',
      exit: 3,
      message: expect.stringContaining('promoted'),
    })
  })
})

describe.each([16, 18])('a standby of Postgres %i', (major) => {
  it('is read from, snapshot and stream', async () => {
    const { standby, database } = await pair(major)
    const onStandby = await openSession(standby.url(database.name))
    await database.query(
      `insert into item select generate_series(1, 10); create publication "${database.name}" for table item`,
    )
    await until(onStandby, `exists (select from pg_publication where pubname = '${database.name}')`)
    const connection = connectionOptions(standby.url(database.name), {}, 'postgres')
    const pipeline = startPipeline(database, { openLog, connection })
    // Without it the standby learns of the primary's running transactions a quarter of a minute later.
    const asking = setInterval(
      () => void database.query('select pg_log_standby_snapshot()').catch(() => undefined),
      500,
    )
    await pipeline.caughtUp()
    clearInterval(asking)
    await database.query('insert into item select generate_series(11, 20)')
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    expect(await ids(database)).toEqual(range(1, 20))
    expect(await database.query(`select slot_name from pg_replication_slots where slot_type = 'logical'`)).toEqual([])
  })
})

it('is refused where the publication is missing and only the primary can make it', async () => {
  const { standby, database } = await pair(18)
  const connection = connectionOptions(standby.url(database.name), {}, 'postgres')
  expect(await startPipeline(database, { openLog, connection }).ended).toMatchObject({
    code: 'POSTGRES_STANDBY',
    hint: expect.stringMatching(/on the primary: create publication/i),
  })
})

/** Until everything that is committed in the promoted server is in the log. */
async function waitFor(promoted: Pick<TestDatabase, 'query' | 'name'>): Promise<void> {
  const [row] = await promoted.query(`select pg_logical_emit_message(true, 'test', 'mark')::text as lsn`)
  await until(
    promoted.query,
    `exists (select from pg_replication_slots where slot_name = '${promoted.name}' and confirmed_flush_lsn >= '${row?.['lsn'] ?? ''}')`,
  )
}
