/** evert schema: what it prints of a table's history, and whether events are what its JSON Schema says. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { FormatName } from '../../src/event/envelope.js'
import { envelope } from '../../src/event/formats.js'
import { DEFAULT_VALUES, type ValueOptions } from '../../src/event/type-kinds.js'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import type { Log } from '../../src/log/log.js'
import { killAll, runCli } from '../support/cli.js'
import { readAll, startPipeline } from '../support/pipeline.js'
import { freshDatabase, type TestDatabase } from '../support/servers.js'

let database: TestDatabase
let directory: string
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 2 } })

beforeEach(async () => {
  database = await freshDatabase()
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
})

afterEach(async () => {
  await killAll()
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
})

const OTHER_VALUES: ValueOptions = { json: 'nested', bytea: 'hex', numeric: 'number', timestamps: 'epoch-us' }

it.each<[FormatName, ValueOptions]>([
  ['evert', DEFAULT_VALUES],
  ['evert', OTHER_VALUES],
  ['debezium', DEFAULT_VALUES],
  ['plain', OTHER_VALUES],
  ['cloudevents', DEFAULT_VALUES],
])('events of the format %s are what its JSON Schema says (%j)', async (format, values) => {
  await database.query(`create extension hstore; create type pair as (a int, b text[]);
    create table item (id bigint primary key, f float8, n numeric, at timestamptz, b bytea, j jsonb, xs int[], p pair, h hstore, yes boolean);
    alter table item replica identity full;
    insert into item values (1, 'NaN', 1.50, 'infinity', '\\x00', '{"a": [1, null]}', '{{1,2},{3,null}}', '(1,"{a,NULL}")', 'a=>1,b=>NULL', true)`)
  const origins = { pipeline: 'shop', database: database.name, version: '1.0.0' }
  const pipeline = startPipeline(database, {
    openLog,
    name: 'shop',
    slot: database.name,
    publication: database.name,
    values,
    envelope: envelope(format, origins),
  })
  await pipeline.caughtUp()
  for (const statement of [
    `insert into item (id) values (2)`,
    `update item set f = 1, at = now() where id = 2`,
    `delete from item`,
  ]) {
    await database.query(statement)
  }
  await pipeline.caughtUp()
  expect(await pipeline.stop()).toBeUndefined()

  const result = await runCli(['schema', 'item', '--log', directory, '--json'])
  expect(result).toMatchObject({ code: 0, stderr: '' })
  const { versions, jsonSchema } = JSON.parse(result.stdout)
  expect(versions).toEqual([expect.objectContaining({ schema: 'public', table: 'item', key: ['id'], format, values })])
  const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(jsonSchema)
  const log = await openLog()
  const events = (await readAll(log, 'shop.public.item')).map(({ value }) => JSON.parse(String(value)))
  await log.close()
  expect(events.length).toBeGreaterThan(4)
  for (const event of events) expect([event, validate(event), validate.errors]).toEqual([event, true, null])
  // It can say no.
  const wrong =
    format === 'plain' ? { id: 'x' } : { ...events[0], [format === 'cloudevents' ? 'specversion' : 'op']: 'x' }
  expect(validate(wrong)).toBe(false)
})

it('prints the history for a person, and names the nearest table', async () => {
  await database.query(`create table item (id int primary key)`)
  const pipeline = startPipeline(database, { openLog })
  await pipeline.caughtUp()
  for (const statement of [
    `insert into item values (1)`,
    `alter table item add column price numeric(10,2)`,
    `insert into item values (2, 3)`,
  ]) {
    await database.query(statement)
    await pipeline.caughtUp()
  }
  expect(await pipeline.stop()).toBeUndefined()
  const { code, stdout } = await runCli(['schema', 'public.item', '--log', directory])
  expect(code).toBe(0)
  expect(stdout).toMatch(
    /^from [0-9a-f]{16}-00000000 {2}oid \d+, replica identity default, format evert\n {2}id {2}integer {2}key\n\nfrom [0-9a-f]{16}-00000000.*\n {2}id {5}integer {2}key\n {2}price {2}numeric\(10,2\)\n\n\{\n {2}"\$schema"/,
  )
  expect(await runCli(['schema', 'public.itme', '--log', directory])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('did you mean public.item?'),
  })
  expect(await runCli(['schema', '--log', directory])).toMatchObject({ code: 2 })
})
