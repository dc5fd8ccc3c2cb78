/** Promise 6: what a row becomes, through the whole way, on the oldest and the newest server at hand. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalPostgres } from '../src/cli/local-postgres.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log } from '../src/log/log.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { startPostgres } from './support/postgres.js'
import { freshDatabase, type TestDatabase, testPostgres } from './support/servers.js'

interface SeenEvent {
  readonly key: string | null
  readonly value: null | {
    readonly op: string
    readonly before: Record<string, unknown> | null
    readonly after: Record<string, unknown> | null
    readonly unchanged?: readonly string[]
    readonly message?: unknown
    readonly source: Record<string, unknown>
  }
  readonly text: string
  readonly headers: Record<string, string>
  readonly timestampMs: number
}

/** Each value as a column of its own: the SQL literal, and the JSON it is to be. */
const VALUES: readonly (readonly [type: string, literal: string, json: string])[] = [
  ['boolean', 'true', 'true'],
  ['smallint', '-32768', '-32768'],
  ['bigint', '9223372036854775807', '9223372036854775807'],
  ['oid', '4294967295', '4294967295'],
  ['real', `'NaN'`, '"NaN"'],
  ['double precision', '0.1', '0.1'],
  ['double precision', `'-Infinity'`, '"-Infinity"'],
  ['double precision', '1e300', '1e+300'],
  ['numeric(30,10)', '12345678901234567890.1234567890', '"12345678901234567890.1234567890"'],
  ['numeric', `'NaN'`, '"NaN"'],
  ['money', '-1234.5', '"-1234.50"'],
  [
    'text',
    `E'quote " backslash \\\\ newline \\n tab \\t bell \\u0007 é 東京 😀'`,
    String.raw`"quote \" backslash \\ newline \n tab \t bell \u0007 é 東京 😀"`,
  ],
  ['text', `''`, '""'],
  ['text', 'null', 'null'],
  ['char(5)', `'ab'`, '"ab   "'],
  ['json', `'{"a": 1.0, "a": null}'`, String.raw`"{\"a\": 1.0, \"a\": null}"`],
  ['jsonb', `'[12345678901234567890]'`, '"[12345678901234567890]"'],
  ['bytea', String.raw`'\x00ff10'`, '"AP8Q"'],
  ['uuid', `'00000000-0000-0000-0000-00000000abcd'`, '"00000000-0000-0000-0000-00000000abcd"'],
  ['date', `'2026-03-01'`, '"2026-03-01"'],
  ['date', `'infinity'`, '"infinity"'],
  ['date', `'0044-03-15 BC'`, '"-000043-03-15"'],
  ['timestamp', `'2026-03-01 12:00:00.123456'`, '"2026-03-01T12:00:00.123456"'],
  ['timestamptz', `'2026-03-01 12:00:00.5+02'`, '"2026-03-01T10:00:00.5Z"'],
  ['timestamptz', `'12026-03-01 12:00:00+00'`, '"+012026-03-01T12:00:00Z"'],
  ['time', `'23:59:59.999999'`, '"23:59:59.999999"'],
  ['interval', `'1 year 2 days 03:04:05.6'`, '"P1Y2DT3H4M5.6S"'],
  ['inet', `'10.0.0.1/8'`, '"10.0.0.1/8"'],
  ['int[]', `'{{1,2},{3,null}}'`, '[[1,2],[3,null]]'],
  ['int[]', `'{}'`, '[]'],
  ['text[]', `array['a,b', 'c"d', null, 'NULL', '']`, String.raw`["a,b","c\"d",null,"NULL",""]`],
  ['numeric[]', `'{1.50}'`, '["1.50"]'],
  ['int4range', `'[1,5)'`, '"[1,5)"'],
  ['mood', `'so so'`, '"so so"'],
  ['pair', `'(1,"x y")'`, '{"a":1,"b":"x y"}'],
]

describe.each([18, 15])('events of Postgres %i', (major) => {
  let server: LocalPostgres | null = null
  let database: TestDatabase
  let directory: string
  const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 2 } })

  beforeAll(async () => {
    if (major !== 18) server = await startPostgres({ major })
  })

  afterAll(async () => {
    await server?.stop()
  })

  beforeEach(async () => {
    database = await freshDatabase(server?.url('postgres') ?? testPostgres())
    directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  })

  afterEach(async () => {
    await database.drop()
    rmSync(directory, { recursive: true, force: true })
  })

  /** What a table's topic holds after statements, in order (each test has one key, or asks for none). */
  async function eventsOf(setup: string, statements: readonly string[], topic: string): Promise<SeenEvent[]> {
    await database.query(setup)
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    for (const statement of statements) await database.query(statement)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const log = await openLog()
    const records = (await readAll(log, `${database.name}.`)).filter(
      (record) => record.topic === `${database.name}.${topic}`,
    )
    await log.close()
    return records.map((record) => ({
      key: record.key?.toString() ?? null,
      value: record.value === null ? null : JSON.parse(record.value.toString()),
      text: record.value?.toString() ?? '',
      headers: Object.fromEntries(record.headers.map(({ key, value }) => [key, value.toString()])),
      timestampMs: record.timestampMs,
    }))
  }

  const shape = (events: readonly SeenEvent[]): unknown[] =>
    events.map(({ key, value }) =>
      value === null ? [key, null] : [key, value.op, value.before, value.after, ...(value.unchanged ?? [])],
    )

  it('hold every digit of every common type, alike from the snapshot and from the stream', async () => {
    const columns = VALUES.map(([type], i) => `c${i} ${type}`).join(', ')
    const literals = VALUES.map(([, literal]) => literal).join(', ')
    const events = await eventsOf(
      `create type mood as enum ('so so'); create type pair as (a int, b text);
       create table item (id int primary key, ${columns}); insert into item values (1, ${literals})`,
      [`insert into item values (2, ${literals})`],
      'public.item',
    )
    const expected = VALUES.map(([, , json], i) => `"c${i}":${json}`).join(',')
    const texts = new Map(events.map(({ value, text }) => [value?.op, text]))
    expect(texts.get('r')).toContain(`"after":{"id":1,${expected}}`)
    expect(texts.get('c')).toContain(`"after":{"id":2,${expected}}`)
  })

  it('say where they come from', async () => {
    const [event] = await eventsOf(
      'create table item (id int primary key)',
      ['insert into item values (1)'],
      'public.item',
    )
    const [row] = await database.query(
      `select xmin::text as xid, (extract(epoch from now()) * 1000)::bigint::text as now from item`,
    )
    const source = event?.value?.source ?? {}
    expect(Object.keys(event?.value ?? {})).toEqual(['op', 'before', 'after', 'source'])
    expect(source).toEqual({
      schema: 'public',
      table: 'item',
      txId: Number(row?.['xid']),
      lsn: expect.any(Number),
      ts_us: expect.any(Number),
      position: expect.stringMatching(/^[0-9a-f]{16}-00000000$/),
    })
    expect(event?.timestampMs).toBe(Math.floor(Number(source['ts_us']) / 1000))
    expect(Math.abs(Number(row?.['now']) - (event?.timestampMs ?? 0))).toBeLessThan(60_000)
  })

  it('follow a key: insert, update, a changed key with its headers, delete and tombstones', async () => {
    const events = await eventsOf(
      'create table item (a int, note text, b text, primary key (b, a))',
      [
        `insert into item values (1, 'n', 'x')`,
        `update item set note = 'm'`,
        `update item set a = 2`,
        `delete from item`,
      ],
      'public.item',
    )
    const of = (key: string): unknown[] => shape(events.filter((event) => event.key === key))
    // The columns of the key are in the table's order, not the index's.
    expect(of('{"a":1,"b":"x"}')).toEqual([
      ['{"a":1,"b":"x"}', 'c', null, { a: 1, note: 'n', b: 'x' }],
      ['{"a":1,"b":"x"}', 'u', null, { a: 1, note: 'm', b: 'x' }],
      ['{"a":1,"b":"x"}', 'd', { a: 1, b: 'x' }, null],
      ['{"a":1,"b":"x"}', null],
    ])
    expect(of('{"a":2,"b":"x"}')).toEqual([
      ['{"a":2,"b":"x"}', 'c', null, { a: 2, note: 'm', b: 'x' }],
      ['{"a":2,"b":"x"}', 'd', { a: 2, b: 'x' }, null],
      ['{"a":2,"b":"x"}', null],
    ])
    expect(events.flatMap(({ headers }) => Object.entries(headers))).toEqual(
      expect.arrayContaining([
        ['evert.newkey', '{"a":2,"b":"x"}'],
        ['evert.oldkey', '{"a":1,"b":"x"}'],
      ]),
    )
  })

  it('name what Postgres did not send, and take it from the old row where that is there', async () => {
    const wide = `(select string_agg(md5(g::text), '') from generate_series(1, 2000) g)`
    const setup = `create table item (id int primary key, n int, wide text); insert into item values (1, 1, ${wide})`
    const events = await eventsOf(
      setup,
      ['update item set n = 2', 'alter table item replica identity full', 'update item set n = 3'],
      'public.item',
    )
    const [row] = await database.query('select wide from item')
    expect(shape(events.slice(1, 2))).toEqual([['{"id":1}', 'u', null, { id: 1, n: 2 }, 'wide']])
    expect(events[2]?.value).toMatchObject({ before: { id: 1, n: 2 }, after: { id: 1, n: 3 } })
    expect(events[2]?.value).not.toHaveProperty('unchanged')
    expect(events[2]?.value?.after?.['wide'] === row?.['wide']).toBe(true)
  })

  it('know the row under every replica identity', async () => {
    const full = await eventsOf(
      `create table item (id int primary key, n int); alter table item replica identity full; insert into item values (1, 1)`,
      ['update item set n = null', 'delete from item'],
      'public.item',
    )
    expect(shape(full)).toEqual([
      ['{"id":1}', 'r', null, { id: 1, n: 1 }],
      ['{"id":1}', 'u', { id: 1, n: 1 }, { id: 1, n: null }],
      ['{"id":1}', 'd', { id: 1, n: null }, null],
      ['{"id":1}', null],
    ])
  })

  it('keep the key that a row had at its point of the stream, also where the stream does not say it', async () => {
    await database.query(`create table item (a int, b int, primary key (a, b)); alter table item replica identity full;
      insert into item values (1, 1)`)
    const first = startPipeline(database, { openLog })
    await first.caughtUp()
    expect(await first.stop()).toBeUndefined()
    await database.query(`update item set b = 1; alter table item rename b to c; update item set c = 1`)
    const second = startPipeline(database, { openLog })
    await second.caughtUp()
    expect(await second.stop()).toBeUndefined()
    const log = await openLog()
    const keys = (await readAll(log, `${database.name}.public.item`)).map(({ key }) => key?.toString())
    await log.close()
    expect(keys.toSorted()).toEqual(['{"a":1,"b":1}', '{"a":1,"b":1}', '{"a":1,"c":1}'])
  })

  it('stop rather than guess a key that nobody knows any more', async () => {
    await database.query(`create table item (a int primary key, b int); alter table item replica identity full`)
    const first = startPipeline(database, { openLog, snapshot: 'none' })
    await first.caughtUp()
    expect(await first.stop()).toBeUndefined()
    await database.query(`insert into item values (1, 1); alter table item rename a to id`)
    const second = startPipeline(database, { openLog })
    expect(await second.ended).toMatchObject({ code: 'KEY_UNKNOWN', message: expect.stringContaining('"item"') })
  })

  it('take their key from a replica identity index, and have none without an identity', async () => {
    const byIndex = await eventsOf(
      `create table item (id int primary key, code text not null unique); alter table item replica identity using index item_code_key;
       create table heap (n int); alter table heap replica identity nothing`,
      [`insert into item values (1, 'x')`, `update item set id = 2`, `delete from item`, `insert into heap values (7)`],
      'public.item',
    )
    expect(shape(byIndex)).toEqual([
      ['{"code":"x"}', 'c', null, { id: 1, code: 'x' }],
      ['{"code":"x"}', 'u', null, { id: 2, code: 'x' }],
      ['{"code":"x"}', 'd', { code: 'x' }, null],
      ['{"code":"x"}', null],
    ])
    const log = await openLog()
    const heap = (await readAll(log, `${database.name}.public.heap`)).map(({ key, value }) => [
      key,
      JSON.parse(String(value)).after,
    ])
    await log.close()
    expect(heap).toEqual([[null, { n: 7 }]])
  })

  it('tell of a truncate in every partition, and of logical messages that commit', async () => {
    const truncates = await eventsOf(
      'create table item (id int primary key)',
      [
        'insert into item values (1)',
        'truncate item',
        `select pg_logical_emit_message(true, 'mine', 'hello')`,
        `begin; select pg_logical_emit_message(true, 'mine', 'rolled back'); rollback`,
      ],
      'public.item',
    )
    expect(truncates.filter(({ value }) => value?.op === 't').map(({ key }) => key)).toEqual(['{}', '{}'])
    const log = await openLog()
    const messages = (await readAll(log, `${database.name}.message`)).map(({ value }) => JSON.parse(String(value)))
    await log.close()
    expect(messages.filter(({ message }) => message.prefix === 'mine').map(({ op, message }) => [op, message])).toEqual(
      [['m', { prefix: 'mine', content: Buffer.from('hello').toString('base64') }]],
    )
  })

  it('follow a table through DDL, and know identifiers as they are', async () => {
    const events = await eventsOf(
      `create schema "Odd.Schema"; create table "Odd.Schema"."Tä ble" ("Id" int primary key, "x""y" text)`,
      [
        `insert into "Odd.Schema"."Tä ble" values (1, 'a')`,
        `alter table "Odd.Schema"."Tä ble" add column later int default 5`,
        `insert into "Odd.Schema"."Tä ble" values (2, 'b', 6)`,
        `alter table "Odd.Schema"."Tä ble" drop column "x""y"`,
        `insert into "Odd.Schema"."Tä ble" values (3, 7)`,
      ],
      'Odd__2eSchema.T__c3__a4__20ble',
    )
    const rows = events.map(({ value }) => value?.after).toSorted((a, b) => Number(a?.['Id']) - Number(b?.['Id']))
    expect(rows).toEqual([
      { Id: 1, 'x"y': 'a' },
      { Id: 2, 'x"y': 'b', later: 6 },
      { Id: 3, later: 7 },
    ])
    expect(events[0]?.value?.source).toMatchObject({ schema: 'Odd.Schema', table: 'Tä ble' })
  })

  it('come in commit order with positions that only grow, whatever interleaves', async () => {
    await database.query('create table item (id int primary key, tx text)')
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    const [first, second] = [await database.client(), await database.client()]
    await first.query('begin')
    await first.query(`insert into item values (1, 'late')`)
    await second.query('begin')
    await second.query(`insert into item values (2, 'early')`)
    await first.query('savepoint a')
    await first.query(`insert into item values (3, 'undone')`)
    await first.query('rollback to a')
    await second.query(`insert into item values (4, 'early')`)
    await second.query('commit')
    await first.query(`insert into item values (5, 'late')`)
    await first.query('commit')
    await pipeline.caughtUp()
    await pipeline.stop()
    const log = await openLog()
    const values = (await readAll(log, `${database.name}.public.item`)).map(({ value }) => JSON.parse(String(value)))
    await log.close()
    const sorted = values.toSorted((a, b) => (a.source.position < b.source.position ? -1 : 1))
    expect(sorted.map(({ after, source }) => [after.id, source.position.slice(-8)])).toEqual([
      [2, '00000000'],
      [4, '00000001'],
      [1, '00000000'],
      [5, '00000001'],
    ])
  })
})
