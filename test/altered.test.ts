/** While evert runs: the publication changes, a schema is renamed, changes come through an origin, messages, many columns. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log, LogRecord } from '../src/log/log.js'
import { readAll, type RunningPipeline, startPipeline } from './support/pipeline.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

describe('while evert runs', () => {
  let database: TestDatabase
  let directory: string
  const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })

  beforeEach(async () => {
    database = await freshDatabase()
    directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  })

  afterEach(async () => {
    await database.drop()
    rmSync(directory, { recursive: true, force: true })
  })

  async function records(prefix = `${database.name}.public.`): Promise<LogRecord[]> {
    const log = await openLog()
    const all = await readAll(log, prefix)
    await log.close()
    return all
  }

  const rows = (all: readonly LogRecord[]): unknown[] =>
    all.map(({ topic, value }) => [topic.split('.').at(-1), JSON.parse(String(value)).after])

  async function run(pipeline: RunningPipeline, statements: readonly string[]): Promise<void> {
    for (const statement of statements) {
      await database.query(statement)
      await pipeline.caughtUp()
    }
    expect(await pipeline.stop()).toBeUndefined()
  }

  it('a table joins and leaves the publication; a column list and a row filter come and go', async () => {
    await database.query(`create table a (id int primary key, n int); create table b (id int primary key);
      create publication "${database.name}" for table a`)
    // Otherwise the rows of the table that joins come, too, should it be noticed before it leaves.
    const pipeline = startPipeline(database, { openLog, newTables: 'stream' })
    await pipeline.caughtUp()
    const alter = `alter publication "${database.name}"`
    await run(pipeline, [
      `insert into a values (1, 1); insert into b values (1)`,
      `${alter} add table b`,
      `insert into b values (2)`,
      `${alter} set table a (id), b`,
      `insert into a values (2, 2)`,
      `${alter} set table a where (id > 10), b`,
      `insert into a values (3, 3), (11, 11)`,
      `${alter} drop table b`,
      `insert into b values (3); insert into a values (12, 12)`,
    ])
    expect(rows(await records())).toEqual([
      ['a', { id: 1, n: 1 }],
      ['a', { id: 2 }],
      ['a', { id: 11, n: 11 }],
      ['a', { id: 12, n: 12 }],
      ['b', { id: 2 }],
    ])
  })

  it('a schema is renamed: from then on its tables are under the new name', async () => {
    await database.query(`create schema old; create table old.item (id int primary key);
      create publication "${database.name}" for all tables`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await run(pipeline, [
      `insert into old.item values (1)`,
      `alter schema old rename to new`,
      `insert into new.item values (2)`,
    ])
    const seen = (await records(`${database.name}.`)).filter(({ topic }) => topic.endsWith('.item'))
    expect(seen.map(({ topic, key }) => [topic.split('.')[1], String(key)])).toEqual([
      ['new', '{"id":2}'],
      ['old', '{"id":1}'],
    ])
  })

  it.each([
    ['published, and named', (): boolean => false, [1, 2, 3]],
    ['left out', (name: string): boolean => name.endsWith('_upstream'), [1, 3]],
  ])('what came through a replication origin is %s', async (_, skipsOrigin, ids) => {
    const origin = `${database.name}_${'"'.repeat(400)}_upstream`
    await database.query(`create table item (id int primary key); select pg_replication_origin_create('${origin}')`)
    const pipeline = startPipeline(database, { openLog, skipsOrigin })
    await pipeline.caughtUp()
    await run(pipeline, [
      `insert into item values (1)`,
      `select pg_replication_origin_session_setup('${origin}')`,
      `begin; select pg_replication_origin_xact_setup('0/1', now()); insert into item values (2); commit`,
      `select pg_replication_origin_session_reset()`,
      `insert into item values (3)`,
    ])
    const seen = (await records()).map(({ value }) => JSON.parse(String(value)))
    expect(seen.map(({ after }) => after.id)).toEqual(ids)
    for (const { after, source } of seen) expect(source.origin).toBe(after.id === 2 ? origin : undefined)
    await database.query(`select pg_replication_origin_drop('${origin}')`)
  })

  it('logical messages come, inside a transaction or not, text or binary, and those of a rollback only if they are not part of it', async () => {
    await database.query(`create table item (id int primary key)`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await run(pipeline, [
      `select pg_logical_emit_message(true, 'a', 'text é')`,
      `select pg_logical_emit_message(false, 'b', '\\x00ff'::bytea)`,
      `begin; select pg_logical_emit_message(true, 'c', 'lost'); select pg_logical_emit_message(false, 'd', 'kept'); rollback`,
    ])
    const seen = (await records(`${database.name}.message`)).map(({ value }) => JSON.parse(String(value)))
    expect(seen.filter(({ message }) => message.prefix !== 'test')).toEqual([
      expect.objectContaining({ op: 'm', message: { prefix: 'a', content: Buffer.from('text é').toString('base64') } }),
      expect.objectContaining({ op: 'm', message: { prefix: 'b', content: 'AP8=' } }),
      expect.objectContaining({ op: 'm', message: { prefix: 'd', content: Buffer.from('kept').toString('base64') } }),
    ])
    const positions = seen.map(({ source }) => source.position)
    expect(positions).toEqual([...new Set(positions)].toSorted())
  })

  it('a table has 1,600 columns', async () => {
    const names = Array.from({ length: 1599 }, (_, i) => `c${i}`)
    await database.query(`create table item (id int primary key, ${names.map((name) => `${name} boolean`).join(', ')})`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await run(pipeline, [`insert into item (id, c0, c1598) values (1, true, false)`, `update item set c7 = true`])
    const [insert, update] = (await records()).map(({ value }) => JSON.parse(String(value)).after)
    const none = Object.fromEntries(names.map((name) => [name, null]))
    expect(insert).toEqual({ id: 1, ...none, c0: true, c1598: false })
    expect(update).toEqual({ id: 1, ...none, c0: true, c7: true, c1598: false })
  })

  it('generated columns that the publication publishes are in the snapshot as in the stream', async () => {
    await database.query(`create table item (id int primary key, n int, twice int generated always as (n * 2) stored);
      create publication "${database.name}" for table item with (publish_generated_columns = stored); insert into item values (1, 1)`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await run(pipeline, [`insert into item values (2, 2)`])
    expect(rows(await records())).toEqual([
      ['item', { id: 1, n: 1, twice: 2 }],
      ['item', { id: 2, n: 2, twice: 4 }],
    ])
  })

  it('a numeric has all the digits that Postgres allows', async () => {
    await database.query(`create table item (id int primary key, n numeric)`)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    await run(pipeline, [`insert into item values (1, (repeat('9', 131072) || '.' || repeat('8', 16383))::numeric)`])
    const [record] = await records()
    const { n } = JSON.parse(String(record?.value)).after
    expect(n === `${'9'.repeat(131_072)}.${'8'.repeat(16_383)}`).toBe(true)
  })
})
