/**
 * Promise 6, without a hand-written expectation: random rows of all types, and `after` as Postgres itself says it must be, alike from
 * the snapshot and from the stream.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import type { LocalPostgres } from '../src/cli/local-postgres.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log } from '../src/log/log.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { MAJORS, startPostgres } from './support/postgres.js'
import { RANDOM_TYPES, RANDOM_TYPES_SCHEMA, type RandomType } from './support/random-values.js'
import { freshDatabase, type TestDatabase, testPostgres } from './support/servers.js'

const ORACLE = readFileSync(new URL('support/oracle.sql', import.meta.url), 'utf8')
const SEED = Number(process.env['EVERT_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const ROWS = Number(process.env['EVERT_TEST_ROWS'] ?? 10_000)
const ROWS_PER_TABLE = 500
const COLUMNS = 9

interface RandomTable {
  readonly name: string
  readonly types: readonly RandomType[]
}

describe.each([...MAJORS])(`random rows of Postgres %i (EVERT_TEST_SEED=${SEED})`, (major) => {
  let server: LocalPostgres | null = null
  let database: TestDatabase
  let directory: string
  const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })

  beforeAll(async () => {
    if (major !== 18) server = await startPostgres({ major })
    database = await freshDatabase(server?.url('postgres') ?? testPostgres())
    directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  })

  afterAll(async () => {
    await database.drop()
    await server?.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  it('are what Postgres says', async () => {
    await database.query(RANDOM_TYPES_SCHEMA)
    await database.query(ORACLE)
    // Every type turns up in some table, and many beside others.
    const count = Math.max(Math.ceil(ROWS / ROWS_PER_TABLE), Math.ceil(RANDOM_TYPES.length / COLUMNS))
    const shuffled = fc.sample(fc.shuffledSubarray([...RANDOM_TYPES], { minLength: RANDOM_TYPES.length }), {
      seed: SEED,
      numRuns: Math.ceil((count * COLUMNS) / RANDOM_TYPES.length) + 1,
    })
    const types = shuffled.flat()
    const tables = Array.from({ length: count }, (_, i): RandomTable => {
      return { name: `t${i}`, types: types.slice(i * COLUMNS, (i + 1) * COLUMNS) }
    })
    for (const { name, types: columns } of tables) {
      const list = columns.map(({ sql }, i) => `c${i} ${sql}`).join(', ')
      await database.query(`create table ${name} (id int primary key, ${list})`)
    }
    const rows = Math.ceil(ROWS / tables.length / 2)
    for (const [i, table] of tables.entries()) await insert(table, { from: 0, count: rows, seed: SEED + i })
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    for (const [i, table] of tables.entries()) await insert(table, { from: rows, count: rows, seed: SEED - i - 1 })
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const seen = await eventsByTable()
    for (const table of tables) {
      const events = seen.get(table.name) ?? new Map<string, string>()
      expect([table.name, events.size]).toEqual([table.name, 2 * rows])
      for (const [id, expected] of await oracle(table)) {
        if (events.get(id) !== expected) {
          const columns = table.types.map(({ sql }) => sql)
          expect({ columns, id, after: events.get(id) }).toEqual({ columns, id, after: expected })
        }
      }
    }
  })

  async function insert(
    { name, types }: RandomTable,
    { from, count, seed }: { from: number; count: number; seed: number },
  ): Promise<void> {
    const texts = types.map(({ text }, i) =>
      fc.sample(fc.option(text, { freq: 8 }), { seed: seed + i, numRuns: count }),
    )
    const values = Array.from({ length: count }, (_, row) => {
      const list = texts.map((column) => literal(column[row] ?? null))
      return `(${[from + row, ...list].join(', ')})`
    })
    await database.query(`insert into ${name} values ${values.join(', ')}`)
  }

  /** `after` by id, as text. */
  async function eventsByTable(): Promise<Map<string, Map<string, string>>> {
    const log = await openLog()
    const tables = new Map<string, Map<string, string>>()
    for (const { topic, key, value } of await readAll(log, `${database.name}.public.`)) {
      const table = topic.slice(topic.lastIndexOf('.') + 1)
      const events = tables.get(table) ?? new Map<string, string>()
      tables.set(table, events)
      const text = value?.toString() ?? ''
      const id = String(JSON.parse(key?.toString() ?? '{}').id)
      expect(events.has(id)).toBe(false)
      JSON.parse(text)
      events.set(id, text.slice(text.indexOf('"after":') + 8, text.lastIndexOf(',"source":{"schema"')))
    }
    await log.close()
    return tables
  }

  async function oracle({ name, types }: RandomTable): Promise<Map<string, string>> {
    const columns = types.map(
      ({ sql }, i) =>
        `',"c${i}":' || oracle(case when c${i}::text is not null then format('%s', c${i}) end, '${sql.replaceAll("'", "''")}'::regtype)`,
    )
    await database.query(
      `set datestyle = iso; set intervalstyle = iso_8601; set timezone = 'UTC'; set extra_float_digits = 3; set search_path = public`,
    )
    const found = await database.query(
      `select id, '{"id":' || id || ${columns.join(' || ')} || '}' as after from ${name}`,
    )
    return new Map(found.map((row) => [row['id'] ?? '', row['after'] ?? '']))
  }
})

function literal(text: string | null): string {
  return text === null ? 'null' : ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}
