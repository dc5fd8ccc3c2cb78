/**
 * Three brokers, killed one after the other under load: no change is lost, none repeated, the order holds. Leaders move during sends and
 * sends fail half-way, which is where kafkajs resolves though a batch was never sent, and gives a sequence number out twice after an error.
 */
import type { Broker } from '@platformatic/kafka'
import { Kafka, logLevel } from 'kafkajs'
import { Cluster } from '../../src/log/kafka/cluster.js'
import type { VersionedRequest } from '../../src/log/kafka/requests.js'
import { killAll, startCli } from '../support/cli.js'
import { consume } from '../support/independent-consumer.js'
import { type KafkaCluster, startKafka } from '../support/kafka.js'
import { kafkaOptions } from '../support/kafka-options.js'
import { describeKafka, freshDatabase, type TestDatabase } from '../support/servers.js'

let database: TestDatabase
let kafka: KafkaCluster

describeKafka('three brokers', () => {
  beforeAll(async () => {
    kafka = await startKafka({
      brokers: 3,
      settings: { 'min.insync.replicas': '2', 'broker.session.timeout.ms': '6000' },
    })
    database = await freshDatabase()
    await database.query('create table item (id int primary key, n int not null)')
    await database.query('insert into item select g, 0 from generate_series(1, 100) g')
  })

  afterAll(async () => {
    await killAll()
    await database.drop()
    await kafka.stop()
  })

  it('may each be killed under load, so that leaders move during sends: every change comes once, and in order', async () => {
    const log = `kafka://${kafka.bootstrap}`
    const evert = startCli(['run', '--source', database.url, '--log', log, '--partitions', '6'], {
      EVERT_REPLICATION_FACTOR: '3',
    })
    await evert.says('"streaming"')
    await oneReplicaOnEach('stranger')
    const stop = new AbortController()
    let turns = 0
    const writing = (async () => {
      const client = await database.client()
      for (; !stop.signal.aborted; turns++) {
        await client.query(`update item set n = n + 1 where id % 10 = ${turns % 10}`)
        // Bounds what the consumer has to hold.
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })()
    for (const broker of kafka.brokers) {
      const before = turns
      await broker.kill('SIGKILL')
      // Written while a broker is away, and again when it is back.
      while (turns < before + 300) await new Promise((resolve) => setTimeout(resolve, 20))
      await published()
      await broker.start()
      await published()
    }
    stop.abort()
    await writing
    await published()
    evert.process.kill('SIGTERM')
    expect(await evert.ended).toMatchObject({ code: 0 })

    const last = new Map<number, number>()
    const wrong: string[] = []
    for (const { value } of await consume(kafka.bootstrap, [`${database.name}.public.item`])) {
      const { after } = JSON.parse(value ?? '{}')
      const before = last.get(after.id)
      if (after.n !== (before === undefined ? 0 : before + 1)) wrong.push(`${after.id}: ${before} → ${after.n}`)
      last.set(after.id, after.n)
    }
    expect(wrong).toEqual([])
    const rows = await database.query('select id, n from item')
    expect(rows.filter((row) => last.get(Number(row['id'])) !== Number(row['n']))).toEqual([])
  })

  it('are no longer asked where they no longer answer', async () => {
    const cluster = new Asking(kafkaOptions(kafka.bootstrap))
    await cluster.listTopics()
    await cluster.listTopics()
    const dead = kafka.brokers.find(({ port }) => port === cluster.asked.at(-1))!
    await dead.kill('SIGKILL')
    cluster.asked.splice(0)
    for (let i = 0; i < 20; i++) await cluster.listTopics()
    expect(cluster.asked.filter((port) => port === dead.port)).toHaveLength(1)
    await dead.start()
    await cluster.close()
  })
})

/** Remembers whom it asked. */
class Asking extends Cluster {
  readonly asked: number[] = []

  override async call<Arguments extends unknown[], Response>(
    broker: Broker,
    request: VersionedRequest<Arguments, Response>,
    ...parameters: Arguments
  ): Promise<Response> {
    this.asked.push(broker.port)
    return await super.call(broker, request, ...parameters)
  }
}

/** A topic of somebody else, a part of which has no leader whenever a broker is away. */
async function oneReplicaOnEach(topic: string): Promise<void> {
  const admin = new Kafka({ brokers: kafka.bootstrap.split(','), logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const replicaAssignment = kafka.brokers.map(({ id }, partition) => ({ partition, replicas: [id] }))
  await admin.createTopics({ topics: [{ topic, replicaAssignment }] })
  await admin.disconnect()
}

/** Waits until everything that was committed so far is in the log. */
async function published(): Promise<void> {
  const [row] = await database.query(`select pg_logical_emit_message(true, 'test', 'mark')::text as lsn`)
  for (;;) {
    const rows = await database.query(
      `select 1 from pg_replication_slots where slot_name = '${database.name}' and confirmed_flush_lsn >= '${row?.['lsn'] ?? ''}'`,
    )
    if (rows.length === 1) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
