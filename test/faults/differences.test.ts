/** After a loss, what differs is published, deletes included, and nothing that is equal: also where evert is killed meanwhile. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Log } from '../../src/log/log.js'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import { Cluster } from '../../src/log/kafka/cluster.js'
import { ANY_RECORD, COMMITTED_RECORDS, endOffsets } from '../../src/log/kafka/end-offsets.js'
import { killAll, runCli, startCli } from '../support/cli.js'
import { confirmed } from '../support/confirmed.js'
import { type ConsumedRecord, consume } from '../support/independent-consumer.js'
import { kafkaOptions } from '../support/kafka-options.js'
import { readAll } from '../support/pipeline.js'
import { describeKafka, freshDatabase, type TestDatabase, testKafka } from '../support/servers.js'

let database: TestDatabase
let directory: string
// One for the whole test: two processes that open and close a log within microseconds of each other find its locks gone (lmdb).
let log: Log
beforeEach(async () => {
  database = await freshDatabase()
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  log = await openEmbeddedLog({ directory, topics: { partitions: 3 } })
})

afterEach(async () => {
  await killAll()
  await database.drop()
  await log.close()
  rmSync(directory, { recursive: true, force: true })
})

interface Where {
  readonly log: string
  /** What is committed; of a log transaction that is left open nothing. */
  readonly records: (topic: string, leftOpen: boolean) => Promise<ConsumedRecord[]>
  /** Whether more than so many records are committed, and another log transaction is open, where others can see that. */
  readonly midway: (topic: string, records: number) => Promise<boolean>
}

const embedded = (): Where => {
  const records = async (topic: string): Promise<ConsumedRecord[]> => {
    const found = await readAll(log, topic)
    return found.map(({ key, value, headers, ...place }) => ({
      ...place,
      key: key?.toString() ?? null,
      value: value?.toString() ?? null,
      headers: Object.fromEntries(headers.map((header) => [header.key, header.value.toString()])),
    }))
  }
  const midway = async (topic: string, count: number): Promise<boolean> => {
    const ends = await Promise.all([0, 1, 2].map((partition) => log.offsets(topic, partition)))
    return ends.reduce((sum, { end }) => sum + Number(end), 0) > count
  }
  return { log: directory, records, midway }
}

/** Runs until it streams, lets the database be changed, and stops. Gives what it said. */
async function run(where: Where, more: readonly string[] = [], change = ''): Promise<string> {
  const evert = startCli(['run', '--source', database.url, '--log', where.log, '--partitions', '3', ...more])
  await evert.says('"streaming"')
  await database.query(change)
  await confirmed(database)
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
  return evert.stderr()
}

const recordsOf = (where: Where, table: string, leftOpen = false): Promise<ConsumedRecord[]> =>
  where.records(`${database.name}.public.${table}`, leftOpen)

interface Seen {
  readonly key: string
  readonly kind: string
}

/** What came after a number of records of each partition. */
async function since(
  where: Where,
  table: string,
  before: readonly ConsumedRecord[],
  leftOpen = false,
): Promise<Seen[]> {
  const counts = [0, 1, 2].map((partition) => before.filter((record) => record.partition === partition).length)
  const place = new Map<number, number>()
  const records = (await recordsOf(where, table, leftOpen)).filter(({ partition }) => {
    place.set(partition, (place.get(partition) ?? 0) + 1)
    return (place.get(partition) ?? 0) > (counts[partition] ?? 0)
  })
  return records
    .map((record) => ({ key: String(record.key), kind: kindOf(record) }))
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
}

function kindOf({ value, headers }: ConsumedRecord): string {
  if (value === null) return 'tombstone'
  const event = JSON.parse(value)
  return headers['evert.op'] ?? (event.data ?? event).op
}

async function told(where: Where): Promise<Record<string, unknown>[]> {
  return (await where.records(`${database.name}.notification`, false)).map(({ value }) => JSON.parse(String(value)))
}

async function requireEqual(where: Where, more: readonly string[] = []): Promise<void> {
  const evert = startCli(['run', '--source', database.url, '--log', where.log, ...more])
  await evert.says('"streaming"')
  const { code, stdout } = await runCli(['verify', '--source', database.url, '--log', where.log, '--json', ...more])
  const verdicts = JSON.parse(stdout).tables.map(({ verdict }: { verdict: string | null }) => verdict)
  expect({ code, different: verdicts.includes('different') }).toEqual({ code: 0, different: false })
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
}

const dropSlot = (): Promise<unknown> => database.query(`select pg_drop_replication_slot('${database.name}')`)

it.each(['evert', 'debezium', 'plain', 'cloudevents'])('only what differs comes, in the format %s', async (format) => {
  await database.query(`
    create table item (id bigint primary key, n int, note text, doc jsonb);
    alter table item alter column note set storage external;
    create table same (id int primary key, note text);
    create table shrunk (id int primary key);
    create table wider (id int primary key);
    create table young (id int primary key);
    create table keyless (n int);
    create table keyed (id int); alter table keyed replica identity full;
    insert into item select 9007199254740993 + g, g, repeat(g || 'é" \\', 1000), '{"a": [1, "}"]}' from generate_series(1, 1000) g;
    insert into same select g, 'x' from generate_series(1, 100) g; insert into shrunk select generate_series(1, 10);
    insert into wider values (1), (2); insert into keyless values (1), (1);
    insert into keyed values (1)`)
  // Updates that do not say the note: the log folds to it all the same.
  await run(
    embedded(),
    ['--format', format],
    'update item set n = n + 1 where n % 2 = 0; delete from same where id = 7',
  )
  const tables = ['item', 'keyed', 'keyless', 'same', 'shrunk', 'wider', 'young'] as const
  const before = new Map<string, ConsumedRecord[]>()
  for (const table of tables) before.set(table, await recordsOf(embedded(), table))
  await dropSlot()
  const id = 9007199254740993n
  await database.query(`
    update item set note = 'other' where id = ${id + 5n};
    update item set n = n where id = ${id + 6n};
    delete from item where id = ${id + 7n};
    update item set id = ${id + 5000n} where id = ${id + 8n};
    insert into item values (1, 1, 'new', null);
    delete from shrunk where id > 8;
    alter table wider add column late int default 5;
    alter table keyed add primary key (id);
    insert into young values (3)`)
  const said = await run(embedded(), ['--format', format, '--on-loss', 'resnapshot'])
  const deleted = (key: string): Seen[] => [
    ...(format === 'plain' ? [] : [{ key, kind: 'd' }]),
    { key, kind: 'tombstone' },
  ]
  const row = (key: string): Seen => ({ key, kind: 'r' })
  const found = Object.fromEntries(
    await Promise.all(tables.map(async (table) => [table, await since(embedded(), table, before.get(table)!)])),
  )
  expect(found).toEqual({
    item: [
      row('{"id":1}'),
      row(`{"id":${id + 5n}}`),
      row(`{"id":${id + 5000n}}`),
      ...deleted(`{"id":${id + 7n}}`),
      ...deleted(`{"id":${id + 8n}}`),
    ].toSorted((a, b) => (a.key < b.key ? -1 : 1)),
    keyed: [row('{"id":1}')], // by the key that came in the gap, as the stream has it from here on
    keyless: [row('null'), row('null')],
    same: [],
    shrunk: [...deleted('{"id":10}'), ...deleted('{"id":9}')],
    wider: [row('{"id":1}'), row('{"id":2}')],
    young: [row('{"id":3}')],
  })
  expect(said).toContain('"tables":["\\"public\\".\\"keyless\\""],"msg":"tables without a key cannot be compared')
  const news = (await told(embedded())).filter((one) => 'published' in one)
  expect(news.toSorted((one, other) => (String(one['table']) < String(other['table']) ? -1 : 1))).toMatchObject([
    { table: 'item', rows: 1000, published: 3, deletes: 2 },
    { table: 'keyed', rows: 1, published: 1, deletes: 0 },
    { table: 'keyless', rows: 2, published: 2, deletes: 0 },
    { table: 'same', rows: 99, published: 0, deletes: 0 },
    { table: 'shrunk', rows: 8, published: 0, deletes: 2 },
    { kind: 'snapshot-complete', rows: 1113, published: 9, deletes: 4 },
    { table: 'wider', rows: 2, published: 2, deletes: 0 },
    { table: 'young', rows: 1, published: 1, deletes: 0 },
  ])
  // The row without a key stands in the log beside the one with it.
  await database.query('drop table keyed')
  await requireEqual(embedded(), ['--format', format])
})

it('rows whose events are of another format come, which is said', async () => {
  await database.query('create table item (id int primary key); insert into item select generate_series(1, 20)')
  await run(embedded())
  const before = await recordsOf(embedded(), 'item')
  await dropSlot()
  await database.query('delete from item where id = 9')
  const said = await run(embedded(), ['--format', 'plain', '--on-loss', 'resnapshot'])
  const found = await since(embedded(), 'item', before)
  expect(found.filter(({ kind }) => kind === 'r')).toHaveLength(19)
  expect(found.filter(({ kind }) => kind !== 'r')).toEqual([{ key: '{"id":9}', kind: 'tombstone' }])
  expect(said).toContain('rows whose events are of another format than plain cannot be compared')
})

const ROWS = 120_000

/** Half of the rows are changed, some are gone, some are new; evert is killed when the first are in the log, and goes on. */
async function killedMeanwhile(where: Where): Promise<void> {
  await database.query(`
    create table item (id int primary key, n int, note text);
    insert into item select g, 0, repeat('x', 50) from generate_series(1, ${ROWS}) g`)
  await run(where)
  const before = await recordsOf(where, 'item')
  await dropSlot()
  await database.query(`
    update item set n = 1 where id % 2 = 0; delete from item where id % 1000 = 1;
    insert into item select g, 2, 'new' from generate_series(${ROWS} + 1, ${ROWS} + 100) g`)
  const options = ['run', '--source', database.url, '--log', where.log, '--batch-bytes', '64KiB']
  const first = startCli([...options, '--on-loss', 'resnapshot'])
  let running = true
  void first.ended.then(() => (running = false))
  while (running && !(await where.midway(`${database.name}.public.item`, before.length)))
    await new Promise((resolve) => setTimeout(resolve, 1))
  first.process.kill('SIGKILL')
  await first.ended
  const rows = (found: readonly Seen[]): Seen[] => found.filter(({ kind }) => kind === 'r')
  const meanwhile = rows(await since(where, 'item', before, true)).length
  expect(meanwhile).toBeGreaterThan(0)
  expect(meanwhile).toBeLessThan(ROWS / 2)
  // What was lost is in the log by now: nobody need ask for it again.
  await run(where)
  const found = await since(where, 'item', before)
  const changed = (await database.query('select id::text from item where n > 0')).map(({ id }) => `{"id":${id}}`)
  expect(rows(found).map(({ key }) => key)).toEqual(changed.toSorted())
  const gone = Array.from({ length: ROWS / 1000 }, (_, i) => `{"id":${i * 1000 + 1}}`)
  const tombstones = found.filter(({ kind }) => kind === 'tombstone')
  expect(tombstones.map(({ key }) => key)).toEqual(gone.toSorted())
  expect(found).toHaveLength(changed.length + 2 * gone.length)
  await requireEqual(where)
}

it('killed meanwhile, it goes on, and nothing comes twice', async () => {
  await killedMeanwhile(embedded())
})

it('killed while it compares, it goes on, though nobody asks for it again', async () => {
  await database.query(`create table item (id int primary key); insert into item select generate_series(1, ${ROWS})`)
  await run(embedded())
  const before = await recordsOf(embedded(), 'item')
  await dropSlot()
  await database.query('delete from item where id = 9')
  const first = startCli(['run', '--source', database.url, '--log', directory, '--on-loss', 'resnapshot'])
  let running = true
  void first.ended.then(() => (running = false))
  while (running && !(await told(embedded())).some(({ kind }) => kind === 'gap'))
    await new Promise((resolve) => setTimeout(resolve, 5))
  first.process.kill('SIGKILL')
  await first.ended
  expect(await since(embedded(), 'item', before)).toEqual([])
  await run(embedded())
  const key = '{"id":9}'
  expect(await since(embedded(), 'item', before)).toEqual([
    { key, kind: 'd' },
    { key, kind: 'tombstone' },
  ])
  expect((await told(embedded())).filter(({ kind }) => kind === 'gap')).toHaveLength(1)
})

describeKafka('in Kafka', () => {
  it('killed within a log transaction, it goes on, and nothing comes twice', async () => {
    const cluster = new Cluster(kafkaOptions(testKafka() ?? ''))
    await killedMeanwhile({
      log: `kafka://${testKafka()}`,
      records: (topic, leftOpen) => consume(testKafka() ?? '', [topic], { leftOpen }),
      midway: async (topic, count) => {
        const sum = async (isolation: typeof ANY_RECORD | typeof COMMITTED_RECORDS): Promise<number> =>
          ((await endOffsets(cluster, [topic], isolation)).get(topic) ?? []).reduce((all, end) => all + Number(end), 0)
        // Markers take offsets, too.
        const committed = await sum(COMMITTED_RECORDS)
        return committed > count + 1000 && (await sum(ANY_RECORD)) > committed + 1000
      },
    })
    await cluster.close()
  })
})
