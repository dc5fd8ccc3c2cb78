/** What is asked of the catalog takes what it is asked about, not what else is in the database. */
import { sql } from '../../src/postgres/sql.js'
import { freshDatabase, type TestDatabase } from '../support/servers.js'

const TABLES = 500
let database: TestDatabase

beforeAll(async () => {
  database = await freshDatabase()
  // Each is a type, too, and so is its array.
  await database.query(`do $$ begin for i in 1 .. ${TABLES} loop
    execute format('create table item_%s (id int primary key, note text)', i);
  end loop; end $$`)
  await database.query('create publication plans for all tables; analyze')
})

afterAll(async () => {
  await database.drop()
})

interface Plan {
  readonly 'Actual Rows': number
  readonly 'Actual Loops': number
  readonly 'Rows Removed by Filter'?: number
  readonly Plans?: readonly Plan[]
}

/** Rows that any node of the plan has looked at. */
async function rowsLookedAt(statement: string): Promise<number> {
  const [row] = await database.query(`explain (analyze, format json) ${statement}`)
  const sum = ({ Plans = [], ...node }: Plan): number =>
    node['Actual Loops'] * (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0)) +
    Plans.reduce((total, plan) => total + sum(plan), 0)
  const value = row?.['QUERY PLAN'] as unknown
  const [plan] = (typeof value === 'string' ? JSON.parse(value) : value) as [{ readonly Plan: Plan }]
  return sum(plan.Plan)
}

it('one table is described without a look at the types of all others', async () => {
  const [row] = await database.query(`select 'item_7'::regclass::oid::text as oid`)
  const types = JSON.stringify([
    [23, -1],
    [25, -1],
  ])
  expect(await rowsLookedAt(sql('relation', { table: row!['oid']!, types }))).toBeLessThan(200)
})

it('the published tables are listed without a look at all of them for each', async () => {
  const looked = await rowsLookedAt(sql('published-tables', { publication: 'plans', oid: '0' }))
  expect(looked / TABLES).toBeLessThan(150)
})
