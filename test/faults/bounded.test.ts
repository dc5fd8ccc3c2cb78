/** Promise 7: memory is bounded, whatever the size of a transaction, a row or an outage; and an idle slot holds no WAL. */
import { readFileSync } from 'node:fs'
import { killAll, type RunningCli, startCli } from '../support/cli.js'
import { consume } from '../support/independent-consumer.js'
import { type KafkaCluster, startKafka } from '../support/kafka.js'
import { describeKafka, freshDatabase, type TestDatabase } from '../support/servers.js'

const LIMIT_MB = 150
/** How long the broker is away. */
const OUTAGE_S = Number(process.env['EVERT_TEST_OUTAGE_S'] ?? 60)

let database: TestDatabase
let kafka: KafkaCluster

beforeAll(async () => {
  kafka = await startKafka({ settings: { 'message.max.bytes': '100000000' } })
})

afterAll(async () => {
  await kafka.stop()
})

beforeEach(async () => {
  database = await freshDatabase()
  await database.query(`create table item (id int primary key, note text)`)
})

afterEach(async () => {
  await killAll()
  await database.drop()
})

function start(...more: string[]): RunningCli {
  return startCli([
    'run',
    '--source',
    database.url,
    '--log',
    `kafka://${kafka.bootstrap}`,
    '--partitions',
    '3',
    ...more,
  ])
}

/** The peak of the resident set, as the kernel counted it. */
function peakMB({ process: child }: RunningCli): number {
  const kB = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]
  return Math.round(Number(kB) / 1024)
}

function residentMB({ process: child }: RunningCli): number {
  const kB = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]
  return Math.round(Number(kB) / 1024)
}

/** The slot is confirmed only when the log has everything before. */
async function caughtUp(): Promise<void> {
  const [row] = await database.query(`select pg_logical_emit_message(true, 'test', 'end')::text as lsn`)
  await confirmed(row?.['lsn'] ?? '')
}

async function confirmed(lsn: string): Promise<void> {
  for (;;) {
    const rows = await database.query(
      `select 1 from pg_replication_slots where slot_name = '${database.name}' and confirmed_flush_lsn >= '${lsn}'`,
    )
    if (rows.length === 1) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Every id of a range once, in order within its partition. */
async function requireIds(count: number): Promise<void> {
  const records = await consume(kafka.bootstrap, [`${database.name}.public.item`])
  const ids = records.map(({ key }) => Number(JSON.parse(key ?? '{}').id))
  expect(ids.length).toBe(count)
  expect(new Set(ids).size).toBe(count)
  let disorder = 0
  for (const [index, record] of records.entries()) {
    const before = records[index - 1]
    if (before?.partition === record.partition && (ids[index - 1] ?? 0) > (ids[index] ?? 0)) disorder++
  }
  expect(disorder).toBe(0)
}

describeKafka('memory is bounded', () => {
  it('with one transaction of a million rows', async () => {
    const evert = start()
    await evert.says('"streaming"')
    await database.query(
      `insert into item select g, 'a note of some length, number ' || g from generate_series(1, 1000000) g`,
    )
    await caughtUp()
    expect(peakMB(evert)).toBeLessThan(LIMIT_MB)
    await requireIds(1_000_000)
  })

  it(
    `with the broker stopped for ${OUTAGE_S} s under load`,
    async () => {
      const evert = start()
      await evert.says('"streaming"')
      await database.query(`insert into item select g, 'before' from generate_series(1, 1000) g`)
      await caughtUp()
      await kafka.brokers[0]?.kill('SIGKILL')
      const backMs = performance.now() + OUTAGE_S * 1000
      let id = 1000
      while (performance.now() < backMs) {
        await database.query(`insert into item select ${id} + g, repeat('load', 20) from generate_series(1, 1000) g`)
        id += 1000
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      await kafka.brokers[0]?.start()
      await caughtUp()
      expect(peakMB(evert)).toBeLessThan(LIMIT_MB)
      await requireIds(id)
      evert.process.kill('SIGTERM')
      expect(await evert.ended).toMatchObject({ code: 0 })
    },
    300_000 + OUTAGE_S * 2000,
  )

  it('with a huge value, which takes its own size, and that is given back', async () => {
    const evert = start()
    await evert.says('"streaming"')
    const before = residentMB(evert)
    await database.query(`insert into item select -1, string_agg(md5(n::text), '') from generate_series(1, 1250000) n`)
    await caughtUp()
    // Once: it is written where it was received.
    expect(peakMB(evert)).toBeGreaterThan(before + 35)
    expect(peakMB(evert)).toBeLessThan(before + 65)
    while (residentMB(evert) > before + 30) await caughtUp()
    await requireIds(1)
  })

  it('and a stop during the outage exits 0, and loses nothing', async () => {
    const evert = start()
    await evert.says('"streaming"')
    await caughtUp()
    await kafka.brokers[0]?.kill('SIGKILL')
    await database.query(`insert into item select g, 'during' from generate_series(1, 50000) g`)
    // Let some of it be on its way; when exactly does not matter.
    await new Promise((resolve) => setTimeout(resolve, 1000))
    evert.process.kill('SIGTERM')
    expect(await evert.ended).toMatchObject({ code: 0 })
    await kafka.brokers[0]?.start()
    const next = start()
    await next.says('"streaming"')
    await caughtUp()
    await requireIds(50_000)
  })

  it('passes a value of 20 MB where the topic allows it, and gives its copies back', async () => {
    const evert = start('--partitions', '1')
    await evert.says('"streaming"')
    await caughtUp()
    const topic = `${database.name}.public.item`
    const { Kafka, logLevel } = await import('kafkajs')
    const admin = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING }).admin()
    await admin.connect()
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: 2, name: topic, configEntries: [{ name: 'max.message.bytes', value: '30000000' }] }],
    })
    await admin.disconnect()
    await database.query(`insert into item select 1, string_agg(md5(g::text), '') from generate_series(1, 655360) g`)
    await caughtUp()
    await database.query(`insert into item select g, 'after' from generate_series(2, 100000) g`)
    await caughtUp()
    expect(residentMB(evert)).toBeLessThan(LIMIT_MB)
    const [value] = (await consume(kafka.bootstrap, [topic])).filter(({ key }) => key === '{"id":1}')
    const [row] = await database.query(`select note from item where id = 1`)
    expect(JSON.parse(value?.value ?? '{}').after.note === row?.['note']).toBe(true)
  })
})

describeKafka('an idle pipeline', () => {
  it('holds no WAL while a table that is not published is written heavily', async () => {
    await database.query(`create table noise (id int, note text)`)
    const evert = start('--tables', 'public.item')
    await evert.says('"streaming"')
    await caughtUp()
    for (let round = 0; round < 20; round++) {
      await database.query(`insert into noise select g, repeat('x', 500) from generate_series(1, 5000) g`)
    }
    const [written] = await database.query(`select pg_current_wal_insert_lsn()::text as lsn`)
    // No change of ours comes after it: only evert itself can move the slot there.
    await confirmed(written?.['lsn'] ?? '')
    expect((await consume(kafka.bootstrap, [`${database.name}.public.item`])).length).toBe(0)
  })
})
