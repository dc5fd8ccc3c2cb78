/** Promise 6 again: a second database, rebuilt from the log alone by an applier that knows nothing of evert's code, equals the first. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log } from '../src/log/log.js'
import { Applier } from './support/applier.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { generator } from './support/random.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

const SEED = Number(process.env['EVERT_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const STEPS = Number(process.env['EVERT_TEST_STEPS'] ?? 600)
const TABLES = ['a', 'b', 'c']
/** Column types, and an SQL expression for a random value of each. */
const TYPES: readonly (readonly [string, string])[] = [
  ['integer', '(random() * 1000)::int'],
  ['bigint', '(random() * 1e12)::bigint'],
  ['text', `(array['', 'x', 'quote '' " \\ end', repeat('wide', 3000), 'é😀'])[1 + (random() * 4)::int]`],
  ['numeric(20,4)', '(random() * 1e9)::numeric(20,4)'],
  ['double precision', 'random() * 1e6'],
  ['boolean', 'random() < 0.5'],
  ['timestamp with time zone', `'epoch'::timestamptz + random() * interval '60 years'`],
  ['date', `date '2000-01-01' + (random() * 9999)::int`],
  ['interval', `random() * interval '400 days'`],
  ['jsonb', `jsonb_build_object('a', (random() * 9)::int, 'b', array['x', null])`],
  ['bytea', `decode(md5(random()::text), 'hex')`],
  ['integer[]', 'array[(random() * 9)::int, null, 3]'],
  ['text[]', `array['a,b', null, '{"', (random() * 9)::text]`],
  ['uuid', 'gen_random_uuid()'],
  ['int4range', 'int4range(1, 2 + (random() * 9)::int)'],
]

const onTestEnd: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const end of onTestEnd.splice(0)) await end()
})

it(`a replica built from the log equals its source (EVERT_TEST_SEED=${SEED})`, async () => {
  const source = await freshDatabase()
  const replica = await freshDatabase()
  const directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 3 } })
  const random = generator(SEED)
  const columns = new Map<string, Map<string, string>>()
  await source.query('create sequence ids')
  await source.query(`select setseed(${(SEED % 1000) / 1000})`)
  for (const table of TABLES) {
    columns.set(table, new Map())
    await source.query(`create table ${table} (id int primary key)`)
    await change(table)
    await change(table)
    await source.query(insert(table, 20))
  }
  const pipeline = startPipeline(source, { openLog, limits: { bytes: 65_536, ageMs: 0 } })
  onTestEnd.push(() => pipeline.stop())
  await pipeline.caughtUp()
  for (let step = 0; step < STEPS; step++) {
    const table = TABLES[random(TABLES.length)] ?? 'a'
    if (random(20) === 0) await change(table)
    else await source.query(statement(table))
  }
  await pipeline.caughtUp()
  expect(await pipeline.stop()).toBeUndefined()

  const log = await openLog()
  const shapes = await readAll(log, `${source.name}.schema`)
  const client = await replica.client()
  const applier = new Applier(
    client,
    shapes.map(({ value }) => String(value)),
  )
  await applier.apply(await readAll(log, `${source.name}.public.`))
  await log.close()
  await replica.query('create extension dblink')
  for (const table of TABLES) await requireEqual(source, replica, table)
  await source.drop()
  await replica.drop()
  rmSync(directory, { recursive: true, force: true })

  function insert(table: string, count: number): string {
    const names = [...(columns.get(table) ?? [])]
    const list = ['id', ...names.map(([name]) => name)].join(', ')
    const expressions = names.map(([, expression]) => `case when random() < 0.9 then ${expression} end`)
    return `insert into ${table} (${list}) select ${[`nextval('ids')`, ...expressions].join(', ')} from generate_series(1, ${count}) g`
  }

  /** A column comes, goes, or is renamed; the rows are touched, for a change of shape alone is no change of rows. */
  async function change(table: string): Promise<void> {
    const own = columns.get(table) ?? new Map<string, string>()
    const [type, expression] = TYPES[random(TYPES.length)] ?? TYPES[0]!
    const name = `c${random(1_000_000)}`
    const [first] = own.keys()
    const kind = own.size > 5 ? 1 : random(3)
    const statements: string[] = []
    if (kind === 0 || first === undefined) {
      own.set(name, expression)
      statements.push(`alter table ${table} add column ${name} ${type}`)
      if (type === 'text') statements.push(`alter table ${table} alter column ${name} set storage external`)
    } else if (kind === 1) {
      own.delete(first)
      statements.push(`alter table ${table} drop column ${first}`)
    } else {
      own.set(name, own.get(first) ?? '')
      own.delete(first)
      statements.push(`alter table ${table} rename column ${first} to ${name}`)
    }
    await source.query(['begin', ...statements, touchAll(table, own), 'commit'].join(';'))
  }

  /** Every value anew, so that none of them is unchanged. */
  function touchAll(table: string, own: ReadonlyMap<string, string>): string {
    const sets = [...own].map(([name, expression]) => `${name} = ${expression}`)
    return sets.length === 0 ? 'select 1' : `update ${table} set ${sets.join(', ')}`
  }

  function statement(table: string): string {
    const own = [...(columns.get(table) ?? [])]
    const some = own[random(Math.max(own.length, 1))]
    const update =
      some === undefined
        ? `update ${table} set id = id`
        : `update ${table} set ${some[0]} = ${some[1]} where random() < 0.3`
    const kind = random(100)
    if (kind < 35) return insert(table, 1 + random(4))
    if (kind < 70) return update
    if (kind < 80)
      return `update ${table} set id = nextval('ids') where id in (select id from ${table} order by random() limit 2)`
    if (kind < 90) return `delete from ${table} where id in (select id from ${table} order by random() limit 3)`
    if (kind < 93)
      return `begin; ${insert(table, 2)}; savepoint s; delete from ${table}; rollback to s; ${update}; commit`
    return kind < 94 ? `truncate ${table}` : update
  }
})

async function requireEqual(source: TestDatabase, replica: TestDatabase, table: string): Promise<void> {
  const [row] = await source.query(
    `select string_agg(quote_ident(attname), ', ' order by attname) as names from pg_attribute
      where attrelid = '${table}'::regclass and attnum > 0 and not attisdropped`,
  )
  const rows = `select row(${row?.['names']})::text as r from public.${table}`
  const { hostname, port } = new URL(source.url)
  const theirs = `select r from dblink('host=${hostname} port=${port} user=postgres dbname=${source.name}', $q$${rows}$q$) as d (r text)`
  const [counts] = await source.query(`select count(*) from ${table}`)
  const differences = await replica.query(`(${rows} except ${theirs}) union all (${theirs} except ${rows})`)
  expect([table, differences]).toEqual([table, []])
  expect(await replica.query(`select count(*) from public.${table}`)).toEqual([counts])
}
