/**
 * One transactional id: its log transactions at the coordinator, one after the other, and ready-made record batches within them. Batches of
 * a partition keep their order and their sequence numbers however often they are sent, so that the broker takes each of them once.
 */
import type { Broker } from '@platformatic/kafka'
import { EvertError } from '../../base/errors.js'
import type { FilledBatch } from '../batch-sink.js'
import type { Cluster } from './cluster.js'
import type { TopicPartition } from './end-offsets.js'
import { type Asked, CODE, codeError, codesOf, isPassing, isPassingCode } from './errors.js'
import { partitionKey, produceRequests, RetryRound, type StampedBatch } from './produce-requests.js'
import {
  addPartitionsToTransaction,
  describeTransactions,
  endTransaction,
  initProducerId,
  produce,
} from './requests.js'

/** Told of every batch that a broker has taken: the offset after its last record. */
export type OnDelivered = (topic: string, partition: number, end: bigint) => void

/** Sequence numbers wrap around at 2^31. */
const SEQUENCE_MASK = 0x7fffffff
const FIRST_RETRY_MS = 2
/** Errors of a coordinator that does not tell of a transactional id. */
const UNTOLD: ReadonlySet<number> = new Set([CODE.transactionalIdNotFound, CODE.transactionalIdAuthorizationFailed])

export interface TransactionalIdOptions {
  readonly id: string
  readonly signal: AbortSignal
  readonly onDelivered: OnDelivered
}

export class TransactionalId {
  readonly #cluster: Cluster
  readonly #options: TransactionalIdOptions
  #coordinator: Broker | null = null
  #producerId = -1n
  #epoch = -1
  /** The next sequence number by partition, from the first batch of this producer on. */
  readonly #sequences = new Map<string, number>()
  /**
   * Partitions in which a broker has taken a batch of this producer. Until then it takes any sequence number for the first: were
   * the first of two batches refused, because the leader is new, it would take the second in its place.
   */
  readonly #known = new Set<string>()
  /** Partitions that the open log transaction has, by their keys. */
  readonly #added = new Map<string, TopicPartition>()
  #last: { readonly partitions: readonly TopicPartition[]; readonly commit: boolean } | null = null
  #openedMs: number | null = null
  #lossesAtBegin = 0
  #unanswered = false
  /** How much of the open log transaction's age went into attempts that failed, and the waits between them. */
  #lostMs = 0

  constructor(cluster: Cluster, options: TransactionalIdOptions) {
    this.#cluster = cluster
    this.#options = options
  }

  get #object(): string {
    return `transactional id "${this.#options.id}"`
  }

  /** A log transaction is open. */
  get open(): boolean {
    return this.#openedMs !== null
  }

  /** Of the open log transaction. */
  get ageMs(): number {
    return this.#openedMs === null ? 0 : this.#cluster.clock.elapsedMs() - this.#openedMs
  }

  /** Connections that the cluster had lost when the last log transaction began. */
  get lossesAtBegin(): number {
    return this.#lossesAtBegin
  }

  /** How the last log transaction ended, and in which partitions; null where there was none. */
  get last(): { readonly partitions: readonly TopicPartition[]; readonly commit: boolean } | null {
    return this.#last
  }

  /** A request to the coordinator was not answered, and may still arrive there. */
  get unanswered(): boolean {
    return this.#unanswered
  }

  /** Fences every earlier producer of this id, itself at an earlier epoch too, and aborts what it left open. */
  async init(): Promise<void> {
    this.#unanswered = false
    const { transactionTimeoutMs } = this.#cluster.options
    const [id, epoch] = [this.#producerId, this.#epoch]
    const response = await this.#ask((broker) =>
      this.#cluster.call(broker, initProducerId, this.#options.id, transactionTimeoutMs, id, epoch),
    )
    this.#producerId = response.producerId
    this.#epoch = response.producerEpoch
    this.#sequences.clear()
    this.#known.clear()
  }

  /**
   * Asks how the last log transaction of this id ended, which the coordinator remembers until `init`. Taken for aborted where it does not
   * say: before Kafka 3.0, or of an id that it does not know.
   */
  async recall(): Promise<void> {
    const state = await this.#ask(async (broker) => {
      try {
        const { transactionStates } = await this.#cluster.call(broker, describeTransactions, [this.#options.id])
        return transactionStates[0]?.transactionState
      } catch (error) {
        const unknown = codesOf(error).some((code) => UNTOLD.has(code))
        if (unknown || (error instanceof EvertError && error.code === 'LOG_PROTOCOL')) return null
        throw error
      }
    })
    this.#last = { partitions: [], commit: state === 'PrepareCommit' || state === 'CompleteCommit' }
  }

  /**
   * Begins a log transaction in those partitions. `unless` is asked before each attempt: where it holds, nothing is begun, and this is
   * false.
   */
  async begin(partitions: readonly TopicPartition[], unless: () => boolean = () => false): Promise<boolean> {
    this.#openedMs = this.#cluster.clock.elapsedMs()
    this.#lostMs = 0
    this.#lossesAtBegin = this.#cluster.losses
    if (await this.#addPartitions(partitions, unless)) return true
    this.#openedMs = null
    this.#added.clear()
    return false
  }

  /** Sends batches within the open log transaction. */
  async send(batches: readonly FilledBatch[]): Promise<void> {
    await this.#addPartitions(batches)
    await this.#produce(batches.map((batch) => this.#stamp(batch)))
  }

  /** Ends the open log transaction, which has waited so long for that. */
  async end(commit: boolean, waitedMs = 0): Promise<void> {
    this.#lostMs += waitedMs
    await this.#ask((broker) =>
      this.#cluster.call(broker, endTransaction, this.#options.id, this.#producerId, this.#epoch, commit),
    )
    this.#openedMs = null
    this.#last = { partitions: [...this.#added.values()], commit }
    this.#added.clear()
  }

  /** As Cluster.retry, and reckons up what failed attempts cost. */
  async #retry<T>(asked: Asked, work: () => Promise<T>, options: { readonly firstMs?: number } = {}): Promise<T> {
    const startedMs = this.#cluster.clock.elapsedMs()
    let lastAttemptMs = startedMs
    const attempt = async (): Promise<T> => {
      lastAttemptMs = this.#cluster.clock.elapsedMs()
      return await work()
    }
    const retried = this.#cluster.retry(asked, attempt, { ...options, signal: this.#options.signal })
    try {
      return await retried.finally(() => (this.#lostMs += lastAttemptMs - startedMs))
    } catch (error) {
      throw this.#timedOut(error)
    }
  }

  /**
   * Being fenced in a log transaction that is older than its timeout means that the broker has aborted it. Where its own work took that
   * long, it would happen again; where the brokers were away for a part of it, all can be well the next time.
   */
  #timedOut(error: unknown): unknown {
    const { transactionTimeoutMs } = this.#cluster.options
    const { ageMs } = this
    if (!(error instanceof EvertError) || error.code !== 'LOG_FENCED' || ageMs < transactionTimeoutMs) return error
    const aborted = `${this.#object}: a log transaction was open for ${seconds(ageMs)}, and the broker aborted it after ${seconds(transactionTimeoutMs)}`
    if (ageMs - this.#lostMs < transactionTimeoutMs) {
      const message = `${aborted}; for ${seconds(this.#lostMs)} of it the brokers were not available`
      return new EvertError('LOG_UNAVAILABLE', { message, cause: error })
    }
    return new EvertError('TRANSACTION_TOO_LONG', {
      message: aborted,
      hint: 'raise --transaction-timeout (and transaction.max.timeout.ms of the brokers), or make the transaction in the database smaller',
      cause: error,
    })
  }

  /** A request to the coordinator, wherever it is. */
  async #ask<T>(request: (broker: Broker) => Promise<T>): Promise<T> {
    const asked = { object: this.#object }
    return await this.#retry(
      asked,
      async () => {
        this.#coordinator ??= await this.#cluster.coordinator(this.#options.id)
        try {
          return await request(this.#coordinator)
        } catch (error) {
          if (codesOf(error).length === 0) this.#unanswered = true
          // Anything but "wait for the markers" may mean that the coordinator is elsewhere.
          if (!codesOf(error).includes(CODE.concurrentTransactions)) this.#coordinator = null
          throw error
        }
      },
      { firstMs: FIRST_RETRY_MS },
    )
  }

  async #addPartitions(partitions: readonly TopicPartition[], unless = (): boolean => false): Promise<boolean> {
    const topics = new Map<string, number[]>()
    for (const { topic, partition } of partitions) {
      const key = partitionKey({ topic, partition })
      if (this.#added.has(key)) continue
      this.#added.set(key, { topic, partition })
      const others = topics.get(topic)
      if (others === undefined) topics.set(topic, [partition])
      else others.push(partition)
    }
    if (topics.size === 0) return true
    const transaction = {
      transactionalId: this.#options.id,
      producerId: this.#producerId,
      producerEpoch: this.#epoch,
      verifyOnly: false,
      topics: [...topics].map(([topic, indexes]) => ({ name: topic, partitions: indexes })),
    }
    return await this.#ask(async (broker) => {
      if (unless()) return false
      await this.#cluster.call(broker, addPartitionsToTransaction, [transaction])
      return true
    })
  }

  #stamp({ topic, partition, builder }: FilledBatch): StampedBatch {
    const key = partitionKey({ topic, partition })
    const baseSequence = this.#sequences.get(key) ?? 0
    this.#sequences.set(key, (baseSequence + builder.count) & SEQUENCE_MASK)
    const producer = { producerId: this.#producerId, producerEpoch: this.#epoch, baseSequence, transactional: true }
    return { topic, partition, key, records: builder.stamp(producer), count: builder.count }
  }

  /** In rounds: what a round could not deliver is sent again, in order, once everything of it has settled. */
  async #produce(batches: readonly StampedBatch[]): Promise<void> {
    let left = batches
    const object = `topic "${batches[0]?.topic ?? ''}"`
    const work = async (): Promise<void> => {
      const round = await this.#round(left)
      left = round.left
      if (round.failure !== null) throw round.failure
    }
    while (left.length > 0) await this.#retry({ object }, work)
  }

  async #round(batches: readonly StampedBatch[]): Promise<{ left: StampedBatch[]; failure: unknown }> {
    const requests = await produceRequests(this.#cluster, batches, this.#known)
    let failure: unknown = requests.failure
    const undelivered = new Set([...requests.homeless, ...requests.later])
    // Partitions that failed in this round: what follows in them is out of order for the broker, and comes again too.
    const broken = new Set(requests.homeless.map(({ key }) => key))
    const results = await Promise.all(
      requests.sent.map(async ({ broker, entries }) => {
        try {
          const answers = await this.#cluster.call(broker, produce, this.#options.id, entries)
          return { entries, answers, error: null }
        } catch (error) {
          return { entries, answers: [], error }
        }
      }),
    )
    for (const { entries, answers, error } of results) {
      if (error !== null && !isPassing(error)) throw error
      const answerOf = new Map(answers.map((answer) => [partitionKey(answer), answer]))
      for (const entry of entries) {
        const { key } = entry
        const answer = answerOf.get(key)
        const code = answer?.error
        if (code === CODE.none || code === CODE.duplicateSequence) {
          this.#known.add(key)
          if (answer !== undefined && answer.baseOffset >= 0n)
            this.#options.onDelivered(entry.topic, entry.partition, answer.baseOffset + BigInt(entry.count))
          continue
        }
        const passing =
          code === undefined || isPassingCode(code) || (code === CODE.outOfOrderSequence && broken.has(key))
        if (!passing) throw refused(entry, code)
        broken.add(key)
        undelivered.add(entry)
        this.#cluster.forget(entry.topic)
        failure ??= error ?? new RetryRound(code ?? CODE.unknownTopicOrPartition)
      }
    }
    return { left: batches.filter((batch) => undelivered.has(batch)), failure }
  }
}

function refused(batch: StampedBatch, code: number): EvertError {
  const object = `topic "${batch.topic}" partition ${batch.partition} (a batch of ${batch.records.length} bytes, ${batch.count} ${batch.count === 1 ? 'event' : 'events'})`
  return codeError(code, { object, topic: batch.topic })
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}
