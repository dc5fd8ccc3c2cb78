/** Promise 6, case by case, on every major: test/event-cases.ts says what is done and what comes out. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalPostgres } from '../src/cli/local-postgres.js'
import { openEmbeddedLog } from '../src/log/embedded/log.js'
import type { Log, LogRecord } from '../src/log/log.js'
import { EVENT_CASES, type EventCase } from './event-cases.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { MAJORS, startPostgres } from './support/postgres.js'
import { freshDatabase, type TestDatabase } from './support/servers.js'

describe.each([...MAJORS])('the backlog of Postgres %i', (major) => {
  const cases = EVENT_CASES.map((one, i) => ({ ...one, schema: `case${i}` })).filter(({ since = 0 }) => major >= since)
  const seen = new Map<string, string[]>()
  let server: LocalPostgres
  let database: TestDatabase
  let directory: string
  let records: LogRecord[]
  const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })

  /** All cases in one backlog: evert makes its snapshot, stops, and comes back when everything is done. */
  beforeAll(async () => {
    server = await startPostgres({ major, settings: { max_prepared_transactions: '5' } })
    database = await freshDatabase(server.url('postgres'))
    directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
    await database.query(`create publication "${database.name}" for all tables`)
    for (const one of cases) {
      await database.query(`create schema ${one.schema}; set search_path = ${one.schema}`)
      await database.query(one.setup)
    }
    await catchUp()
    for (const one of cases) {
      await database.query(`set search_path = ${one.schema}`)
      for (const statement of one.statements) await run(statement)
    }
    await catchUp()
    const log = await openLog()
    records = await readAll(log, `${database.name}.`)
    await log.close()
    for (const record of records) {
      const [, schema = '', table] = record.topic.split('.')
      if (table === undefined) continue // messages and shapes
      const lines = seen.get(schema) ?? []
      seen.set(schema, lines)
      lines.push(`${table === 'item' ? '' : `${table} `}${lineOf(record)}`)
    }
  })

  afterAll(async () => {
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  /** A statement of its own each, where Postgres refuses several in one message. */
  async function run(statement: string): Promise<void> {
    const parts = /^(begin;|alter type .* add value)/.test(statement) ? statement.split(/;\s*/) : [statement]
    for (const part of parts) await database.query(part)
  }

  async function catchUp(): Promise<void> {
    const pipeline = startPipeline(database, { openLog })
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
  }

  it.each(cases.map((one): [string, EventCase & { schema: string }] => [one.title, one]))('%s', (_, one) => {
    expect(seen.get(one.schema) ?? []).toEqual(one.events)
  })

  it('has every shape of a table once on the schema topic', () => {
    const shapes = records
      .filter(({ topic, value }) => topic === `${database.name}.schema` && value !== null)
      .map(({ value }) => JSON.parse(String(value)))
    const added = cases.find(({ title }) => title.startsWith('columns added'))
    const versions = shapes.filter(({ schema }) => schema === added?.schema)
    const text = (version: (typeof shapes)[number]): string =>
      version.columns.map(({ name, type }: Record<string, string>) => `${name} ${type}`).join(', ')
    expect(versions.map(text)).toEqual([
      'id integer, a integer, b text',
      'id integer, a integer, b text, c integer',
      'id integer, a integer, b text, c integer, d text',
      'id integer, a integer, c integer, d text',
      'id integer, a integer, e integer, d text',
      'id integer, a integer, e text, d text',
    ])
    // Each begins at the position of its first event; in a snapshot, the row of another table may be read in between.
    const positions = records
      .filter(({ topic, value }) => topic === `${database.name}.${added?.schema}.item` && value !== null)
      .map(({ value }) => JSON.parse(String(value)).source.position)
    const begin = versions.map(({ position }) => position)
    expect(begin.slice(1)).toEqual(positions.slice(1))
    expect(begin[0] <= positions[0] && begin[0].split('-')[0] === positions[0].split('-')[0]).toBe(true)
    const keys = shapes.map(({ schema, table, position }) => `${schema}.${table}.${position}`)
    expect(new Set(keys).size).toBe(keys.length)
  })
})

function lineOf({ key, value, headers }: LogRecord): string {
  if (value === null) return `- ${String(key)}`
  const { op, before, after, unchanged } = JSON.parse(String(value))
  const absent = unchanged === undefined ? '' : ` unchanged=${JSON.stringify(unchanged)}`
  const said = headers.map((header) => ` ${header.key}=${header.value.toString()}`).join('')
  return `${op} ${String(key)}: ${shown(before)} -> ${shown(after)}${absent}${said}`
}

/** Long runs of one letter as `w*9000`. */
function shown(row: unknown): string {
  return JSON.stringify(row).replace(/(\w)\1{99,}/g, (run, letter: string) => `${letter}*${run.length}`)
}
