/** The formats beside evert's own: the same changes, as others expect them. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { FormatName } from '../src/event/envelope.js'
import { envelope } from '../src/event/formats.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log, LogRecord } from '../src/log/log.js'
import { readableLine } from '../src/cli/tail-format.js'
import { positionIn } from '../src/log/position-in.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

const WIDE = `(select string_agg(md5(g::text), '') from generate_series(1, 500) g)`
const SETUP = `create table item (id int primary key, n numeric, wide text); insert into item values (1, 1.50, ${WIDE})`
const STATEMENTS = [
  `insert into item values (2, null, 'x')`,
  `update item set n = 2 where id = 1`,
  `update item set id = 3 where id = 2`,
  `delete from item where id = 3`,
  `truncate item`,
  `select pg_logical_emit_message(true, 'mine', 'hello')`,
]

interface Shown {
  readonly key: unknown
  readonly value: Record<string, any> | null
  readonly headers: Readonly<Record<string, string>>
}

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

async function recordsIn(format: FormatName, setup = SETUP, statements = STATEMENTS): Promise<LogRecord[]> {
  await database.query(setup)
  const origins = { pipeline: 'shop', database: database.name, version: '1.2.3' }
  const pipeline = startPipeline(database, {
    openLog,
    name: 'shop',
    slot: database.name,
    publication: database.name,
    envelope: envelope(format, origins),
  })
  await pipeline.caughtUp()
  for (const statement of statements) await database.query(statement)
  await pipeline.caughtUp()
  expect(await pipeline.stop()).toBeUndefined()
  const log = await openLog()
  const records = [...(await readAll(log, 'shop.public.')), ...(await readAll(log, 'shop.message'))]
  await log.close()
  return records.filter(({ value }) => !/"prefix":"test"/.test(String(value)))
}

function shown({ key, value, headers }: LogRecord): Shown {
  return {
    key: JSON.parse(String(key)),
    value: value === null ? null : JSON.parse(String(value)),
    headers: Object.fromEntries(headers.map((header) => [header.key, header.value.toString()])),
  }
}

it.each(['evert', 'debezium', 'plain', 'cloudevents'] as const)(
  '%s: positions are found in every record but tombstones behind a delete, and evert tail reads it',
  async (format) => {
    const records = await recordsIn(format)
    const positions = records.map(positionIn).filter((position) => position !== null)
    expect(positions).toHaveLength(8)
    expect(positions).toEqual([...new Set(positions)].toSorted())
    const lines = records.map(readableLine).filter((line) => line !== null)
    expect(lines.map((line) => stripVTControlCharacters(line).slice(13).replace(/\s+/g, ' ').slice(0, 40))).toEqual([
      expect.stringMatching(/^row public.item \{"id":1\} \{"n":"1.50","wi/),
      expect.stringMatching(/^insert public.item \{"id":2\} \{"n":null,/),
      expect.stringMatching(/^update public.item \{"id":1\} \{"n":"2"\}/),
      expect.stringMatching(/^delete public.item \{"id":2\}/),
      expect.stringMatching(/^insert public.item \{"id":3\} \{"n":null,/),
      expect.stringMatching(/^delete public.item \{"id":3\}/),
      expect.stringMatching(/^truncate public.item/),
      expect.stringMatching(/^message message \{"prefix":"mine"\} mine: $/),
    ])
  },
)

it('debezium: every field that its consumers may look for', async () => {
  const records = (await recordsIn('debezium')).map(shown)
  const [row, insert, update, gone, tombstone, moved, deleted, , truncated, message] = records
  const time = { ts_ms: expect.any(Number), ts_us: expect.any(Number), ts_ns: expect.any(Number) }
  const source = {
    version: '1.2.3',
    connector: 'postgresql',
    name: 'shop',
    db: database.name,
    schema: 'public',
    table: 'item',
    snapshot: 'false',
    sequence: expect.stringMatching(/^\["\d+","\d+"\]$/),
    txId: expect.any(Number),
    lsn: expect.any(Number),
    xmin: null,
    origin: null,
    origin_lsn: null,
    position: expect.any(String),
    ...time,
  }
  const outside = { transaction: null, ...time }
  expect(row?.value).toEqual({
    op: 'r',
    before: null,
    after: { id: 1, n: '1.50', wide: expect.any(String) },
    source: { ...source, snapshot: 'true', txId: null, sequence: expect.stringMatching(/^\[null,"\d+"\]$/) },
    ...outside,
  })
  expect(insert).toEqual({
    key: { id: 2 },
    value: { op: 'c', before: null, after: { id: 2, n: null, wide: 'x' }, source, ...outside },
    headers: {},
  })
  expect(JSON.parse(insert?.value?.['source'].sequence)[1]).toBe(String(insert?.value?.['source'].lsn))
  expect(update?.value).toEqual({
    op: 'u',
    before: null,
    after: { id: 1, n: '2' },
    unchanged: ['wide'],
    source,
    ...outside,
  })
  expect(gone).toEqual({
    key: { id: 2 },
    value: { op: 'd', before: { id: 2 }, after: null, source, ...outside },
    headers: { '__debezium.newkey': '{"id":3}' },
  })
  expect(tombstone).toEqual({ key: { id: 2 }, value: null, headers: {} })
  expect(moved).toMatchObject({ key: { id: 3 }, value: { op: 'c' }, headers: { '__debezium.oldkey': '{"id":2}' } })
  expect(deleted?.value).toMatchObject({ op: 'd', before: { id: 3 }, after: null })
  expect(truncated?.value).toEqual({ op: 't', before: null, after: null, source, ...outside })
  expect(message).toMatchObject({
    key: { prefix: 'mine' },
    value: { op: 'm', message: { prefix: 'mine', content: 'aGVsbG8=' }, source: { ...source, schema: '', table: '' } },
  })
})

/** What Debezium 3.6 with its Postgres connector wrote for these statements, with the settings that docs/events.md names. */
const REAL = readFileSync(new URL('support/debezium-3.6.jsonl', import.meta.url), 'utf8')
  .trim()
  .split('\n')

const CART = `create table cart (customer int, product int, quantity int, price numeric(10,2), added timestamptz, notes text, primary key (customer, product));
  alter table cart alter notes set storage external; insert into cart values (1, 2, 3, 4, '2026-03-01 12:00:00+00', null)`
const TRADE = [
  `insert into cart values (123, 999, 3, 12.50, '2026-03-01 12:00:00.123456+00', repeat('n', 9000))`,
  `update cart set quantity = 4 where customer = 123`,
  `update cart set product = 1000 where customer = 123`,
  `delete from cart where customer = 123`,
  `truncate cart`,
  `select pg_logical_emit_message(true, 'mine', 'hello')`,
]

it('debezium: field by field as the real one, but for what that makes up', async () => {
  const records = (await recordsIn('debezium', CART, TRADE)).map(shown)
  expect(records).toHaveLength(REAL.length)
  for (const [i, line] of REAL.entries()) {
    const real = JSON.parse(line)
    const { key, value } = records[i] ?? { key: null, value: null }
    // A compacted topic takes no null key.
    expect(key).toEqual(real.value?.op === 't' ? {} : real.key)
    if (real.value === null) {
      expect(value).toBeNull()
      continue
    }
    const { source, after, before, ...outside } = value ?? {}
    expect(Object.keys(real.value.source).filter((field) => !(field in source))).toEqual([])
    const stable = ({ connector, name, schema, table, xmin, origin, origin_lsn }: Record<string, unknown>): unknown => {
      return { connector, name, schema, table, xmin, origin, origin_lsn }
    }
    expect(stable(source)).toEqual(stable(real.value.source))
    for (const [field, its] of Object.entries(real.value.source)) {
      if (its !== null && source[field] !== null) expect([field, typeof source[field]]).toEqual([field, typeof its])
    }
    for (const [field, its] of Object.entries(real.value)) {
      if (field in outside) expect([field, typeof outside[field]]).toEqual([field, typeof its])
      else expect(['source', 'after', 'before']).toContain(field)
    }
    expect(outside).toMatchObject({ op: real.value.op, transaction: null })
    expect(rowOf(after)).toEqual(rowOf(real.value.after))
    expect(rowOf(before)).toEqual(rowOf(real.value.before, (its) => its !== null))
  }
})

/** Without what Debezium makes up, times with as many digits as they have. */
function rowOf(
  row: Record<string, unknown> | null | undefined,
  sent: (value: unknown) => boolean = () => true,
): unknown {
  if (row === null || row === undefined) return row ?? null
  const entries = Object.entries(row).filter(([, value]) => value !== '__debezium_unavailable_value' && sent(value))
  const plain = entries.map(([name, value]) => {
    return [name, typeof value === 'string' ? value.replace(/\.0+Z$/, 'Z').replace(/^n{9000}$/, '…') : value]
  })
  return Object.fromEntries(plain)
}

it('plain: the row itself, a delete is a tombstone, the rest is in headers', async () => {
  const records = (await recordsIn('plain')).map(shown)
  expect(records.map(({ key, value }) => [key, value])).toEqual([
    [{ id: 1 }, { id: 1, n: '1.50', wide: expect.any(String) }],
    [{ id: 2 }, { id: 2, n: null, wide: 'x' }],
    [{ id: 1 }, { id: 1, n: '2' }],
    [{ id: 2 }, null],
    [{ id: 3 }, { id: 3, n: null, wide: 'x' }],
    [{ id: 3 }, null],
    [{}, null],
    [{ prefix: 'mine' }, { prefix: 'mine', content: 'aGVsbG8=' }],
  ])
  const position = expect.stringMatching(/^[0-9a-f]{16}-[0-9a-f]{8}$/)
  const time = { 'evert.position': position, 'evert.ts_us': expect.stringMatching(/^\d{16}$/) }
  const change = { ...time, 'evert.txid': expect.stringMatching(/^\d+$/) }
  expect(records.map(({ headers }) => headers)).toEqual([
    { 'evert.op': 'r', ...time },
    { 'evert.op': 'c', ...change },
    { 'evert.op': 'u', ...change, 'evert.unchanged': '["wide"]' },
    { 'evert.op': 'd', ...change, 'evert.newkey': '{"id":3}' },
    { 'evert.op': 'c', ...change, 'evert.oldkey': '{"id":2}' },
    { 'evert.op': 'd', ...change },
    { 'evert.op': 't', ...change },
    { 'evert.op': 'm', ...change },
  ])
})

it('plain: a change that is written again, because a composite type was altered, takes no second ordinal', async () => {
  const setup = `create type pair as (a int, b text); create table item (id int primary key, p pair)`
  const records = await recordsIn('plain', setup, [
    `insert into item values (1, '(1,x)')`,
    `alter type pair add attribute c int`,
    `insert into item values (2, '(2,y,3)'), (3, '(3,z,)')`,
  ])
  const log = await openLog()
  const shapes = (await readAll(log, 'shop.schema')).map(({ value }) => JSON.parse(String(value)).position)
  await log.close()
  expect(shapes.at(-1)).toBe(positionIn(records[1]!))
  const ordinals = records.map(({ headers }) =>
    headers
      .find(({ key }) => key === 'evert.position')!
      .value.toString()
      .slice(17),
  )
  expect(ordinals).toEqual(['00000000', '00000000', '00000001'])
  expect(records.map(({ value }) => JSON.parse(String(value)).p)).toEqual([
    { a: 1, b: 'x' },
    { a: 2, b: 'y', c: 3 },
    { a: 3, b: 'z', c: null },
  ])
})

it('cloudevents: version 1.0 in structured JSON', async () => {
  const records = (await recordsIn('cloudevents')).map(shown)
  const [row, , update] = records
  const context = {
    specversion: '1.0',
    source: '/evert/shop',
    subject: 'public.item',
    datacontenttype: 'application/json',
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
    evertlsn: expect.stringMatching(/^\d+$/),
    id: expect.stringMatching(/^[0-9a-f]{16}-[0-9a-f]{8}$/),
  }
  expect(row?.value).toEqual({
    ...context,
    type: 'evert.row',
    data: { op: 'r', before: null, after: { id: 1, n: '1.50', wide: expect.any(String) } },
  })
  expect(update?.value).toEqual({
    ...context,
    type: 'evert.update',
    everttxid: expect.stringMatching(/^\d+$/),
    data: { op: 'u', before: null, after: { id: 1, n: '2' }, unchanged: ['wide'] },
  })
  for (const { value, headers } of records) {
    if (value !== null) expect(headers['content-type']).toBe('application/cloudevents+json; charset=UTF-8')
  }
  expect(records.at(-1)?.value).toMatchObject({ type: 'evert.message', data: { message: { content: 'aGVsbG8=' } } })
})
