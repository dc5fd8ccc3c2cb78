import type { Broker } from '@platformatic/kafka'
import { ConfigResourceTypes, Kafka, logLevel } from 'kafkajs'
import type { Compression } from '../../src/log/compression.js'
import { Cluster } from '../../src/log/kafka/cluster.js'
import { CODE } from '../../src/log/kafka/errors.js'
import { openKafkaLog } from '../../src/log/kafka/log.js'
import type { KafkaOptions } from '../../src/log/kafka/options.js'
import type { VersionedRequest } from '../../src/log/kafka/requests.js'
import type { Log } from '../../src/log/log.js'
import { kafkaOptions } from '../support/kafka-options.js'
import { describeKafka, testKafka, uniqueName } from '../support/servers.js'
import { CONTRACT_PARTITIONS, logContract } from './contract.js'
import { encode, event } from './records.js'

function options(over: Partial<KafkaOptions> = {}): KafkaOptions {
  const topics = { partitions: CONTRACT_PARTITIONS, replicationFactor: -1, retention: 'forever' } as const
  return kafkaOptions(testKafka() ?? '', { topics, ...over })
}

const signal = new AbortController().signal

/** Counts the requests that create topics, and answers one of them itself: codes by the topic's place. */
class Creating extends Cluster {
  /** By request, how many topics. */
  readonly requests: number[] = []
  instead: Readonly<Record<number, number>> | null = null
  /** The answer to what was produced is held back for so long. */
  onProduced: () => Promise<void> = () => Promise.resolve()

  override async call<Arguments extends unknown[], Response>(
    broker: Broker,
    request: VersionedRequest<Arguments, Response>,
    ...parameters: Arguments
  ): Promise<Response> {
    if (request.name === 'Produce') {
      const answer = await super.call(broker, request, ...parameters)
      await this.onProduced()
      return answer
    }
    if (request.name !== 'CreateTopics') return await super.call(broker, request, ...parameters)
    this.requests.push((parameters[0] as unknown[]).length)
    const { instead } = this
    if (instead === null) return await super.call(broker, request, ...parameters)
    this.instead = null
    const errors = Object.entries(instead).map(([index, apiCode]) => ({ apiCode, path: `/topics/${index}` }))
    if (errors.length > 0) throw Object.assign(new Error('refused'), { errors })
    return {} as Response
  }
}

describeKafka('the Kafka log', () => {
  logContract('Kafka', {
    open: ({ compression }: { compression?: Compression } = {}): Promise<Log> =>
      openKafkaLog(options(compression === undefined ? {} : { compression })),
  })

  it('is read by another client as read_committed consumers see it', async () => {
    const topic = uniqueName('topic')
    const name = uniqueName('pipeline')
    const log = await openKafkaLog(options({ topics: { partitions: 1, replicationFactor: 1, retention: 'compact' } }))
    // Several aborted transactions of one producer id, in what one fetch brings.
    for (let round = 0; round < 5; round++) {
      const writer = await log.openWriter({ name, signal })
      const sinkTopic = await writer.sink.topic({ name: topic, keyed: true })
      writer.sink.append(sinkTopic, encode(event(`committed ${round}`, `value ${round}`)))
      await writer.append(writer.cut(), new Map([['at', Buffer.from(String(round))]]))
      writer.sink.append(sinkTopic, encode(event(`aborted ${round}`, 'never seen')))
      await writer.append(writer.cut(), null)
      await writer.close()
    }
    const seen: string[] = []
    const kafka = new Kafka({ brokers: [testKafka() ?? ''], logLevel: logLevel.NOTHING })
    const consumer = kafka.consumer({ groupId: uniqueName('group'), readUncommitted: false })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise<void>((resolve) => {
      void consumer.run({
        eachMessage: async ({ message }) => {
          seen.push(message.key?.toString() ?? '')
          if (seen.length === 5) resolve()
        },
      })
    })
    await consumer.disconnect()
    const ours: string[] = []
    for await (const record of log.read({
      topic,
      partition: 0,
      from: 0n,
      until: (await log.offsets(topic, 0)).end,
      signal,
    })) {
      ours.push(record.key?.toString() ?? '')
    }
    await log.close()
    expect(seen).toEqual([0, 1, 2, 3, 4].map((round) => `committed ${round}`))
    expect(ours).toEqual(seen)
  })

  it('says that an event is larger than its topic accepts, and how to raise the limit', async () => {
    const topic = uniqueName('topic')
    const log = await openKafkaLog(options())
    const writer = await log.openWriter({ name: uniqueName('pipeline'), signal })
    writer.sink.append(
      await writer.sink.topic({ name: topic, keyed: true }),
      encode(event('key', 'x'.repeat(2_000_000))),
    )
    await expect(writer.append(writer.cut(), new Map())).rejects.toMatchObject({
      code: 'RECORD_TOO_LARGE',
      message: expect.stringContaining(topic),
      hint: expect.stringContaining('max.message.bytes'),
    })
    await writer.close()
    await log.close()
  })

  it('makes the topics of a pipeline, and that of its progress, in one request', async () => {
    const name = uniqueName('pipeline')
    const cluster = new Creating(options())
    const log = await openKafkaLog(options(), () => cluster)
    const requests = ['a', 'b'].map((table) => ({ name: `${name}.public.${table}`, keyed: true }))
    await log.createTopics(requests, name)
    expect(await log.pipelines()).toContain(name)
    expect(await log.topics(`${name}.`)).toHaveLength(2)
    await (await log.openWriter({ name, signal })).close()
    expect(cluster.requests).toEqual([3])
    await log.close()
  })

  it('asks for no more partitions in one request than a controller takes', async () => {
    const topics = { partitions: 2000, replicationFactor: -1, retention: 'compact' } as const
    const cluster = new Creating(options({ topics }))
    const log = await openKafkaLog(options(), () => cluster)
    cluster.instead = { 1: CODE.policyViolation }
    const created = log.createTopics([0, 1, 2].map(() => ({ name: uniqueName('topic'), keyed: true })))
    await expect(created).rejects.toMatchObject({ code: 'LOG_CONFIGURATION' })
    expect(cluster.requests).toEqual([2])
    await log.close()
  })

  it('says what the cluster says of topics that it refuses', async () => {
    const topics = { partitions: 20_000, replicationFactor: -1, retention: 'compact' } as const
    const log = await openKafkaLog(options({ topics }))
    const created = log.createTopics([{ name: uniqueName('topic'), keyed: true }])
    await expect(created).rejects.toMatchObject({
      code: 'LOG_CONFIGURATION',
      message: expect.stringMatching(/^topic "topic.*": refused by the cluster \(error \d+\): \S/),
    })
    await log.close()
  })

  it('keeps the last record of each key where that is wanted, whatever else is kept', async () => {
    const topics = { partitions: 1, replicationFactor: -1, retention: { ms: 3_600_000 } } as const
    const log = await openKafkaLog(options({ topics }))
    const [ordinary, lasting] = [uniqueName('topic'), uniqueName('topic')]
    await log.createTopics([
      { name: ordinary, keyed: true },
      { name: lasting, keyed: true, lasting: true },
    ])
    await log.close()
    const admin = new Kafka({ brokers: [testKafka() ?? ''], logLevel: logLevel.NOTHING }).admin()
    await admin.connect()
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [ordinary, lasting].map((name) => ({
        type: ConfigResourceTypes.TOPIC,
        name,
        configNames: ['cleanup.policy'],
      })),
    })
    await admin.disconnect()
    expect(resources.map(({ configEntries }) => configEntries[0]?.configValue)).toEqual(['delete', 'compact'])
  })

  it('says which of the topics is refused', async () => {
    const log = await openKafkaLog(options())
    const created = log.createTopics([uniqueName('topic'), 'no topic!'].map((name) => ({ name, keyed: true })))
    await expect(created).rejects.toMatchObject({
      code: 'TOPIC_INVALID',
      message: expect.stringContaining('topic "no topic!"'),
    })
    await log.close()
  })

  it.each([
    { what: 'refused for a while, beside one that is there', answer: { 0: CODE.topicAlreadyExists, 1: CODE.throttlingQuotaExceeded } }, // prettier-ignore
    { what: 'that are said to be there, and are not', answer: { 0: CODE.topicAlreadyExists, 1: CODE.topicAlreadyExists } }, // prettier-ignore
    { what: 'that are made, and gone before they are seen', answer: {} },
  ])('asks again for topics $what', async ({ answer }) => {
    const cluster = new Creating(options())
    const log = await openKafkaLog(options(), () => cluster)
    const requests = [0, 1].map(() => ({ name: uniqueName('topic'), keyed: true }))
    cluster.instead = answer
    await log.createTopics(requests)
    expect(cluster.requests).toEqual([2, 2])
    expect(await log.topics(requests[1]!.name)).toHaveLength(1)
    await log.close()
  })

  it('does not say of an append that it is there, where a close came before its commit', async () => {
    const topic = uniqueName('topic')
    const cluster = new Creating(options())
    const log = await openKafkaLog(options(), () => cluster)
    const writer = await log.openWriter({ name: uniqueName('pipeline'), signal })
    const sinkTopic = await writer.sink.topic({ name: topic, keyed: true })
    // The first is for the leaders of partitions that are new.
    writer.sink.append(sinkTopic, encode(event('key', 'value')))
    await writer.append(writer.cut(), new Map())
    writer.sink.append(sinkTopic, encode(event('key', 'value')))
    let closed: Promise<void> | null = null
    cluster.onProduced = () => (closed ??= writer.close())
    await expect(writer.append(writer.cut(), new Map())).rejects.toThrow('closed')
    await closed
    await log.close()
  })

  it('refuses a replication factor that the cluster cannot give', async () => {
    const log = await openKafkaLog(options({ topics: { partitions: 1, replicationFactor: 3, retention: 'compact' } }))
    const created = log.createTopics([{ name: uniqueName('topic'), keyed: true }])
    await expect(created).rejects.toMatchObject({
      code: 'LOG_CONFIGURATION',
      message: expect.stringContaining('replication-factor'),
    })
    await log.close()
  })

  it('refuses a transaction timeout that the cluster does not allow', async () => {
    const log = await openKafkaLog(options({ transactionTimeoutMs: 24 * 3_600_000 }))
    const opened = log.openWriter({ name: uniqueName('pipeline'), signal })
    await expect(opened).rejects.toMatchObject({
      code: 'LOG_CONFIGURATION',
      hint: expect.stringContaining('transaction.max.timeout.ms'),
    })
    await log.close()
  })

  it('no longer compacts a topic that is to hold records without a key', async () => {
    const topic = uniqueName('topic')
    const log = await openKafkaLog(options({ topics: { partitions: 1, replicationFactor: 1, retention: 'compact' } }))
    await log.createTopics([{ name: topic, keyed: true }])
    const writer = await log.openWriter({ name: uniqueName('pipeline'), signal })
    const sinkTopic = await writer.sink.topic({ name: topic, keyed: false })
    writer.sink.append(sinkTopic, encode({ ...event('', 'value'), key: null }))
    await writer.append(writer.cut(), new Map())
    await writer.close()
    for await (const record of log.read({ topic, partition: 0, from: 0n, signal })) {
      expect(record.key).toBeNull()
      break
    }
    await log.close()
  })
})

describe('a Kafka that is not there', () => {
  it('is said to be unreachable', async () => {
    const log = await openKafkaLog(options({ brokers: [{ host: '127.0.0.1', port: 1 }] }))
    await expect(log.pipelines()).rejects.toMatchObject({ code: 'LOG_UNREACHABLE' })
    await log.close()
  })
})
