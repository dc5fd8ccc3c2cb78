/** What a snapshot with several readers rests on: parts that make up a whole table, and tables that stay as they are meanwhile. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { Closers } from '../../src/base/closers.js'
import { silentLogger } from '../../src/base/logger.js'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import type { Log } from '../../src/log/log.js'
import type { PublishedTable } from '../../src/postgres/catalog.js'
import { connect } from '../../src/postgres/connection.js'
import { connectionOptions } from '../../src/postgres/connection-options.js'
import { Snapshot } from '../../src/postgres/snapshot.js'
import { snapshotUnits } from '../../src/postgres/snapshot-units.js'
import { tablePatterns } from '../../src/postgres/table-patterns.js'
import { readAll, startPipeline } from '../support/pipeline.js'
import { freshDatabase, type TestDatabase } from '../support/servers.js'

const BLOCK_BYTES = 8192
const all = (): null => null

function table(name: string, blocks: number | null): PublishedTable {
  const bytes = (blocks ?? 1000) * BLOCK_BYTES
  return {
    relation: { oid: 1, schema: 's', table: name, replicaIdentity: 'default', columns: [] },
    partitioned: false,
    rowFilter: null,
    estimatedRows: 0,
    bytes,
    heapBytes: bytes,
    blocks,
    obstacle: null,
    identifiable: true,
  }
}

describe('the units of a snapshot', () => {
  it('read every block of a table once, and whatever it has grown by', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 1, max: 100 }), (blocks, unitBlocks) => {
        const statements = snapshotUnits([table('t', blocks)], all, unitBlocks * BLOCK_BYTES).map((u) => u.statement)
        const ranges = statements.map((statement) => [
          Number(/ctid >= '\((\d+),0\)'/.exec(statement)?.[1] ?? 0),
          Number(/ctid < '\((\d+),0\)'/.exec(statement)?.[1] ?? Infinity),
        ])
        let next = 0
        for (const [from, until] of ranges) {
          expect(from).toBe(next)
          expect(until).toBeGreaterThan(next)
          next = until ?? 0
        }
        expect(next).toBe(Infinity)
        expect(ranges.length).toBe(Math.max(1, Math.ceil(blocks / unitBlocks)))
      }),
    )
  })

  it('are those of the largest table first; one that is not in a heap is read at once', () => {
    const units = snapshotUnits([table('small', 1), table('other', null), table('large', 3000)], all, 500 * BLOCK_BYTES)
    expect(units.map((unit) => unit.table.relation.table)).toEqual([...Array(6).fill('large'), 'other', 'small'])
  })
})

describe('a snapshot', () => {
  let database: TestDatabase

  beforeEach(async () => {
    database = await freshDatabase()
  })

  afterEach(async () => {
    await database.drop()
  })

  async function adopt(
    snapshotName: string,
    { signal = new AbortController().signal, logger = silentLogger } = {},
  ): Promise<Snapshot> {
    const connection = connectionOptions(database.url, {}, userInfo().username)
    const now = await connect(connection, { kind: 'ordinary', signal })
    try {
      const common = { connection, snapshotName, now, signal, logger }
      const options = { ...common, publication: 'p', patterns: tablePatterns('*'), readers: 1 }
      return await Snapshot.open(options, new Closers())
    } finally {
      await now.close()
    }
  }

  async function exportSnapshot(): Promise<string> {
    const client = await database.client()
    await client.query('begin isolation level repeatable read')
    const { rows } = await client.query<{ name: string }>('select pg_export_snapshot() as name')
    return rows[0]?.name ?? ''
  }

  it('has every row once where several readers share large and partitioned tables, and writers move rows about', async () => {
    // Rows of a few kilobytes that are not TOASTed, so that a table of some units is made quickly.
    await database.query(`
      create table plain (id int primary key, n int, filler text);
      alter table plain alter column filler set storage plain;
      create table parts (id int primary key, n int, filler text) partition by range (id);
      create table parts_low partition of parts for values from (0) to (20000);
      create table parts_high partition of parts for values from (20000) to (100000);
      alter table parts alter column filler set storage plain;
      alter table parts_low alter column filler set storage plain;
      alter table parts_high alter column filler set storage plain;
      insert into plain select g, 0, repeat('x', 3900) from generate_series(1, 30000) g;
      insert into parts select g, 0, repeat('x', 3900) from generate_series(1, 30000) g;
      create publication "${database.name}" for table plain, parts with (publish_via_partition_root = true)`)
    const directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
    const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })
    const pipeline = startPipeline(database, { openLog, readers: 4, limits: { bytes: 262_144, ageMs: 0 } })
    for (let round = 0; round < 20; round++) {
      await database.query(`
        update plain set n = n + 1 where id % 100 = ${round};
        update parts set n = n + 1 where id % 100 = ${round};
        delete from plain where id = ${round + 1}; insert into parts values (${50_000 + round}, 0, '')`)
    }
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const log = await openLog()
    for (const name of ['plain', 'parts']) {
      const folded = new Map<number, number>()
      const rows: number[] = []
      for (const { value } of await readAll(log, `${database.name}.public.${name}`)) {
        if (value === null) continue
        const { op, before, after } = JSON.parse(String(value))
        if (op === 'r') rows.push(after.id)
        if (op === 'd') folded.delete(before.id)
        else folded.set(after.id, after.n)
      }
      expect(new Set(rows).size).toBe(rows.length)
      expect(rows.length).toBeGreaterThan(29_000)
      const expected = await database.query(`select id, n from ${name} order by id`)
      expect([...folded].toSorted(([a], [b]) => a - b)).toEqual(expected.map(({ id, n }) => [Number(id), Number(n)]))
    }
    await log.close()
    rmSync(directory, { recursive: true, force: true })
  })

  it('comes to its end while somebody waits to alter a table, with several readers', async () => {
    await database.query(`
      create table a (id int primary key, filler text); alter table a alter column filler set storage plain;
      create table b (id int primary key, filler text); alter table b alter column filler set storage plain;
      create table c (id int primary key);
      insert into a select g, repeat('x', 3900) from generate_series(1, 7000) g;
      insert into b select g, repeat('x', 3900) from generate_series(1, 3000) g;
      insert into c values (1)`)
    const other = await database.client()
    const directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
    const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })
    let altered: Promise<unknown> = Promise.resolve()
    const onSnapshotStart = (): void => void (altered = other.query('alter table c add column late int'))
    const pipeline = startPipeline(database, { openLog, readers: 2, onSnapshotStart })
    await pipeline.caughtUp()
    await altered
    expect(await pipeline.stop()).toBeUndefined()
    rmSync(directory, { recursive: true, force: true })
  })

  it.each([
    ['rewritten', 'alter table item alter column n type bigint'],
    ['rewritten in a partition', 'vacuum full parts_low'],
    ['emptied', 'truncate item'],
    ['without a column that it had', 'alter table item drop column id'],
    ['with a column of another name', 'alter table item rename column n to m'],
    ['with another partition', 'create table parts_high partition of parts for values from (100) to (200)'],
  ])('is not begun on a table that is %s since', async (_, statement) => {
    await database.query(`
      create table item (id int primary key, n int); insert into item values (1, 1);
      create table parts (id int primary key) partition by range (id);
      create table parts_low partition of parts for values from (0) to (100); insert into parts values (1);
      create publication p for table item, parts with (publish_via_partition_root = true)`)
    const snapshotName = await exportSnapshot()
    await database.query(statement)
    await expect(adopt(snapshotName)).rejects.toMatchObject({ code: 'SNAPSHOT_OVERTAKEN' })
  })

  it('says who keeps it waiting for a table, and gives up at a stop', async () => {
    await database.query('create table item (id int primary key); create publication p for table item')
    const snapshotName = await exportSnapshot()
    const other = await database.client()
    await other.query('begin; lock table item')
    const stop = new AbortController()
    const said = new Promise<object>((resolve) => {
      const logger = { ...silentLogger, warn: (fields: object) => resolve(fields) }
      adopt(snapshotName, { signal: stop.signal, logger }).then(
        () => resolve({}),
        () => resolve({}),
      )
    })
    expect(await said).toEqual({ holders: [expect.stringMatching(/^pid \d+ \(.*, \d+ s\)$/)] })
    const waiting = adopt(snapshotName, { signal: stop.signal })
    stop.abort()
    await expect(waiting).rejects.toThrow()
    await other.query('rollback')
  })

  it('keeps its tables from being rewritten until it is closed', async () => {
    await database.query(`
      create table item (id int primary key, n int); insert into item values (1, 1);
      create publication p for table item`)
    const snapshot = await adopt(await exportSnapshot())
    await database.query('update item set n = 2')
    await database.query(`set lock_timeout = '50ms'`)
    for (const statement of ['vacuum full item', 'cluster item using item_pkey', 'truncate item'])
      await expect(database.query(statement)).rejects.toMatchObject({ code: '55P03' })
    snapshot.close()
    await database.query(`set lock_timeout = 0`)
    await database.query('vacuum full item')
  })
})
