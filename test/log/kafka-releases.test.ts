/** Releases of Kafka: what evert promises holds on all of them, and a broker may come back in another one. */
import type { Log, LogWriter } from '../../src/log/log.js'
import { Cluster } from '../../src/log/kafka/cluster.js'
import { openKafkaLog } from '../../src/log/kafka/log.js'
import { type KafkaCluster, startKafka } from '../support/kafka.js'
import type { KafkaRelease } from '../support/kafka-jars.js'
import { kafkaOptions } from '../support/kafka-options.js'
import { describeKafka, uniqueName } from '../support/servers.js'
import { CONTRACT_PARTITIONS, logContract } from './contract.js'
import { encode, event } from './records.js'

const topics = { partitions: CONTRACT_PARTITIONS, replicationFactor: -1, retention: 'forever' } as const
const signal = new AbortController().signal
let kafka: KafkaCluster

for (const release of ['3.9.2', '2.8.2'] as const) {
  describeKafka(`Kafka ${release}`, () => {
    beforeAll(async () => {
      kafka = await startKafka({ release })
    })

    afterAll(async () => {
      await kafka.stop()
    })

    it('tells a topic from one of the same name that was made anew', async () => {
      const log = await openKafkaLog(kafkaOptions(kafka.bootstrap))
      const cluster = new Cluster(kafkaOptions(kafka.bootstrap))
      const topic = uniqueName('topic')
      await log.createTopics([{ name: topic, keyed: true }])
      const first = await cluster.refresh(topic)
      expect(first?.id).toMatch(/^[0-9a-f-]{36}$/)
      await log.deleteTopics([topic])
      await log.createTopics([{ name: topic, keyed: true }])
      const second = await cluster.refresh(topic)
      expect(second?.id).toMatch(/^[0-9a-f-]{36}$/)
      expect(second?.id).not.toBe(first?.id)
      await cluster.close()
      await log.close()
    })

    logContract(`Kafka ${release}`, {
      open: ({ compression = 'none' } = {}): Promise<Log> =>
        openKafkaLog(kafkaOptions(kafka.bootstrap, { topics, compression })),
    })
  })
}

describeKafka('a broker in a rolling upgrade', () => {
  beforeAll(async () => {
    kafka = await startKafka({
      release: '2.8.2',
      settings: { 'inter.broker.protocol.version': '2.8', 'controlled.shutdown.enable': 'false' },
    })
  })

  afterAll(async () => {
    await kafka.stop()
  })

  it('may come back in an older release, and in the newer one again, while a log is open', async () => {
    const [broker] = kafka.brokers
    const comesBack = async (release: KafkaRelease): Promise<void> => {
      await broker?.kill('SIGTERM')
      await broker?.start(release)
    }
    await comesBack('3.9.2')
    const log = await openKafkaLog(kafkaOptions(kafka.bootstrap))
    const [name, topic] = [uniqueName('pipeline'), uniqueName('topic')]
    const append = async (writer: LogWriter, key: string): Promise<void> => {
      writer.sink.append(await writer.sink.topic({ name: topic, keyed: true }), encode(event(key, 'value')))
      await writer.append(writer.cut(), new Map([['at', Buffer.from(key)]]))
    }
    const first = await log.openWriter({ name, signal })
    await append(first, 'new')
    await comesBack('2.8.2')
    await append(first, 'old')
    const second = await log.openWriter({ name, signal })
    expect(second.progress.get('at')?.toString()).toBe('old')
    await comesBack('3.9.2')
    await append(second, 'new again')
    const keys: (string | undefined)[] = []
    for await (const { key } of log.read({ topic, partition: 0, from: 0n, signal })) {
      keys.push(key?.toString())
      if (keys.at(-1) === 'new again') break
    }
    expect(keys).toEqual(['new', 'old', 'new again'])
    await second.close()
    await log.close()
  })
})
