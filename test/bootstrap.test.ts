/** Private bootstraps: the rows at one LSN and where to join the live topics, put together by consumers that know nothing of evert. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { setTimeout as delay } from 'node:timers/promises'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import { killAll, runCli, startCli } from './support/cli.js'
import { hangCommits } from './support/hanging-commits.js'
import { consume, type ConsumedRecord } from './support/independent-consumer.js'
import { readAll } from './support/pipeline.js'
import { startPostgres } from './support/postgres.js'
import { describeKafka, freshDatabase, testKafka, type TestDatabase } from './support/servers.js'

let database: TestDatabase
let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert-bootstrap-'))
})

afterEach(async () => {
  await killAll()
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
})

interface Complete {
  readonly position: string
  readonly join: readonly { readonly topic: string; readonly offsets: readonly number[] }[]
}
type Row = Readonly<Record<string, unknown>>

const last = (text: string): Row => JSON.parse(text.trim().split('\n').at(-1) ?? '')

/** Rows by table and key, as a consumer folds events. */
class Fold {
  readonly #rows = new Map<string, Row>()

  take({ key, value }: { readonly key: string | null; readonly value: string | null }): void {
    if (value === null) return
    const { op, after, source } = JSON.parse(value)
    if (source === undefined) return
    const id = `${source.table} ${key}`
    if (op === 'd') this.#rows.delete(id)
    else this.#rows.set(id, after)
  }

  of(table: string): Row[] {
    const rows = [...this.#rows].filter(([id]) => id.startsWith(`${table} `)).map(([, row]) => row)
    return rows.toSorted((a, b) => Number(a['id']) - Number(b['id']))
  }
}

/** The private topic to its complete record, which is the last of every partition. */
function privateRows(records: readonly ConsumedRecord[], fold: Fold): Complete {
  const marks = (op: string): ConsumedRecord[] =>
    records.filter(({ value }) => value?.startsWith(`{"op":"${op}"`) === true)
  const partitions = new Set(records.map(({ partition }) => partition))
  for (const op of ['start', 'complete']) expect(marks(op)).toHaveLength(partitions.size)
  for (const partition of partitions) {
    const own = records.filter((record) => record.partition === partition)
    expect(own[0]).toBe(marks('start').find((record) => record.partition === partition))
    expect(own.at(-1)).toBe(marks('complete').find((record) => record.partition === partition))
  }
  for (const record of records) fold.take(record)
  const parsed = (all: readonly ConsumedRecord[]): any[] =>
    all.filter(({ partition }) => partition === 0).map(({ value }) => JSON.parse(value ?? ''))
  expect(parsed(marks('shape')).map(({ table }) => table)).toEqual(parsed(marks('join')).map(({ table }) => table))
  return { ...parsed(marks('complete'))[0], join: parsed(marks('join')) }
}

/** The live topics from where the complete record says: what is there has a position behind the rows, and what is before has not. */
function live(records: readonly ConsumedRecord[], { join: joins, position }: Complete, fold: Fold): void {
  for (const record of records) {
    const from = joins.find(({ topic }) => topic === record.topic)?.offsets[record.partition]
    const joined = record.offset >= BigInt(from ?? 0)
    if (joined) fold.take(record)
    if (record.value !== null) expect(JSON.parse(record.value).source.position >= position).toBe(joined)
  }
}

async function rowsOf(table: string): Promise<Row[]> {
  const rows = await database.query(`select to_jsonb(t) as row from ${table} t order by id`)
  return rows.map(({ row }) => JSON.parse(row ?? ''))
}

/** Shows a few of the rows that differ, not all of a table. */
function requireEqual(folded: readonly Row[], rows: readonly Row[]): void {
  const [left, right] = [folded, rows].map((all) => new Map(all.map((row) => [row['id'], row])))
  const ids = [...new Set([...left!.keys(), ...right!.keys()])]
  const different = ids.filter((id) => !isDeepStrictEqual(left?.get(id), right?.get(id)))
  expect(different.slice(0, 5).map((id) => [left?.get(id), right?.get(id)])).toEqual([])
}

/** Until everything that was committed so far is in the log. */
async function confirmed(): Promise<void> {
  const [now] = await database.query('select pg_current_wal_lsn() as lsn')
  const there = `select 1 from pg_replication_slots where slot_name = '${database.name}' and confirmed_flush_lsn >= '${now?.['lsn']}'`
  while ((await database.query(there)).length === 0) await delay(20)
}

describeKafka('a private bootstrap into Kafka', () => {
  const kafka = `kafka://${testKafka()}`
  const name = (): string => database.name

  it('and the live topics from where it says equal the tables, under load', async () => {
    database = await freshDatabase()
    await database.query(`
      create table item (id int primary key, n int, note text);
      create table other (id int primary key, n int);
      insert into item select g, 0, repeat('x', 200) from generate_series(1, 20000) g;
      insert into other select g, 0 from generate_series(1, 2000) g`)
    const common = ['--source', database.url, '--log', kafka, '--partitions', '3']
    const daemon = startCli(['run', ...common])
    await daemon.says('"streaming"')
    const writer = await database.client()
    let loading = true
    const load = (async (): Promise<number> => {
      let round = 0
      for (; loading; round++) {
        await writer.query(`begin; update item set n = n + 1 where id % 50 = ${round % 50};
          update other set n = n + 1 where id % 10 = ${round % 10}; commit`)
        await writer.query(`update item set id = ${100_000 + round} where id = ${1 + round}`)
        await writer.query(`delete from other where id = ${1 + round}; insert into other values (${10_000 + round}, 0)`)
      }
      return round
    })()
    const into = `${name()}.search`
    const { code, stdout, stderr } = await runCli(['snapshot', ...common, '--into', into, '--json', '--readers', '2'])
    expect({ code, stderr }).toMatchObject({ code: 0 })
    // Some that come after it.
    const before = await database.query('select sum(n) as n from item')
    while ((await database.query('select sum(n) as n from item'))[0]?.['n'] === before[0]?.['n']) await delay(20)
    loading = false
    expect(await load).toBeGreaterThan(5)
    await confirmed()

    const fold = new Fold()
    const complete = privateRows(await consume(testKafka() ?? '', [into]), fold)
    const tables = complete.join.map(({ topic, offsets }) => ({ topic, offsets }))
    expect(last(stdout)).toMatchObject({ into, tables, position: complete.position })
    expect(tables.map(({ offsets }) => offsets.length)).toEqual([3, 3])
    live(await consume(testKafka() ?? '', [`${name()}.public.item`, `${name()}.public.other`]), complete, fold)
    for (const table of ['item', 'other']) requireEqual(fold.of(table), await rowsOf(table))

    // Killed under way, and begun again: what counts is behind the last start record.
    const killed = startCli(['snapshot', ...common, '--into', `${into}2`, '--batch-bytes', '64KiB'])
    await killed.says('snapshot starts')
    killed.process.kill('SIGKILL')
    await killed.ended
    expect(await runCli(['snapshot', ...common, '--into', `${into}2`])).toMatchObject({ code: 0 })
    const records = await consume(testKafka() ?? '', [`${into}2`])
    const again = new Fold()
    for (const partition of [0, 1, 2]) {
      const own = records.filter((record) => record.partition === partition)
      const start = own.findLastIndex(({ value }) => value?.startsWith('{"op":"start"') === true)
      for (const record of own.slice(start)) again.take(record)
    }
    for (const table of ['item', 'other']) requireEqual(again.of(table), await rowsOf(table))
    daemon.process.kill('SIGTERM')
    await daemon.ended
  })
})

describeKafka('a private bootstrap of a table that has just come', () => {
  it('makes no live topic for it: that is the daemon’s, by its own options', async () => {
    database = await freshDatabase()
    await database.query(`create table item (id int primary key); insert into item values (1);
      create publication "${database.name}" for table item`)
    const common = ['--source', database.url, '--log', `kafka://${testKafka()}`]
    const daemon = startCli(['run', ...common, '--partitions', '2', '--new-tables', 'stream'])
    await daemon.says('"streaming"')
    await database.query(`
      create table late (id int primary key); insert into late values (1);
      alter publication "${database.name}" add table late`)
    const into = `${database.name}.search`
    const { stdout, stderr, code } = await runCli(['snapshot', ...common, '--partitions', '1', '--into', into])
    expect({ code, stderr }).toMatchObject({ code: 0 })
    const topic = `${database.name}.public.late`
    expect(stdout).toContain(`  ${topic} from its beginning: it is still to come\n`)
    expect(stdout).toContain(`  ${database.name}.public.item partition 1 from offset `)
    await database.query('insert into late select g from generate_series(2, 100) g')
    await confirmed()
    daemon.process.kill('SIGTERM')
    await daemon.ended
    const records = await consume(testKafka() ?? '', [topic])
    expect(new Set(records.map(({ partition }) => partition))).toEqual(new Set([0, 1]))
    const fold = new Fold()
    const { join: joins } = privateRows(await consume(testKafka() ?? '', [into]), fold)
    expect(joins.find((joined) => joined.topic === topic)).toMatchObject({ offsets: [] })
    for (const record of records) fold.take(record)
    expect(fold.of('late')).toHaveLength(100)
  })
})

describe('a private bootstrap', () => {
  const rows = (path: string): Row[] =>
    readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))

  /** What is in the topics of an embedded log, as its tail shows it. */
  async function records(log: string, topic: string): Promise<ConsumedRecord[]> {
    const opened = await openEmbeddedLog({ directory: log, topics: { partitions: 1 } })
    const found = await readAll(opened, topic)
    await opened.close()
    return found.map(({ key, value, ...record }) => {
      return { ...record, key: String(key), value: value === null ? null : String(value), headers: {} }
    })
  }

  async function foldAll(log: string, fold: Fold): Promise<void> {
    const complete = privateRows(await records(log, `${database.name}.copy`), fold)
    live(await records(log, `${database.name}.public.`), complete, fold)
  }

  it('waits until the live log has come as far, and says so', async () => {
    database = await freshDatabase()
    await database.query('create table item (id int primary key, n int); insert into item values (1, 0), (2, 0)')
    const log = join(directory, 'log')
    const common = ['--source', database.url, '--log', log]
    const first = startCli(['run', ...common])
    await first.says('"streaming"')
    first.process.kill('SIGTERM')
    await first.ended
    await database.query(
      'update item set n = 1 where id = 1; delete from item where id = 2; insert into item values (3, 0)',
    )
    const bootstrap = startCli(['snapshot', ...common, '--into', `${database.name}.copy`])
    await bootstrap.says('waiting for the live log')
    const second = startCli(['run', ...common])
    expect(await bootstrap.ended).toMatchObject({ code: 0 })
    await database.query('update item set n = 2 where id = 1; insert into item values (4, 0)')
    await confirmed()
    second.process.kill('SIGTERM')
    await second.ended
    const fold = new Fold()
    await foldAll(log, fold)
    expect(fold.of('item')).toEqual(await rowsOf('item'))
  })

  it('loses nothing where commits wait for a synchronous standby, in the WAL before any snapshot sees them', async () => {
    const server = await startPostgres({
      settings: { synchronous_standby_names: 'nobody', synchronous_commit: 'local' },
    })
    database = await freshDatabase(server.url('postgres'))
    await database.query('create table item (id int primary key, n int); insert into item values (1, 0), (2, 0)')
    const log = join(directory, 'log')
    const common = ['--source', database.url, '--log', log]
    const daemon = startCli(['run', ...common])
    await daemon.says('"streaming"')
    const hanging = await hangCommits(database, [
      'insert into item values (3, 0)',
      'update item set n = 1 where id = 1',
    ])
    const bootstrap = startCli(['snapshot', ...common, '--into', `${database.name}.copy`])
    await bootstrap.says('waits for transactions')
    await hanging.release()
    expect(await bootstrap.ended).toMatchObject({ code: 0 })
    await database.query('update item set n = 7 where id = 2')
    await confirmed()
    daemon.process.kill('SIGTERM')
    await daemon.ended

    const fold = new Fold()
    await foldAll(log, fold)
    expect(fold.of('item')).toEqual([
      { id: 1, n: 1 },
      { id: 2, n: 7 },
      { id: 3, n: 0 },
    ])
    await database.drop()
    await server.stop()
    database = await freshDatabase()
  })

  it('goes into a file or to stdout, with some tables and rows, without a log', async () => {
    database = await freshDatabase()
    await database.query(`
      create table item (id int primary key, n int, note text);
      create table other (id int primary key);
      insert into item values (1, 10, 'a;b: c'), (2, 20, ''), (3, 30, null); insert into other values (7);
      create publication "${database.name}" for table item, other`)
    const source = ['--source', database.url]
    const path = join(directory, 'rows.jsonl')
    const where = `public.item: note is distinct from 'a;b: c' and n < 30; other: id::int > 0`
    const file = await runCli(['snapshot', ...source, '--into', path, '--where', where])
    expect({ code: file.code, stderr: file.stderr }).toMatchObject({ code: 0 })
    expect(file.stdout).toMatch(
      /^\S+rows\.jsonl: the rows as they were at [0-9A-F]+\/[0-9A-F]+\n {2}public\.item: 1 rows\n/,
    )
    const lines = rows(path)
    expect(lines).toMatchObject([
      { op: 'start', tables: 2 },
      { op: 'shape', table: 'item', key: ['id'] },
      { op: 'shape', table: 'other' },
      { op: 'r' },
      { op: 'r' },
      { op: 'join', table: 'item', rows: 1, topic: null, offsets: [] },
      { op: 'join', table: 'other', rows: 1, topic: null, offsets: [] },
      { op: 'complete' },
    ])
    expect(lines.slice(3, 5).map(({ op, after }) => [op, after])).toEqual(
      expect.arrayContaining([
        ['r', { id: 2, n: 20, note: '' }],
        ['r', { id: 7 }],
      ]),
    )
    expect(readdirSync(directory)).toEqual(['rows.jsonl'])
    const plain = await runCli(['snapshot', ...source, '--into', '-', '--tables', 'item', '--format', 'plain'])
    expect(plain.stdout.trim().split('\n').toSorted()).toEqual([
      '{"id":1,"n":10,"note":"a;b: c"}',
      '{"id":2,"n":20,"note":""}',
      '{"id":3,"n":30,"note":null}',
    ])
    expect(await database.query('select 1 from pg_replication_slots where database = current_database()')).toEqual([])
  })

  it('is one event a line, also where json has lines of its own', async () => {
    database = await freshDatabase()
    await database.query(`
      create table item (id int primary key, doc json);
      insert into item values (1, E'{\n  "a": "x\\\\ny",\r\n  "b": [1,\n2]\n}');
      create publication "${database.name}" for table item`)
    const nested = ['--format', 'plain', '--json-values', 'nested']
    const { stdout } = await runCli(['snapshot', '--source', database.url, '--into', '-', ...nested])
    const lines = stdout.trim().split('\n')
    expect(lines.map((line) => JSON.parse(line))).toEqual([{ id: 1, doc: { a: 'x\ny', b: [1, 2] } }])
  })

  it('that is stopped under way exits 1, and leaves no file that looks complete', async () => {
    database = await freshDatabase()
    await database.query(`
      create table item (id int primary key, note text);
      insert into item select g, repeat('x', 1000) from generate_series(1, 100000) g;
      create publication "${database.name}" for table item`)
    const path = join(directory, 'rows.jsonl')
    const stopped = startCli(['snapshot', '--source', database.url, '--into', path])
    await stopped.says('snapshot starts')
    stopped.process.kill('SIGINT')
    const { code, stdout, stderr } = await stopped.ended
    expect({ code, stdout, last: last(stderr) }).toMatchObject({ code: 1, stdout: '', last: { level: 40 } })
    expect(readdirSync(directory)).not.toContain('rows.jsonl')
  })

  it('says what is wrong with what was asked', async () => {
    database = await freshDatabase()
    await database.query('create table item (id int primary key)')
    const log = join(directory, 'log')
    const source = ['snapshot', '--source', database.url]
    const refused = async (parameters: string[], code: string, exit: number): Promise<void> => {
      const result = await runCli([...source, ...parameters])
      expect({ ...result, error: last(result.stderr)['code'] }).toMatchObject({ code: exit, stdout: '', error: code })
    }
    await refused([], 'BACKFILL_REFUSED', 1)
    await refused(['--into', '-', '--id', 'one'], 'OPTION_INVALID', 2)
    await refused(['--into', 'topic'], 'OPTION_MISSING', 2)
    await refused(['--into', '-'], 'PUBLICATION_MISSING', 1)
    await database.query(`create publication "${database.name}" for table item`)
    await refused(['--into', '-', '--tables', 'nothing'], 'PUBLICATION_EMPTY', 1)
    await refused(['--into', '-', '--where', 'item'], 'OPTION_INVALID', 2)
    await refused(['--into', '-', '--where', 'item: no_column > 1'], 'OPTION_INVALID', 2)
    await refused(['--into', '-', '--where', 'items: id > 1'], 'OPTION_INVALID', 2)
    await refused(['--into', join(directory, 'no', 'file')], 'OUTPUT_FAILED', 1)
    expect(readdirSync(directory)).toEqual([])
    await refused(['--into', 'topic', '--log', log], 'LOG_FORMAT', 1)
    const daemon = startCli(['run', '--source', database.url, '--log', log])
    await daemon.says('"streaming"')
    await refused(['--into', `${database.name}.public.item`, '--log', log], 'OPTION_INVALID', 2)
    await refused(
      ['--into', 'topic', '--log', log, '--name', 'stranger', '--publication', database.name],
      'PROGRESS_MISSING',
      3,
    )
  })
})
