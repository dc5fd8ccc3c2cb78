/** Promise 1, where the log itself has lost something: each loss is said, with exit code 3, before anything is written over it. */
import { Kafka, logLevel } from 'kafkajs'
import { killAll, runCli, startCli } from '../support/cli.js'
import { consume } from '../support/independent-consumer.js'
import { describeKafka, freshDatabase, type TestDatabase, testKafka } from '../support/servers.js'

let database: TestDatabase
const admin = new Kafka({ brokers: [testKafka() ?? ''], logLevel: logLevel.NOTHING }).admin()

beforeEach(async () => {
  database = await freshDatabase()
  await database.query(
    `create table item (id int primary key, n int); insert into item select g, 0 from generate_series(1, 100) g`,
  )
})

afterEach(async () => {
  await killAll()
  await database.drop()
})

const parameters = (): string[] => ['run', '--source', database.url, '--log', `kafka://${testKafka()}`]
const topic = (): string => `${database.name}.public.item`

/** Publishes what is there and what is changed then, and stops. */
async function published(change: string): Promise<void> {
  const evert = startCli([...parameters(), '--partitions', '2'])
  await evert.says('"streaming"')
  await database.query(change)
  await confirmed()
  // How far topics were written is told no more often than once a second.
  await new Promise((resolve) => setTimeout(resolve, 1100))
  await database.query(`update item set n = n where id < 3`)
  await confirmed()
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
}

async function confirmed(): Promise<void> {
  const [row] = await database.query(`select pg_logical_emit_message(true, 'test', 'mark')::text as lsn`)
  const is = `select 1 from pg_replication_slots where slot_name = '${database.name}' and confirmed_flush_lsn >= '${row?.['lsn'] ?? ''}'`
  while ((await database.query(is)).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
}

async function requireRefusal(code: string, message: RegExp): Promise<void> {
  const refused = await runCli(parameters())
  expect(JSON.parse(refused.stderr.trim().split('\n').at(-1) ?? '{}')).toMatchObject({
    code,
    msg: expect.stringMatching(message),
    hint: expect.stringContaining('--on-loss resnapshot'),
  })
  expect(refused.code).toBe(3)
}

/** Goes on with --on-loss resnapshot; then the topic says what the table says, and the next start finds nothing amiss. */
async function requireMended(): Promise<void> {
  const evert = startCli([...parameters(), '--on-loss', 'resnapshot'])
  await evert.says('"streaming"')
  await database.query('delete from item where id = 1')
  await confirmed()
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
  const rows = new Map<number, number>()
  for (const { key, value } of await consume(testKafka() ?? '', [topic()])) {
    const { id } = JSON.parse(key ?? '')
    if (value === null) rows.delete(id)
    else if (JSON.parse(value).op !== 'd') rows.set(id, JSON.parse(value).after.n)
  }
  const table = await database.query('select id::text, n::text from item')
  expect(rows).toEqual(new Map(table.map(({ id, n }) => [Number(id), Number(n)])))
  const again = startCli(parameters())
  await again.says('"streaming"')
  again.process.kill('SIGTERM')
  expect(await again.ended).toMatchObject({ code: 0 })
}

describeKafka('the log has lost', () => {
  beforeAll(async () => {
    await admin.connect()
  })

  afterAll(async () => {
    await admin.disconnect()
  })

  it('a topic', async () => {
    await published('update item set n = 1 where id <= 50')
    await admin.deleteTopics({ topics: [topic()] })
    await requireRefusal('TOPIC_LOST', /topic ".*\.public\.item" was written by this pipeline, and is gone/)
    await requireMended()
  })

  it('a topic, and somebody made it again', async () => {
    await published('update item set n = 1 where id <= 50')
    await admin.deleteTopics({ topics: [topic()] })
    while ((await admin.listTopics()).includes(topic())) await new Promise((resolve) => setTimeout(resolve, 50))
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: topic(), numPartitions: 2 }] })
    await requireRefusal('TOPIC_REPLACED', /was written by this pipeline, then deleted and created again/)
    await requireMended()
  })

  it('its progress', async () => {
    await published('update item set n = 1 where id <= 50')
    await admin.deleteTopics({ topics: [`${database.name}.progress`] })
    await database.query('delete from item where id > 90')
    await requireRefusal(
      'PROGRESS_MISSING',
      /topic ".*\.public\.item" holds records of pipeline ".*", and the log has no progress/,
    )
    await requireMended()
  })
})
