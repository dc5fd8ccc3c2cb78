/**
 * Promise 5 at random: writers on six tables, backfills of them at the same time, kills of the daemon, altered tables, transactions that
 * stay open. In the end the fold of the log equals the tables, and no row of a backfill follows a newer change of its key.
 * EVERT_TEST_ROUNDS says how many rounds (200), EVERT_TEST_SEED what they do.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type pg from 'pg'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { LogRecord } from '../src/log/log.js'
import { killAll, type RunningCli, startCli } from './support/cli.js'
import { readAll } from './support/pipeline.js'
import { generator } from './support/random.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

const SEED = Number(process.env['EVERT_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const ROUNDS = Number(process.env['EVERT_TEST_ROUNDS'] ?? 200)
const ROWS = 300
/** One has values that Postgres does not send when they are unchanged, one a key of two columns, one its whole old rows, one no key. */
const TABLES = ['plain', 'wide', 'pair', 'whole', 'moving', 'loose'] as const
type Table = (typeof TABLES)[number]
const SETUP = `
  create sequence ids start 100000;
  create sequence versions;
  create table plain (id bigint primary key, n bigint, note text);
  create table wide (id bigint primary key, n bigint, note text);
  alter table wide alter note set storage external;
  create table pair (id bigint, side text, n bigint, note text, primary key (side, id));
  create table whole (id bigint primary key, n bigint, note text);
  alter table whole replica identity full;
  create table moving (id bigint primary key, n bigint, note text);
  create table loose (id bigint, n bigint, note text);
  alter table loose replica identity full;
  ${TABLES.map(
    (table) => `insert into ${table} (id, n, note${table === 'pair' ? ', side' : ''})
    select g, 0, ${note(table)}${table === 'pair' ? ", 'left'" : ''} from generate_series(1, ${ROWS}) g;`,
  ).join('\n')}`

function note(table: Table): string {
  return table === 'wide' ? `repeat(md5(random()::text), 100)` : `md5(random()::text)`
}

const random = generator(SEED)
const pick = <T>(from: readonly T[]): T => from[random(from.length)]!

function statement(): string {
  const table = pick(TABLES)
  const some = `id in (select id from ${table} offset ${random(ROWS)} limit ${1 + random(20)})`
  const kind = random(10)
  if (kind < 2) {
    const side = table === 'pair' ? [', side', ", 'right'"] : ['', '']
    return `insert into ${table} (id, n, note${side[0]}) select nextval('ids'), nextval('versions'), ${note(table)}${side[1]} from generate_series(1, ${1 + random(5)})`
  }
  if (kind < 3) return `delete from ${table} where id in (select id from ${table} offset ${random(ROWS)} limit 2)`
  if (kind < 5 && table === 'moving')
    return `update moving set id = nextval('ids'), n = nextval('versions') where ${some}`
  // What is not set may be a value that the stream leaves out.
  const also = kind < 7 ? `, note = ${note(table)}` : ''
  return `update ${table} set n = nextval('versions')${also} where ${some}`
}

/** A transaction with savepoints; one that fails, by a deadlock or a table that is altered, has done nothing. */
async function transaction(client: pg.Client, statements: number): Promise<void> {
  try {
    await client.query('begin')
    for (let i = 0; i < statements; i++) {
      const savepoint = random(4) === 0
      if (savepoint) await client.query('savepoint s')
      await client.query(statement())
      if (savepoint && random(2) === 0) await client.query('rollback to s')
    }
    await client.query(random(10) === 0 ? 'rollback' : 'commit')
  } catch {
    await client.query('rollback')
  }
}

type Row = Readonly<Record<string, unknown>>

/** Rows as a consumer has them that read the log from its beginning; and what was wrong on the way. */
function fold(records: readonly LogRecord[]): { rows: Map<string, Row>; wrong: string[] } {
  const rows = new Map<string, Row>()
  const versions = new Map<string, number>()
  const positions = new Map<string, string>()
  /** Rows without a key come all at one place. */
  const once = new Set<string>()
  const wrong: string[] = []
  for (const { topic, partition, key, value } of records) {
    if (value === null) continue
    const { op, before, after, unchanged, source } = JSON.parse(String(value))
    const place = `${topic}/${partition}`
    if (source.position <= (positions.get(place) ?? '')) wrong.push(`${place}: ${source.position} is not behind`)
    positions.set(place, source.position)
    const id = `${topic} ${key ?? (after ?? before).id}`
    if (op === 'r') {
      const one = `${id} ${source.position.slice(0, 16)}`
      if (key === null && once.has(one)) wrong.push(`${id}: comes twice`)
      once.add(one)
    }
    if (op === 'd') {
      rows.delete(id)
      versions.set(id, Number.POSITIVE_INFINITY)
      continue
    }
    const n = Number(after.n)
    if (n < (versions.get(id) ?? 0)) wrong.push(`${id}: ${op} of version ${n} follows ${versions.get(id)}`)
    versions.set(id, n)
    const kept: Record<string, unknown> = { ...after }
    for (const column of unchanged ?? []) kept[column] = rows.get(id)?.[column]
    rows.set(id, kept)
  }
  return { rows, wrong }
}

afterEach(killAll)

it(`backfills under everything at once leave a log that equals the tables (EVERT_TEST_SEED=${SEED})`, async () => {
  const database = await freshDatabase()
  const directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  await database.query(SETUP)
  await database.query('select setseed(0.5)')
  const start = (): RunningCli =>
    startCli(
      [
        'run',
        '--source',
        database.url,
        '--log',
        directory,
        '--partitions',
        '2',
        '--snapshot',
        'none',
        '--batch-bytes',
        '64KiB',
      ],
      { EVERT_NAME: database.name },
    )
  let daemon = start()
  await daemon.says('streaming')
  const clients = await Promise.all([1, 2, 3].map(() => database.client()))
  const idle = await database.client()
  const asked: string[] = []
  const dropping: string[] = []
  for (let round = 0; round < ROUNDS; round++) {
    // One that stays open, across chunks that are read meanwhile.
    if (random(5) === 0) await idle.query(`begin; ${statement()}`)
    const id = `round ${round}`
    asked.push(id)
    await ask(database, id, random(3) === 0 ? '*' : pick(TABLES))
    const closed = new Promise((resolve) => setTimeout(resolve, random(400))).then(() => idle.query('commit'))
    await Promise.all(
      clients.map(async (client) => {
        for (let i = 0; i < 3; i++) await transaction(client, 1 + random(6))
      }),
    )
    await closed
    if (random(10) === 0) await alter(database, dropping)
    if (random(4) === 0) {
      daemon.process.kill('SIGKILL')
      await daemon.ended
      daemon = start()
    }
  }
  await Promise.race([
    settled(database, directory, asked),
    daemon.ended.then(({ code, stderr }) => Promise.reject(new Error(`evert ended with ${code}: ${stderr}`))),
  ])
  daemon.process.kill('SIGTERM')
  expect((await daemon.ended).code).toBe(0)
  const log = await openEmbeddedLog({ directory, topics: { partitions: 2 } })
  const { rows, wrong } = fold(await readAll(log, `${database.name}.public.`))
  await log.close()
  expect(wrong.slice(0, 20)).toEqual([])
  for (const table of TABLES) {
    const expected = await database.query(`select row_to_json(t) as row from ${table} t order by id`)
    const text = (row: unknown): string => JSON.stringify(row, Object.keys(row as Row).toSorted())
    const found = [...rows].filter(([id]) => id.startsWith(`${database.name}.public.${table} `)).map(([, row]) => row)
    const [have, should] = [new Set(found.map(text)), new Set(expected.map(({ row }) => text(JSON.parse(row ?? ''))))]
    const extra = [...have].filter((row) => !should.has(row)).slice(0, 5)
    const missing = [...should].filter((row) => !have.has(row)).slice(0, 5)
    expect({ table, extra, missing, rows: found.length }).toEqual({ table, extra: [], missing: [], rows: should.size })
  }
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
}, 3_600_000)

async function ask(database: TestDatabase, id: string, tables: string): Promise<void> {
  const request = JSON.stringify({ pipeline: database.name, do: 'snapshot', id, tables })
  await database.query(`select pg_logical_emit_message(true, 'evert', '${request}')`)
}

/** Another column, or one less. */
async function alter(database: TestDatabase, extra: string[]): Promise<void> {
  const dropped = extra.length > 0 && random(2) === 0 ? extra.pop() : undefined
  if (dropped !== undefined) {
    await database.query(dropped)
    return
  }
  const table = pick(TABLES)
  const column = `c${random(1_000_000)}`
  await database.query(`alter table ${table} add column ${column} int default ${random(100)}`)
  extra.push(`alter table ${table} drop column ${column}`)
}

/** All that were asked for have come to their end, and then a last backfill of everything. */
async function settled(database: TestDatabase, directory: string, asked: readonly string[]): Promise<void> {
  const told = async (kind: string): Promise<Set<string>> => {
    const log = await openEmbeddedLog({ directory, topics: { partitions: 2 } })
    const records = await readAll(log, `${database.name}.notification`)
    await log.close()
    const all = records.map(({ value }) => JSON.parse(String(value)))
    return new Set(all.filter((notification) => notification.kind === kind).map(({ id }) => id))
  }
  const over = async (ids: readonly string[]): Promise<void> => {
    for (;;) {
      // Where this machine is slow, more wait than the pipeline takes.
      const ended = new Set([...(await told('backfill-complete')), ...(await told('backfill-refused'))])
      if (ids.every((id) => ended.has(id))) return
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  await over(asked)
  await ask(database, 'last', '*')
  await over(['last'])
  const complete = await told('backfill-complete')
  expect(complete).toContain('last')
  expect(complete.size).toBeGreaterThan(asked.length / 4)
}
