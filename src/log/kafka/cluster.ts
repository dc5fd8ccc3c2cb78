/** Cluster: who leads which partition and who coordinates which transaction, and connections to them. */
import { type Broker, type Connection, ConnectionPool } from '@platformatic/kafka'
import { type Clock, systemClock } from '../../base/clock.js'
import { EvertError } from '../../base/errors.js'
import { type Asked, CODE, codesOf, isPassing, kafkaError, answered, texts } from './errors.js'
import { writeInParts } from './in-parts.js'
import { connectionSettings, type KafkaOptions } from './options.js'
import { findCoordinator, metadata, type MetadataResponse, NO_TOPIC_ID, type VersionedRequest } from './requests.js'
import { askVersions, type BrokerVersions, chooseVersion } from './versions.js'

export interface Leader {
  readonly id: number
  readonly broker: Broker
}

interface TopicMetadata {
  /** Another one for a topic of the same name that was made anew; null where the cluster gives none. */
  readonly id: string | null
  /** Broker ids by partition; -1 where there is no leader. */
  readonly leaders: readonly number[]
}

const RETRY_FIRST_MS = 20
const RETRY_LAST_MS = 1000
const RETRY_TIMEOUT_MS = 5 * 60_000
/** A cluster that has never answered is given up after this. */
const REACH_TIMEOUT_MS = 10_000
const TRANSACTION_KEY = 1

export class Cluster {
  readonly #options: KafkaOptions
  readonly #pool: ConnectionPool
  /** What a broker said when its connection was new: one that comes back in another release comes on another connection. */
  readonly #versions = new WeakMap<Connection, Promise<BrokerVersions>>()
  /** As the last metadata named them: of those that are gone, some would be waited for. */
  #brokers: ReadonlyMap<number, Broker> = new Map()
  /** Where a question that any broker can answer was answered last. */
  #answering = ''
  readonly #topics = new Map<string, TopicMetadata>()
  /** Topics that a broker has known at some time. */
  readonly #seen = new Set<string>()
  #reached = false
  #losses = 0
  /** Told of each connection that is lost. */
  onLoss: () => void = () => undefined

  constructor(options: KafkaOptions, clientId = options.clientId) {
    this.#options = options
    this.#pool = new ConnectionPool(clientId, connectionSettings(options))
    this.#pool.on('disconnect', () => this.lost())
    // Its requests fail; an event without a listener would end the process, and of a reset while it authenticates there are two.
    this.#pool.on('connecting', ({ connection }) => connection.on('error', () => undefined))
  }

  /** How many connections have been lost. */
  get losses(): number {
    return this.#losses
  }

  protected lost(): void {
    this.#losses++
    this.onLoss()
  }

  get options(): KafkaOptions {
    return this.#options
  }

  get clock(): Clock {
    return this.#options.clock ?? systemClock
  }

  /** One request to one broker. A connection whose request timed out is unusable, since its late answer would not be consumed. */
  async call<Arguments extends unknown[], Response>(
    broker: Broker,
    request: VersionedRequest<Arguments, Response>,
    ...parameters: Arguments
  ): Promise<Response> {
    const connection = await this.#pool.get(broker)
    try {
      const api = chooseVersion(request, await this.#versionsOf(connection), broker)
      return await api.async(connection, ...parameters)
    } catch (error) {
      if (codesOf(error).length === 0) {
        // What is still to be written lies in buffers that are used again.
        connection.socket.destroy()
        void connection.close().catch(() => undefined)
      }
      throw error
    }
  }

  async #versionsOf(connection: Connection): Promise<BrokerVersions> {
    const known = this.#versions.get(connection)
    if (known !== undefined) return await known
    let refusal: unknown
    connection.on('error', (error) => (refusal = error))
    writeInParts(connection)
    const asked = askVersions(connection).catch((error: unknown) => {
      // A broker that does not like our certificate (TLS 1.3) says so after the handshake, and to the request that the connection is closed.
      if (error instanceof Error) error.cause ??= refusal
      throw error
    })
    this.#versions.set(connection, asked)
    asked.catch(() => this.#versions.delete(connection))
    return await asked
  }

  /** One request to whichever broker answers first. */
  async callAny<Arguments extends unknown[], Response>(
    request: VersionedRequest<Arguments, Response>,
    ...parameters: Arguments
  ): Promise<Response> {
    // One that no longer answers may have to be waited for, each time.
    const isAnswering = (broker: Broker): number => Number(placeOf(broker) === this.#answering)
    const known = [...this.#brokers.values()].toSorted((a, b) => isAnswering(b) - isAnswering(a))
    let last: unknown
    for (const broker of [...known, ...this.#options.brokers]) {
      try {
        const response = await this.call(broker, request, ...parameters)
        this.#answering = placeOf(broker)
        this.#reached = true
        return response
      } catch (error) {
        last = error
        if (codesOf(error).length > 0) throw error
      }
    }
    throw last
  }

  /** A broker that has just started behind a ZooKeeper knows of no broker, itself included. */
  async #metadata(topics: string[] | null): Promise<MetadataResponse> {
    const response = await this.callAny(metadata, topics)
    if (response.brokers.length === 0) throw answered(CODE.brokerNotAvailable)
    return response
  }

  /** One request to the controller: with ZooKeeper it alone creates and deletes topics, with KRaft any broker passes it on. */
  async callController<Arguments extends unknown[], Response>(
    request: VersionedRequest<Arguments, Response>,
    ...parameters: Arguments
  ): Promise<Response> {
    const { controllerId, brokers } = await this.#metadata([])
    const controller = brokers.find(({ nodeId }) => nodeId === controllerId)
    if (controller === undefined) return await this.callAny(request, ...parameters)
    return await this.call({ host: controller.host, port: controller.port }, request, ...parameters)
  }

  /**
   * Retries what passes by itself, with growing pauses, until the signal is aborted. Errors: kafkaError's; LOG_UNREACHABLE where no broker
   * has ever answered.
   */
  async retry<T>(
    asked: Asked,
    work: () => Promise<T>,
    options: { signal?: AbortSignal; firstMs?: number } = {},
  ): Promise<T> {
    const startedMs = this.clock.elapsedMs()
    const limitMs = this.#options.retryTimeoutMs ?? RETRY_TIMEOUT_MS
    let waitMs = options.firstMs ?? RETRY_FIRST_MS
    for (;;) {
      options.signal?.throwIfAborted()
      try {
        return await work()
      } catch (error) {
        const elapsedMs = this.clock.elapsedMs() - startedMs
        if (!isPassing(error)) throw kafkaError(error, asked)
        if (!this.#reached && elapsedMs > REACH_TIMEOUT_MS) throw this.#unreachable(error)
        if (elapsedMs > limitMs) throw kafkaError(error, asked)
        if (codesOf(error).length === 0)
          this.#options.logger.debug({ object: asked.object }, 'a broker does not answer')
      }
      await this.clock.delay(waitMs, options.signal)
      waitMs = Math.min(waitMs * 2, RETRY_LAST_MS)
    }
  }

  #unreachable(cause: unknown): EvertError {
    const brokers = this.#options.brokers.map(placeOf).join(', ')
    return new EvertError('LOG_UNREACHABLE', {
      message: `no broker answers at ${brokers}: ${texts(cause)}`,
      hint: 'is Kafka up, and are the addresses of --log right? Does the listener want --kafka-tls, or not? The brokers must also advertise addresses that can be reached from here',
      cause,
    })
  }

  /** All topics there are. */
  async listTopics(signal?: AbortSignal): Promise<{ name: string; id: string | null; partitions: number }[]> {
    const options = signal === undefined ? {} : { signal }
    const { brokers, topics } = await this.retry({ object: 'the list of topics' }, () => this.#metadata(null), options)
    this.#meet(brokers)
    return topics.map((described) => {
      const name = described.name ?? ''
      const { id, leaders } = this.#remember(name, described)
      return { name, id, partitions: leaders.length }
    })
  }

  #meet(brokers: MetadataResponse['brokers']): void {
    this.#brokers = new Map(brokers.map(({ nodeId, host, port }) => [nodeId, { host, port }]))
  }

  #remember(name: string, described: MetadataResponse['topics'][number] | undefined): TopicMetadata {
    const leaders: number[] = []
    for (const partition of described?.partitions ?? []) leaders[partition.partitionIndex] = partition.leaderId
    const id = described?.topicId ?? NO_TOPIC_ID
    const found = { id: id === NO_TOPIC_ID ? null : id, leaders }
    this.#topics.set(name, found)
    this.#seen.add(name)
    return found
  }

  /** As it was last seen; null where the cluster gives its topics no ids. */
  topicId(topic: string): string | null {
    return this.#topics.get(topic)?.id ?? null
  }

  /** Partitions of a topic, or null where it does not exist. */
  async partitions(topic: string): Promise<number | null> {
    const known = this.#topics.get(topic) ?? (await this.refresh(topic))
    return known === null ? null : known.leaders.length
  }

  /** Asks again who leads. Null where the topic does not exist. */
  async refresh(topic: string): Promise<TopicMetadata | null> {
    try {
      const response = await this.#metadata([topic])
      this.#meet(response.brokers)
      return this.#remember(topic, response.topics[0])
    } catch (error) {
      this.#topics.delete(topic)
      if (!codesOf(error).includes(CODE.unknownTopicOrPartition)) throw error
      return null
    }
  }

  /** Asks who leads. An error that passes, where a partition has no leader, or where a broker does not know of a topic yet. */
  async requireLed(topics: readonly string[]): Promise<void> {
    const response = await this.#metadata([...topics])
    this.#meet(response.brokers)
    for (const described of response.topics) {
      const name = described.name ?? ''
      const { leaders } = this.#remember(name, described)
      const leaderless = leaders.length === 0 ? 0 : [...leaders].findIndex((id) => id === undefined || id < 0)
      if (leaderless >= 0) throw leaderlessError(name, leaderless)
    }
  }

  /** Null while there is none. Errors: TOPIC_MISSING. */
  async leader(topic: string, partition: number): Promise<Leader | null> {
    const known = this.#topics.get(topic) ?? (await this.refresh(topic))
    if (known === null) throw this.#unknown(topic)
    const id = known.leaders[partition]
    if (id === undefined) throw missing(`${topic}" partition "${partition}`)
    const broker = this.#brokers.get(id)
    return broker === undefined ? null : { id, broker }
  }

  /** A broker whose metadata is old may not know a topic that was there before. */
  #unknown(topic: string): Error {
    return this.#seen.has(topic) ? answered(CODE.unknownTopicOrPartition) : missing(topic)
  }

  /** The leader is no longer who we thought. */
  forget(topic: string): void {
    this.#topics.delete(topic)
  }

  async coordinator(transactionalId: string): Promise<Broker> {
    const response = await this.callAny(findCoordinator, TRANSACTION_KEY, [transactionalId])
    const [found] = response.coordinators
    if (found === undefined) throw new EvertError('LOG_PROTOCOL', { message: 'Kafka named no coordinator' })
    return { host: found.host, port: found.port }
  }

  async close(): Promise<void> {
    await this.#pool.close().catch(() => undefined)
  }
}

function placeOf({ host, port }: Broker): string {
  return `${host}:${port}`
}

/** One that passes. */
export function leaderlessError(topic: string, partition: number): Error {
  return answered(CODE.leaderNotAvailable, `topic "${topic}" partition ${partition} has no leader`)
}

export function missing(topic: string): EvertError {
  return new EvertError('TOPIC_MISSING', { message: `topic "${topic}" does not exist` })
}
