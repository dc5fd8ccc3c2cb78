/** What a live backfill asks the catalog. */
import { askCatalog } from '../../src/postgres/backfill-subject.js'
import { publishedTables } from '../../src/postgres/catalog.js'
import { connectionOptions } from '../../src/postgres/connection-options.js'
import { freshDatabase } from '../support/servers.js'

it('asks about one table of many, and says who has one for himself', async () => {
  const database = await freshDatabase()
  await database.query(`create table item (id int primary key); create table other (id int primary key);
    create publication everything for all tables`)
  const to = connectionOptions(database.url, {}, 'postgres')
  const { signal } = new AbortController()
  const [row] = await database.query(`select 'item'::regclass::oid as oid`)
  const ask = (oid: number): Promise<unknown> =>
    askCatalog(to, signal, (catalog) => publishedTables(catalog, 'everything', oid))
  expect(await ask(Number(row?.['oid']))).toMatchObject([{ relation: { table: 'item' } }])
  const session = await database.client()
  await session.query('begin; lock table other in access exclusive mode')
  const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid')
  await expect(ask(0)).rejects.toMatchObject({
    code: 'SNAPSHOT_OVERTAKEN',
    message: expect.stringContaining(`other (pid ${rows[0]?.pid})`),
  })
  await session.query('rollback')
  await database.drop()
})
