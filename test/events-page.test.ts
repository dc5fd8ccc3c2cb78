/** docs/events.md: every value in its tables, and every sample, is what comes out of a real server. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { envelope } from '../src/event/formats.js'
import { type FormatName } from '../src/event/envelope.js'
import { DEFAULT_VALUES, type ValueOptions } from '../src/event/type-kinds.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log, LogRecord } from '../src/log/log.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

const PAGE = readFileSync(new URL('../docs/events.md', import.meta.url), 'utf8')
const TYPES = `create extension hstore; create extension citext; create type mood as enum ('so so');
  create domain even as int; create type pair as (a int, b text)`

/** The cells of a table's rows, by the header of its second column. */
function rowsOf(header: string): string[][] {
  const lines = PAGE.split('\n')
  const start = lines.findIndex((line) => line.startsWith(`| ${header} |`))
  const end = lines.findIndex((line, i) => i > start && !line.startsWith('|'))
  return lines.slice(start + 2, end).map((line) => line.split(' | ').map((cell) => cell.replace(/^\|? ?|( \|)?$/g, '')))
}

const code = (cell = ''): string => /^`(.*)`$/.exec(cell)?.[1] ?? cell

/** Fenced samples by what stands behind `json`. */
const SAMPLES = new Map(
  [...PAGE.matchAll(/^```json (.+)\n(.+)\n```$/gm)].map(([, title = '', text = '']) => [title, text]),
)

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

async function publish(
  setup: string,
  statements: readonly string[],
  options: { values?: ValueOptions; format?: FormatName } = {},
): Promise<LogRecord[]> {
  await database.query(setup)
  const origins = { pipeline: 'shop', database: database.name, version: '0.1.0' }
  const pipeline = startPipeline(database, {
    openLog,
    name: 'shop',
    slot: database.name,
    publication: database.name,
    values: options.values ?? DEFAULT_VALUES,
    envelope: envelope(options.format ?? 'evert', origins),
  })
  await pipeline.caughtUp()
  for (const statement of statements) await database.query(statement)
  await pipeline.caughtUp()
  expect(await pipeline.stop()).toBeUndefined()
  const log = await openLog()
  const records = await readAll(log, 'shop.')
  await log.close()
  return records
}

function after(records: readonly LogRecord[]): string {
  const text = String(records.find(({ topic }) => topic === 'shop.public.item')?.value)
  return text.slice(text.indexOf('"after":') + 8, text.lastIndexOf(',"source":{"schema"'))
}

it('its values are what comes out', async () => {
  const rows = rowsOf('type')
  expect(rows.length).toBeGreaterThan(25)
  const columns = rows.map(([, sql], i) => `${code(sql)} as c${i}`)
  const text = after(await publish(`${TYPES}; create table item as select ${columns.join(', ')}`, []))
  const expected = rows.map(([, , json], i) => `"c${i}":${code(json)}`)
  expect(text).toBe(`{${expected.join(',')}}`)
})

const OPTION: Readonly<Record<string, Partial<ValueOptions>>> = {
  '--json-values nested': { json: 'nested' },
  '--bytea-values hex': { bytea: 'hex' },
  '--numeric-values number': { numeric: 'number' },
  '--timestamp-values epoch-us': { timestamps: 'epoch-us' },
}

it.each(rowsOf('option').map((row) => row.map(code)))('with %s, %s comes out as %s', async (option, sql, json) => {
  const values = { ...DEFAULT_VALUES, ...OPTION[option ?? ''] }
  expect(values).not.toEqual(DEFAULT_VALUES)
  expect(after(await publish(`create table item as select ${sql} as v`, [], { values }))).toBe(`{"v":${json}}`)
})

const CART = `create table cart (customer int, product int, quantity int, price numeric(10,2), added timestamptz, notes text, primary key (customer, product));
  alter table cart alter notes set storage external; insert into cart values (1, 2, 3, 4, '2026-03-01 12:00:00+00', null)`
const LONG = `repeat('n', 9000)`
const TRADE = [
  `insert into cart values (123, 999, 3, 12.50, '2026-03-01 12:00:00.123456+00', ${LONG})`,
  `update cart set quantity = 4 where customer = 123`,
  `delete from cart where customer = 123`,
  `truncate cart`,
  `select pg_logical_emit_message(true, 'mine', 'hello')`,
]

/** What is different every time. */
function normal(text: string): string {
  return text
    .replaceAll(/"(txId|lsn|ts_ms|ts_us|ts_ns|oid)":\d+/g, '"$1":0')
    .replaceAll(/"(everttxid|evertlsn)":"\d+"/g, '"$1":"0"')
    .replaceAll(/[0-9a-f]{16}-[0-9a-f]{8}/g, 'position')
    .replaceAll(/\\"\d+\\"/g, '\\"0\\"')
    .replaceAll(/"time":"[^"]+"/g, '"time":""')
    .replaceAll(/"db":"[^"]+"/g, '"db":"shop"')
    .replaceAll(/n{9000}/g, '…')
}

it.each(['evert', 'debezium', 'plain', 'cloudevents'] as const)(
  'its samples of the format %s are what comes out',
  async (format) => {
    const samples = [...SAMPLES].filter(([title]) => title.startsWith(`${format} `))
    expect(samples.length).toBeGreaterThan(0)
    const records = await publish(CART, TRADE, { format })
    const seen = records.flatMap(({ topic, value }) =>
      value === null || topic === 'shop.schema' ? [] : [normal(String(value))],
    )
    for (const [, sample] of samples) expect(seen).toContain(normal(sample))
    const schema = records.find(({ topic }) => topic === 'shop.schema')
    if (format === 'evert') expect(normal(String(schema?.value))).toBe(normal(SAMPLES.get('schema') ?? ''))
  },
)
