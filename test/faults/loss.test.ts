/** Promise 1, where it cannot be kept: what is gone is said, with exit code 3, and --on-loss resnapshot goes on from what is there. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalPostgres } from '../../src/cli/local-postgres.js'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import type { Log, LogRecord } from '../../src/log/log.js'
import { killAll, runCli, startCli } from '../support/cli.js'
import { confirmed } from '../support/confirmed.js'
import { readAll } from '../support/pipeline.js'
import { startPostgres } from '../support/postgres.js'
import { freshDatabase, type TestDatabase } from '../support/servers.js'

let server: LocalPostgres
let database: TestDatabase
let directory: string
const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 3 } })

beforeAll(async () => {
  server = await startPostgres({
    settings: { max_slot_wal_keep_size: '1MB', min_wal_size: '32MB', max_wal_size: '48MB' },
  })
})

afterAll(async () => {
  await server.stop()
})

beforeEach(async () => {
  database = await freshDatabase(server.url('postgres'))
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  await database.query(
    `create table item (id int primary key, n int); insert into item select g, 0 from generate_series(1, 100) g`,
  )
})

afterEach(async () => {
  await killAll()
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
})

/** A pipeline that has published everything, and was stopped. */
async function published(url = database.url): Promise<void> {
  const evert = startCli(['run', '--source', url, '--name', database.name, '--log', directory])
  await evert.says('"streaming"')
  await database.query('update item set n = 1 where id <= 50')
  await confirmed(database)
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
}

/** What the changes are that nobody will ever see. */
async function changeUnseen(): Promise<void> {
  await database.query(
    'delete from item where id <= 10; update item set n = 2 where id = 20; insert into item values (1000, 3)',
  )
}

async function requireRefusal(code: string, message: RegExp): Promise<void> {
  const refused = await runCli(['run', '--source', database.url, '--log', directory])
  const last = JSON.parse(refused.stderr.trim().split('\n').at(-1) ?? '{}')
  expect(last).toMatchObject({
    code,
    msg: expect.stringMatching(message),
    hint: expect.stringContaining('--on-loss resnapshot'),
  })
  expect(refused.code).toBe(3)
}

/** Goes on, and proves that the log then says what the table says. */
async function requireMended(code: string): Promise<void> {
  const evert = startCli(['run', '--source', database.url, '--log', directory, '--on-loss', 'resnapshot'])
  await evert.says('"streaming"')
  await database.query('update item set n = n + 10 where id = 30')
  await confirmed(database)
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
  const log = await openLog()
  const records = await readAll(log, `${database.name}.public.item`)
  const told = (await readAll(log, `${database.name}.notification`)).map(({ value }) => JSON.parse(String(value)))
  const gaps = told.filter(({ kind }) => kind === 'gap')
  await log.close()
  expect(fold(records)).toEqual(
    new Map((await database.query('select id::text, n::text from item')).map(({ id, n }) => [Number(id), Number(n)])),
  )
  expect(gaps).toEqual([
    expect.objectContaining({
      kind: 'gap',
      code,
      to: expect.objectContaining({ lsn: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/) }),
    }),
  ])
  requireForwards(records)
  // And from then on it is a pipeline like any other.
  const again = startCli(['run', '--source', database.url, '--log', directory])
  await again.says('"streaming"')
  again.process.kill('SIGTERM')
  expect(await again.ended).toMatchObject({ code: 0 })
}

/** The state of the table, as a consumer has it: the last value of each key. */
function fold(records: readonly LogRecord[]): Map<number, number> {
  const rows = new Map<number, number>()
  for (const { key, value } of records) {
    const { id } = JSON.parse(String(key))
    if (value === null) rows.delete(id)
    else if (JSON.parse(String(value)).op !== 'd') rows.set(id, JSON.parse(String(value)).after.n)
  }
  return rows
}

function requireForwards(records: readonly LogRecord[]): void {
  const last = new Map<number, string>()
  for (const { partition, value } of records) {
    if (value === null) continue
    const { position } = JSON.parse(String(value)).source
    expect(position > (last.get(partition) ?? '')).toBe(true)
    last.set(partition, position)
  }
}

describe('a loss is said, and mended where that is asked for:', () => {
  it('the slot was dropped', async () => {
    await published()
    await database.query(`select pg_drop_replication_slot('${database.name}')`)
    await changeUnseen()
    await requireRefusal(
      'SLOT_MISSING',
      /slot ".*" is gone, but the log .* ends at .*: changes after it may be lost, of the time after 20/,
    )
    await requireMended('SLOT_MISSING')
  })

  it('the slot was dropped and created again', async () => {
    await published()
    await database.query(`select pg_drop_replication_slot('${database.name}')`)
    await changeUnseen()
    await database.query(`select pg_create_logical_replication_slot('${database.name}', 'pgoutput')`)
    await requireRefusal(
      'SLOT_AHEAD',
      /slot ".*" confirms .*, but the log ends at .*: the \d+ bytes of WAL between are gone, of the time after 20/,
    )
    await requireMended('SLOT_AHEAD')
  })

  it('the slot was moved along', async () => {
    await published()
    await changeUnseen()
    await database.query(`select pg_replication_slot_advance('${database.name}', pg_current_wal_lsn())`)
    await requireRefusal('SLOT_AHEAD', /confirms .*, but the log ends at/)
    await requireMended('SLOT_AHEAD')
  })

  it('the server has given the slot up, with its WAL', async () => {
    await published()
    await changeUnseen()
    await database.query('create table noise (t text)')
    const lost = `select 1 from pg_replication_slots where slot_name = '${database.name}' and wal_status = 'lost'`
    while ((await database.query(lost)).length === 0) {
      await database.query(`insert into noise select repeat('x', 1000) from generate_series(1, 5000)`)
      await database.query('select pg_switch_wal()')
      await database.query('checkpoint')
    }
    await requireRefusal('SLOT_LOST', /slot ".*" was invalidated \(.+\): changes after .* are gone/)
    await requireMended('SLOT_LOST')
  })

  it('the slot, while another process stands by: it does not mend again what is mended', async () => {
    await published()
    await database.query(`select pg_drop_replication_slot('${database.name}')`)
    await changeUnseen()
    const run = ['run', '--source', database.url, '--log', directory, '--on-loss', 'resnapshot']
    const [one, other] = [startCli(run), startCli(run)]
    const first = await Promise.race([
      one.says('"streaming"').then(() => one),
      other.says('"streaming"').then(() => other),
    ])
    const second = first === one ? other : one
    await second.says('standing by')
    await confirmed(database)
    first.process.kill('SIGKILL')
    await database.query('update item set n = n + 10 where id = 31')
    await second.says('"streaming"')
    await confirmed(database)
    second.process.kill('SIGTERM')
    expect(await second.ended).toMatchObject({ code: 0 })
    const log = await openLog()
    const changes = (await readAll(log, `${database.name}.public.item`)).filter(
      ({ value }) =>
        value !== null && JSON.parse(String(value)).op === 'u' && JSON.parse(String(value)).after.id === 31,
    )
    await log.close()
    // As a change, which a second snapshot would not have.
    expect(changes.length).toBe(2)
  })

  it('the progress in the log cannot be read', async () => {
    await published()
    await changeUnseen()
    const log = await openLog()
    const writer = await log.openWriter({ name: database.name, signal: new AbortController().signal })
    await writer.append(writer.cut(), new Map([['progress', Buffer.from('{"version":99}')]]))
    await writer.close()
    await log.close()
    await requireRefusal('PROGRESS_INVALID', /the progress of pipeline ".*" in the log cannot be read: version/)
    await requireMended('PROGRESS_INVALID')
  })
})

describe('another server', () => {
  it('behind the same name is refused, and what is behind the log cannot be mended into it', async () => {
    await published()
    const other = await startPostgres()
    const there = await freshDatabase(other.url('postgres'))
    await there.query('create table item (id int primary key, n int)')
    const source = ['run', '--source', there.url, '--name', database.name, '--log', directory]
    const refused = await runCli(source)
    expect(refused.code).toBe(3)
    expect(refused.stderr).toContain('SERVER_FOREIGN')
    expect(refused.stderr).toMatch(
      /was written from database \\"test_\w+\\" of the server \d+; this is \\"test_\w+\\" of \d+/,
    )
    const stubborn = await runCli([...source, '--on-loss', 'resnapshot'])
    expect(stubborn.code).toBe(3)
    expect(stubborn.stderr).toContain('positions in the log never go back')
    await there.drop()
    await other.stop()
  })
})
