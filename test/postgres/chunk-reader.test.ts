/** Chunks of a table, as a live backfill reads them. */
import { publishedTables } from '../../src/postgres/catalog.js'
import { CHUNK_BYTES, chunkKey, ChunkReader, nextRows } from '../../src/postgres/chunk-reader.js'
import { connect } from '../../src/postgres/connection.js'
import { connectionOptions } from '../../src/postgres/connection-options.js'
import { Proxy } from '../faults/harness/proxy.js'
import { freshDatabase } from '../support/servers.js'

const NARROW = 2000
const WIDE = 200

it('does not read a hundred megabytes to keep one row of them', async () => {
  const database = await freshDatabase()
  await database.query(`create table item (id int primary key, note text);
    insert into item select g, case when g > ${NARROW} then repeat('w', 1000000) end from generate_series(1, ${NARROW + WIDE}) g;
    create publication everything for table item`)
  const proxy = await Proxy.start(Number(new URL(database.url).port))
  const url = new URL(database.url)
  url.port = String(proxy.port)
  const { signal } = new AbortController()
  const to = connectionOptions(url.toString(), {}, 'postgres')
  const catalog = await connect(to, { kind: 'ordinary', signal })
  const [table] = await publishedTables(catalog, 'everything')
  const key = await chunkKey(catalog, table!.relation)
  await catalog.close()
  const reader = await ChunkReader.open(to, signal)
  const sizes: number[] = []
  let after: string[] | null = null
  let [rows, last] = [NARROW + WIDE, 0]
  for (let chunks = 0; chunks < 4; chunks++) {
    const before = proxy.served
    const chunk = await reader.read({ table: table!, key: key!, after, rows, bytes: CHUNK_BYTES })
    const { count } = chunk.rows
    expect(proxy.served - before).toBeLessThan(20e6)
    expect(Number(chunk.keyOf(0).values[0])).toBe(last + 1)
    sizes.push(count)
    after = chunk.keyOf(count - 1).values
    last = Number(after[0])
    rows = nextRows(rows, count, 1, chunk.rowBytes)
    chunk.release()
  }
  // What was read of the wide ones says how many to ask for.
  expect(sizes).toEqual([NARROW, 1, 1, 1])
  reader.close()
  await proxy.close()
  await database.drop()
})
