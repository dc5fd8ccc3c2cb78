/** Promise 1, where the log itself has lost something: each loss is said, with exit code 3, before anything is written over it. */
import { Kafka, logLevel } from 'kafkajs'
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killAll, runCli, startCli } from '../support/cli.js'
import { confirmed } from '../support/confirmed.js'
import { consume } from '../support/independent-consumer.js'
import { startKafka } from '../support/kafka.js'
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

let bootstrap = testKafka() ?? ''
const parameters = (): string[] => ['run', '--source', database.url, '--log', `kafka://${bootstrap}`]
const topic = (): string => `${database.name}.public.item`

/** Publishes what is there and what is changed then, and stops. */
async function published(change: string): Promise<void> {
  const evert = startCli([...parameters(), '--partitions', '2'])
  await evert.says('"streaming"')
  await database.query(change)
  await confirmed(database)
  // How far topics were written is told no more often than once a second.
  await new Promise((resolve) => setTimeout(resolve, 1100))
  await database.query(`update item set n = n where id < 3`)
  await confirmed(database)
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
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
  await confirmed(database)
  evert.process.kill('SIGTERM')
  expect(await evert.ended).toMatchObject({ code: 0 })
  const rows = new Map<number, number>()
  for (const { key, value } of await consume(bootstrap, [topic()])) {
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

  it('the end of a partition, as after an unclean election', async () => {
    const data = mkdtempSync(join(tmpdir(), 'evert-kafka-data-'))
    const kafka = await startKafka({ settings: { 'log.dirs': data } })
    bootstrap = kafka.bootstrap
    try {
      await published('update item set n = 1')
      await kafka.brokers[0]?.kill('SIGKILL')
      const partition = join(data, `${topic()}-1`)
      for (const file of readdirSync(partition)) {
        if (file.endsWith('.log'))
          truncateSync(join(partition, file), Math.floor(statSync(join(partition, file)).size / 2))
        else if (/\.(index|timeindex|snapshot)$/.test(file)) rmSync(join(partition, file))
      }
      await kafka.brokers[0]?.start()
      await requireRefusal('TOPIC_TRUNCATED', /topic ".*" partition 1 was written up to offset \d+, and ends at \d+/)
      await requireMended()
    } finally {
      bootstrap = testKafka() ?? ''
      await killAll()
      await kafka.stop()
      rmSync(data, { recursive: true, force: true })
    }
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
