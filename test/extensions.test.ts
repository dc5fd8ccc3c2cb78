/** Types of extensions that evert knows nothing of are their Postgres text: PostGIS, where the distribution's Postgres has it. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startLocalPostgres } from '../src/cli/local-postgres.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log } from '../src/log/log.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { freshDatabase } from './support/servers.js'

/** As Debian lays them out: package postgresql-postgis. */
const SERVERS = '/usr/lib/postgresql'
const major = (existsSync(SERVERS) ? readdirSync(SERVERS) : []).find((version) =>
  existsSync(`/usr/share/postgresql/${version}/extension/postgis.control`),
)
const describePostgis = major === undefined ? describe.skip : describe

describePostgis('PostGIS', () => {
  it('comes as its text, alone and in arrays, from the snapshot and from the stream', async () => {
    const server = await startLocalPostgres({ native: `${SERVERS}/${major}` })
    const database = await freshDatabase(server.url('postgres'))
    const directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
    const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })
    const row = `st_setsrid(st_makepoint(1, 2), 4326), array[st_makepoint(1, 2), null, st_makepoint(3, 4)], 'box(0 0,1 1)', 'point(1 2)'`
    await database.query(`create extension postgis;
      create table item (id int primary key, g geometry(point, 4326), gs geometry[], b box2d, geo geography); insert into item values (1, ${row})`)
    const pipeline = startPipeline(database, { openLog, tables: 'public.item' })
    await pipeline.caughtUp()
    await database.query(`insert into item values (2, ${row})`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const log = await openLog()
    const events = (await readAll(log, `${database.name}.public.item`)).map(
      ({ value }) => JSON.parse(String(value)).after,
    )
    await log.close()
    const [text] = await database.query(
      `select g::text, gs[1]::text as first, gs[3]::text as third, b::text, geo::text from item where id = 1`,
    )
    const { g, first, third, b, geo } = text ?? {}
    expect(events).toEqual([1, 2].map((id) => ({ id, g, gs: [first, null, third], b, geo })))
    await database.drop()
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  })
})
