/** Bad input: what a pipeline is refused for, the error that says so, and that nothing is left behind or lost. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Logger, silentLogger } from '../src/base/logger.js'
import type { LocalPostgres } from '../src/cli/local-postgres.js'
import { connectionOptions } from '../src/postgres/connection-options.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log } from '../src/log/log.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { startPostgres } from './support/postgres.js'
import { freshDatabase, type TestDatabase, uniqueName } from './support/servers.js'

let database: TestDatabase
let directory: string
let role: string
const servers: LocalPostgres[] = []
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })

beforeEach(async () => {
  database = await freshDatabase()
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  role = uniqueName('role')
  await database.query(`create table item (id int primary key, name text); insert into item values (1, 'one')`)
})

afterEach(async () => {
  await database.query(`drop owned by "${role}"`).catch(() => undefined)
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
})

afterAll(async () => {
  for (const server of servers) await server.stop()
})

/** The error that a pipeline ends with by itself. */
async function refusal(
  options: Partial<Parameters<typeof startPipeline>[1]> = {},
  from: TestDatabase = database,
): Promise<{ code?: string; message: string; hint?: string }> {
  return (await startPipeline(from, { openLog, ...options }).ended) as { message: string }
}

/** A connection as a role without any right but those given. */
async function connectionAs(attributes: string, grants = ''): Promise<ReturnType<typeof connectionOptions>> {
  await database.query(`create role "${role}" login ${attributes}`)
  if (grants !== '') await database.query(grants.replaceAll('ROLE', `"${role}"`))
  const url = new URL(database.url)
  url.username = role
  return connectionOptions(url.href, {}, role)
}

function collecting(): { logger: Logger; warnings: { fields: object; message: string }[] } {
  const warnings: { fields: object; message: string }[] = []
  return { warnings, logger: { ...silentLogger, warn: (fields, message) => void warnings.push({ fields, message }) } }
}

async function startServer(settings: Readonly<Record<string, string>>): Promise<LocalPostgres> {
  const started = await startPostgres({ settings })
  servers.push(started)
  return started
}

describe('a pipeline is refused', () => {
  it('where the server does not run with wal_level=logical', async () => {
    const plain = await startServer({ wal_level: 'replica' })
    const connection = connectionOptions(plain.url('postgres'), {}, 'postgres')
    expect(await refusal({ connection })).toMatchObject({
      code: 'WAL_LEVEL',
      message: expect.stringContaining('wal_level=replica'),
      hint: expect.stringContaining(`alter system set wal_level = 'logical'`),
    })
  })

  it('where the role may not replicate', async () => {
    expect(await refusal({ connection: await connectionAs('') })).toMatchObject({
      code: 'REPLICATION_PERMISSION',
      hint: expect.stringContaining(`alter role "${role}" replication`),
    })
  })

  it('where the role may not create the publication, with the statement for somebody who may', async () => {
    expect(await refusal({ connection: await connectionAs('replication'), publication: 'books' })).toMatchObject({
      code: 'POSTGRES_PERMISSION',
      hint: expect.stringMatching(/create publication "books" for table only "public"\."item"/i),
    })
  })

  it('where the role may not read a table, and leaves no slot behind', async () => {
    await database.query(`create publication "${database.name}" for table item`)
    expect(await refusal({ connection: await connectionAs('replication') })).toMatchObject({
      code: 'POSTGRES_PERMISSION',
      hint: expect.stringContaining(`grant select on "public"."item" to "${role}"`),
    })
    expect(await slots()).toEqual([])
  })

  it('never, where it may do just that much: REPLICATION, SELECT and a publication', async () => {
    await database.query(`create publication "${database.name}" for table item`)
    const connection = await connectionAs('replication', 'grant select on item to ROLE')
    const pipeline = startPipeline(database, { openLog, connection })
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
  })

  it('never, where it may read the columns that are published, and the table is read in parts', async () => {
    await database.query(`create table large (id int primary key, note text, secret text);
      insert into large select g, repeat('x', 900), 'secret' from generate_series(1, 45000) g;
      create publication "${database.name}" for table large (id, note)`)
    const connection = await connectionAs('replication', 'grant select (id, note) on large to ROLE')
    const pipeline = startPipeline(database, { openLog, connection })
    const published = async (): Promise<number> => {
      const log = await openLog()
      const { length } = await readAll(log, `${database.name}.public.large`)
      await log.close()
      return length
    }
    while ((await Promise.race([published(), pipeline.ended.then(() => 0)])) < 45_000) {
      expect(await Promise.race([pipeline.ended, 'it goes on'])).toBe('it goes on')
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    expect(await pipeline.stop()).toBeUndefined()
  })

  it('where the slot belongs to another plugin', async () => {
    await database
      .query(`select pg_create_logical_replication_slot('${database.name}', 'test_decoding')`)
      .catch(async () => await database.query(`select pg_create_physical_replication_slot('${database.name}')`))
    expect(await refusal()).toMatchObject({ code: 'SLOT_FOREIGN', hint: expect.stringContaining('--slot') })
    await database.query(`select pg_drop_replication_slot('${database.name}')`)
  })

  it('where the slot belongs to another database', async () => {
    const other = await freshDatabase()
    await other.query(`select pg_create_logical_replication_slot('${other.name}', 'pgoutput')`)
    expect(await refusal({ slot: other.name })).toMatchObject({
      code: 'SLOT_FOREIGN',
      message: expect.stringContaining(`"${other.name}"`),
    })
    await other.drop()
  })

  it('where no slot and where no walsender is free', async () => {
    const small = await startServer({ max_replication_slots: '1', max_wal_senders: '2' })
    const here = await freshDatabase(small.url('postgres'))
    await here.query(`create table item (id int primary key)`)
    await here.query(`select pg_create_physical_replication_slot('taken')`)
    expect(await refusal({}, here)).toMatchObject({
      code: 'SLOTS_EXHAUSTED',
      hint: expect.stringContaining('max_replication_slots'),
    })
    await here.query(`select pg_drop_replication_slot('taken')`)
    await here.drop()
    const none = await startServer({ max_wal_senders: '0' })
    const there = await freshDatabase(none.url('postgres'))
    await there.query(`create table item (id int primary key)`)
    expect(await refusal({}, there)).toMatchObject({
      code: 'SLOTS_EXHAUSTED',
      hint: expect.stringContaining('max_wal_senders'),
    })
    await there.drop()
  })

  it('where --tables matches nothing, and where the publication is empty', async () => {
    expect(await refusal({ tables: 'public.nothing' })).toMatchObject({ code: 'PUBLICATION_EMPTY' })
    await database.query(`create publication "${database.name}"`)
    expect(await refusal()).toMatchObject({ code: 'PUBLICATION_EMPTY' })
    expect(await slots()).toEqual([])
  })

  it('where the password is wrong or the database is not there', async () => {
    const url = new URL(database.url)
    url.pathname = '/nowhere'
    const connection = connectionOptions(url.href, {}, 'postgres')
    expect(await refusal({ connection })).toMatchObject({
      code: 'POSTGRES_AUTHENTICATION',
      message: expect.stringContaining('nowhere'),
    })
  })
})

describe('a pipeline that has run is refused', () => {
  beforeEach(async () => {
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await pipeline.stop()
  })

  it('where its slot is gone', async () => {
    await database.query(`select pg_drop_replication_slot('${database.name}')`)
    expect(await refusal()).toMatchObject({
      code: 'SLOT_MISSING',
      hint: expect.stringContaining('--on-loss resnapshot'),
    })
    expect(await slots()).toEqual([])
  })

  it('where its slot was made anew, or moved by somebody else', async () => {
    await database.query(`insert into item values (2, 'two')`)
    await database.query(`select pg_replication_slot_advance('${database.name}', pg_current_wal_insert_lsn())`)
    expect(await refusal()).toMatchObject({ code: 'SLOT_AHEAD', message: expect.stringContaining('are gone') })
  })

  it('where the log belongs to another database', async () => {
    const other = await freshDatabase()
    await other.query(`create table item (id int primary key)`)
    expect(await refusal({ name: database.name, slot: other.name, publication: other.name }, other)).toMatchObject({
      code: expect.stringMatching(/SERVER_FOREIGN|SLOT_MISSING/),
    })
    await other.drop()
  })
})

describe('a pipeline warns', () => {
  it('of a table without a replica identity, and publishes its inserts', async () => {
    await database.query(`create table heap (note text)`)
    const { logger, warnings } = collecting()
    const pipeline = startPipeline(database, { openLog, logger })
    await pipeline.caughtUp()
    expect(warnings).toContainEqual({
      fields: { tables: ['"public"."heap"'] },
      message: expect.stringContaining('replica identity'),
    })
    await database.query(`insert into heap values ('kept')`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
  })

  it('of transactions that its slot waits for', async () => {
    const session = await database.client()
    await session.query('begin')
    await session.query(`insert into item values (7, 'open')`)
    const { logger, warnings } = collecting()
    const pipeline = startPipeline(database, { openLog, logger })
    while (!warnings.some(({ message }) => message.includes('waits for'))) {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    await session.query('commit')
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
  })
})

async function slots(): Promise<unknown[]> {
  return await database.query(`select slot_name from pg_replication_slots where database = '${database.name}'`)
}
