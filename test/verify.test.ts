/** evert verify: a log that equals its tables is found equal, and whatever is planted in a copy of it is found. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { membersOf } from '../src/event/members.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { LogRecord } from '../src/log/log.js'
import { encode } from './log/records.js'
import { killAll, type RunningCli, runCli, startCli } from './support/cli.js'
import { readAll } from './support/pipeline.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

let database: TestDatabase
let directory: string

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'evert-verify-'))
  database = await freshDatabase()
})

afterEach(async () => {
  await killAll()
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
})

const common = (log: string): string[] => ['--source', database.url, '--log', join(directory, log)]

async function daemon(more: readonly string[] = []): Promise<RunningCli> {
  const running = startCli(['run', ...common('log'), ...more])
  await running.says('"streaming"')
  return running
}

interface Verdict {
  readonly table: string
  readonly verdict: string | null
  readonly first: readonly { readonly kind: string; readonly key: string; readonly columns: readonly string[] }[]
}

async function verify(log: string, more: readonly string[] = []): Promise<{ code: number | null; tables: Verdict[] }> {
  const { code, stdout, stderr } = await runCli(['verify', ...common(log), '--json', ...more])
  if (stdout === '') throw new Error(stderr)
  return { code, tables: JSON.parse(stdout).tables }
}

it.each(['evert', 'debezium', 'plain', 'cloudevents'])('a log equals its tables, in the format %s', async (format) => {
  await database.query(`
    create table item (id bigint primary key, n numeric, note text, doc jsonb, tags text[]);
    alter table item alter column note set storage external;
    create table pair (a text, b int, primary key (b, a));
    create table whole (id int primary key, note text); alter table whole replica identity full;
    create table keyless (n int);
    create table emptied (id int primary key);
    insert into item select 9007199254740993 + g, g / 7.0, repeat(g || ' "\\', 1500), '{"a": {"b": [1, "}"]}}', array['{', null] from generate_series(1, 200) g;
    insert into pair select 'é"' || g, g from generate_series(1, 50) g; insert into whole values (1, 'x'), (2, null);
    insert into keyless values (1), (1); insert into emptied select generate_series(1, 20)`)
  const running = await daemon(['--format', format, '--partitions', '3'])
  await database.query(`
    update item set n = n + 1 where id % 3 = 0;
    update item set id = id + 1000 where id % 10 = 1;
    delete from item where id % 7 = 0;
    update whole set note = 'y' where id = 1;
    truncate emptied; insert into emptied values (7);
    alter table pair add column late int default 5;
    insert into pair values ('z', 99, 1)`)
  const { code, tables } = await verify('log', ['--format', format])
  expect(tables.map(({ table, verdict, first }) => [table, verdict, first])).toEqual([
    ['emptied', 'equal', []],
    ['item', 'equal', []],
    ['keyless', null, []],
    ['pair', 'equal', []],
    ['whole', 'equal', []],
  ])
  expect(tables).toMatchObject([{ rows: 1 }, { rows: 171 }, {}, { rows: 51, notCompared: 50 }, { rows: 2 }])
  expect(code).toBe(0)
  running.process.kill('SIGTERM')
  await running.ended
})

describe('what is planted in a copy of a log', () => {
  const keyed = (id: number) => (record: LogRecord) => record.key?.toString() === `{"id":${id}}`

  /** Everything of the log, changed on the way. */
  async function plant(change: (records: LogRecord[]) => LogRecord[]): Promise<void> {
    const { signal } = new AbortController()
    const topics = { partitions: 1 }
    const from = await openEmbeddedLog({ directory: join(directory, 'log'), topics })
    const to = await openEmbeddedLog({ directory: join(directory, 'copy'), topics })
    const writer = await to.openWriter({ name: database.name, signal })
    for (const { name } of await from.topics(`${database.name}.public.`)) {
      const topic = await writer.sink.topic({ name, keyed: true })
      for (const record of change(await readAll(from, name))) writer.sink.append(topic, encode(record))
    }
    await writer.append(writer.cut(), await from.readProgress({ name: database.name, signal }))
    await writer.close()
    await from.close()
    await to.close()
  }

  it.each<[string, (records: LogRecord[]) => LogRecord[], object]>([
    ['nothing', (records) => records, []],
    [
      'a missing event',
      (records) => records.filter((record) => !keyed(3)(record)),
      [{ kind: 'missing', key: '{"id":3}', position: null }],
    ],
    [
      'a missing update',
      (records) => records.filter(({ value }) => !String(value).includes('"op":"u"')),
      [{ kind: 'different', key: '{"id":5}', columns: ['n'], position: expect.stringMatching(/^[0-9a-f]{16}-/) }],
    ],
    [
      'a repeated event',
      (records) => records.flatMap((record) => (keyed(4)(record) ? [record, record] : [record])),
      [{ kind: 'repeated', key: '{"id":4}', position: expect.stringMatching(/^[0-9a-f]{16}-/) }],
    ],
    [
      'an altered value',
      (records) =>
        records.map((record) =>
          keyed(6)(record) ? { ...record, value: Buffer.from(String(record.value).replace('é6', 'e6')) } : record,
        ),
      [{ kind: 'different', key: '{"id":6}', columns: ['note'] }],
    ],
    [
      'a deleted key that is still there',
      (records) => records.filter(({ value }) => value !== null && !String(value).includes('"op":"d"')),
      [{ kind: 'extra', key: '{"id":7}' }],
    ],
  ])('is found: %s', async (what, change, first) => {
    await database.query(`
      create table item (id int primary key, n int, note text);
      insert into item select g, g, 'é' || g from generate_series(1, 10) g`)
    const running = await daemon(['--partitions', '1'])
    await database.query('update item set n = 50 where id = 5; delete from item where id = 7')
    expect(await verify('log')).toMatchObject({ code: 0 })
    await plant(change)
    const found = await verify('copy')
    expect(found).toMatchObject({
      code: what === 'nothing' ? 0 : 3,
      tables: [{ table: 'item', verdict: what === 'nothing' ? 'equal' : 'different', rows: 9, first }],
    })
    expect(found.tables[0]?.first).toHaveLength((first as object[]).length)
    running.process.kill('SIGTERM')
    await running.ended
  })

  it('is not what compaction leaves of keys that were changed since', async () => {
    await database.query(`
      create table item (id int primary key, n int);
      insert into item select g, g from generate_series(1, 10) g`)
    const running = await daemon(['--partitions', '1'])
    // The rows of the snapshot are compacted away by events that come after the LSN of the comparison.
    const later = (record: LogRecord, id: number): LogRecord => {
      const value = String(record.value).replace(/"position":"[^"]+"/, '"position":"ffffffffffffffff-00000000"')
      return keyed(id)(record) ? { ...record, value: Buffer.from(value) } : record
    }
    await plant((records) => records.map((record) => later(record, 10)))
    expect(await verify('copy')).toMatchObject({
      code: 0,
      tables: [{ verdict: 'equal', rows: 10, logRows: 9, notCompared: 1, first: [] }],
    })
    running.process.kill('SIGTERM')
    await running.ended
  })

  it('of another format is said to be so, and a temporary folder that is none', async () => {
    await database.query('create table item (id int primary key); insert into item values (1)')
    const running = await daemon()
    for (const format of ['plain', 'cloudevents']) {
      const { code, stdout, stderr } = await runCli(['verify', ...common('log'), '--format', format])
      expect({ code, stdout, stderr }).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining('LOG_PROTOCOL'),
      })
    }
    const nowhere = await runCli(['verify', ...common('log')], { TMPDIR: '/nonexistent' })
    expect(nowhere).toMatchObject({ code: 1, stderr: expect.stringContaining('OUTPUT_FAILED') })
    running.process.kill('SIGTERM')
    await running.ended
  })

  it('is mended by --repair, as far as rows are missing or differ', async () => {
    await database.query(`
      create table item (id int primary key, n int);
      insert into item select g, g from generate_series(1, 400) g;
      create table "Other" (id int primary key); insert into "Other" values (1)`)
    const running = await daemon(['--snapshot', 'none'])
    const repaired = await runCli(['verify', ...common('log'), '--repair'])
    expect(repaired).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('complete, tables 2, rows 401'),
      stderr: expect.stringContaining('verify again'),
    })
    expect(await verify('log')).toMatchObject({ code: 0, tables: [{ verdict: 'equal' }, { verdict: 'equal' }] })
    running.process.kill('SIGTERM')
    await running.ended
  })

  it('is found in the sample that has its key, and says so in words', async () => {
    await database.query(`
      create table item (id int primary key, n int);
      insert into item select g, g from generate_series(1, 400) g`)
    const running = await daemon(['--partitions', '1'])
    await plant((records) => records.filter((record) => !String(record.key).includes('7')))
    const whole = await verify('copy')
    const sample = await verify('copy', ['--sample', '25%'])
    const differences = ({ tables }: { tables: Verdict[] }): number =>
      (tables[0] as unknown as { differences: number }).differences
    expect(whole.code).toBe(3)
    expect(differences(sample)).toBeGreaterThan(0)
    expect(differences(sample)).toBeLessThan(differences(whole))
    const { code, stdout, stderr } = await runCli(['verify', ...common('copy')])
    expect({ code, stdout }).toEqual({
      code: 3,
      stdout: expect.stringMatching(
        /^at [0-9A-F]+\/[0-9A-F]+\n {2}public\.item: 400 rows, \d+ differences\n {4}missing \{"id":107\}\n/,
      ),
    })
    expect(stderr).toContain('LOG_DIFFERS')
    running.process.kill('SIGTERM')
    await running.ended
  })
})

it('the members of an object are where JSON has them', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string({ minLength: 1 }), fc.jsonValue()), (object) => {
      const text = Buffer.from(JSON.stringify(object))
      const found = [...membersOf(text, 0)].map(({ name, start, end }) => [
        JSON.parse(`"${name}"`),
        JSON.parse(text.toString('utf8', start, end)),
      ])
      expect(found).toEqual(Object.entries(JSON.parse(text.toString())))
    }),
  )
})
