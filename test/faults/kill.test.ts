/** Promises 1, 2 and 4: the real command line under write load, killed at random moments, as an independent consumer sees the topics. */
import type pg from 'pg'
import { killAll, type RunningCli, startCli } from '../support/cli.js'
import { consume, type ConsumedRecord } from '../support/independent-consumer.js'
import { settle } from '../support/settle.js'
import { describeKafka, freshDatabase, type TestDatabase, testKafka } from '../support/servers.js'

const KILLS = 20
/** So many of them may hit the first snapshot; the others hit the stream, however slow the machine. */
const KILLS_BEFORE_STREAMING = 6
const ACCOUNTS = 50
/** Large enough that some of the kills hit the first snapshot. */
const OLD_ENTRIES = 60_000

let database: TestDatabase

beforeEach(async () => {
  database = await freshDatabase()
  await database.query(`
    create table account (id int primary key, n int not null);
    create table entry (id bigint generated always as identity primary key, tx text not null, size int not null);
    insert into account select g, 0 from generate_series(1, ${ACCOUNTS}) g;
    insert into entry (tx, size) select 'old', 0 from generate_series(1, ${OLD_ENTRIES});
  `)
})

afterEach(async () => {
  await killAll()
  await database.drop()
})

describeKafka('kill -9', () => {
  it('at 20 random moments under write load loses nothing, repeats nothing and halves no transaction', async () => {
    const topics = [`${database.name}.public.account`, `${database.name}.public.entry`]
    const stop = new AbortController()
    const writers = [1, 2, 3].map((writer) => write(writer, stop.signal))
    for (const writer of writers) writer.catch(() => stop.abort())
    let evert = start()
    let streamedFrom = 0
    for (let kill = 0; kill < KILLS; kill++) {
      await randomMoment()
      evert.process.kill('SIGKILL')
      await evert.ended
      if (kill % 5 === 4 && streamedFrom > 0) {
        await settle(kafka(), database.name)
        requireWhole(await consume(kafka(), topics))
      }
      evert = start()
      if (kill !== KILLS_BEFORE_STREAMING) continue
      await evert.says('streaming')
      const [row] = await database.query('select max(id)::text as id from entry')
      streamedFrom = Number(row?.['id']) + 1
    }
    await evert.says('streaming')
    stop.abort()
    await Promise.all(writers)
    await caughtUp()
    evert.process.kill('SIGTERM')
    expect(await evert.ended).toMatchObject({ code: 0 })
    await settle(kafka(), database.name)

    const records = await consume(kafka(), topics)
    requireWhole(records)
    await requireEntries(events(records, 'entry'), streamedFrom)
    await requireAccounts(records)
  })
})

function kafka(): string {
  return testKafka() ?? ''
}

function start(): RunningCli {
  return startCli(['run', '--source', database.url, '--log', `kafka://${kafka()}`, '--partitions', '3'])
}

/** Not a wait for something to happen: the moment is to be any. */
async function randomMoment(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 1500))
}

/** Transactions of many sizes over both tables, until told to stop. */
async function write(writer: number, signal: AbortSignal): Promise<void> {
  const client = await database.client()
  for (let turn = 0; !signal.aborted; turn++) {
    const tx = `${writer}/${turn}`
    const size = turn % 100 === 99 ? 500 : 1 + (turn % 7)
    await client.query('begin')
    await client.query(`insert into entry (tx, size) select $1, $2::int from generate_series(1, $2::int)`, [tx, size])
    // Each writer has accounts of its own: no deadlocks, and every n is one more than the last.
    const account = writer + 3 * (turn % 16)
    await client.query('update account set n = n + 1 where id = $1', [account])
    await client.query(turn % 11 === 10 ? 'rollback' : 'commit')
    // Bounds what the consumer has to hold, not what the test waits for.
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The slot is confirmed only when the log has everything before. */
async function caughtUp(): Promise<void> {
  const client: pg.Client = await database.client()
  const { rows } = await client.query(`select pg_logical_emit_message(true, 'test', 'end')::text as lsn`)
  for (;;) {
    const found = await client.query(
      `select 1 from pg_replication_slots where slot_name = $1 and confirmed_flush_lsn >= $2::pg_lsn`,
      [database.name, rows[0].lsn],
    )
    if (found.rowCount === 1) return
  }
}

interface Event {
  readonly op: string
  readonly after: Readonly<Record<string, unknown>>
  readonly position: string
}

function events(records: readonly ConsumedRecord[], table: string): Event[] {
  return records
    .filter(({ topic, value }) => topic.endsWith(`.${table}`) && value !== null)
    .map(({ value }) => {
      const { op, after, source } = JSON.parse(value ?? '')
      return { op, after, position: source.position }
    })
}

/** Every transaction that is seen at all is seen whole, in both tables. */
function requireWhole(records: readonly ConsumedRecord[]): void {
  const rows = new Map<string, { seen: number; size: number }>()
  for (const { op, after } of events(records, 'entry')) {
    if (op !== 'c') continue
    const tx = String(after['tx'])
    const row = rows.get(tx) ?? { seen: 0, size: Number(after['size']) }
    row.seen++
    rows.set(tx, row)
  }
  expect([...rows].filter(([, { seen, size }]) => seen !== size)).toEqual([])
  const commits = (table: string): Set<string> =>
    new Set(
      events(records, table)
        .filter(({ op }) => op !== 'r')
        .map(({ position }) => position.split('-')[0] ?? ''),
    )
  const ofEntries = commits('entry')
  expect([...commits('account')].filter((lsn) => !ofEntries.has(lsn))).toEqual([])
}

/** Every row that is in the table came once as a change, or in a snapshot, which an interruption may have repeated. */
async function requireEntries(found: readonly Event[], streamedFrom: number): Promise<void> {
  const changes = found.filter(({ op }) => op === 'c').map(({ after }) => Number(after['id']))
  expect(changes.length).toBe(new Set(changes).size)
  const all = new Set(found.map(({ after }) => String(after['id'])))
  const rows = await database.query('select id::text from entry')
  expect(rows.filter((row) => !all.has(row['id'] ?? ''))).toEqual([])
  expect(all.size).toBe(rows.length)
  // What was inserted once the stream had begun is in no snapshot.
  const streamed = new Set(changes)
  expect(rows.filter(({ id }) => Number(id) >= streamedFrom && !streamed.has(Number(id)))).toEqual([])
  expect(changes.filter((id) => id >= streamedFrom).length).toBeGreaterThan(0)
}

/** Per key: n counts up by one, change by change, and ends where the table is. */
async function requireAccounts(records: readonly ConsumedRecord[]): Promise<void> {
  const last = new Map<number, number>()
  const wrong: string[] = []
  const lastPosition = new Map<string, string>()
  for (const record of records) {
    if (!record.topic.endsWith('.account') || record.value === null) continue
    const { op, after, source } = JSON.parse(record.value)
    const before = last.get(after.id)
    const place = `${record.topic}/${record.partition}`
    // An interrupted snapshot may not have come to this key before its first change.
    if (before !== undefined && after.n !== (op === 'r' ? before : before + 1)) {
      wrong.push(`${op} ${after.id}: ${before} → ${after.n} at ${source.position}`)
    }
    if (source.position <= (lastPosition.get(place) ?? '')) wrong.push(`${place}: ${source.position} goes back`)
    last.set(after.id, after.n)
    lastPosition.set(place, source.position)
  }
  expect(wrong).toEqual([])
  const rows = await database.query('select id, n from account')
  expect(rows.filter((row) => last.get(Number(row['id'])) !== Number(row['n']))).toEqual([])
  expect(rows.length).toBe(last.size)
}
