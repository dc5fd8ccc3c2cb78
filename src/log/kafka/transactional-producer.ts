/**
 * Transactional producer of ready-made record batches. Batches of a partition keep their order and their sequence numbers however
 * often they are sent, so that the broker takes each of them once.
 */
import type { Broker } from '@platformatic/kafka'
import { EvertError } from '../../base/errors.js'
import type { FilledBatch } from '../batch-sink.js'
import type { Cluster } from './cluster.js'
import type { TopicPartition } from './end-offsets.js'
import { type Asked, CODE, codeError, codesOf, isPassing, isPassingCode } from './errors.js'
import {
  addPartitionsToTransaction,
  describeTransactions,
  endTransaction,
  initProducerId,
  produce,
} from './requests.js'

interface StampedBatch {
  readonly topic: string
  readonly partition: number
  readonly records: Buffer
  readonly count: number
}

/** Told of every batch that a broker has taken: the offset after its last record. */
export type OnDelivered = (topic: string, partition: number, end: bigint) => void

/** Sequence numbers wrap around at 2^31. */
const SEQUENCE_MASK = 0x7fffffff
const FIRST_RETRY_MS = 2
/** A broker remembers the last five batches of a producer in a partition: what is sent again behind more than that is not known again. */
const BATCHES_IN_FLIGHT = 5
/** Errors of a coordinator that does not tell of a transactional id. */
const UNTOLD: ReadonlySet<number> = new Set([CODE.transactionalIdNotFound, CODE.transactionalIdAuthorizationFailed])

export class TransactionalProducer {
  readonly #cluster: Cluster
  readonly #id: string
  readonly #signal: AbortSignal
  readonly #onDelivered: OnDelivered
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
  /** Partitions that the open log transaction has. */
  readonly #added = new Set<string>()
  #openedMs: number | null = null
  /** A request to the coordinator was not answered, and may still arrive there. */
  #unanswered = false
  /** How much of the open log transaction's age went into attempts that failed, and the waits between them. */
  #lostMs = 0

  constructor(
    cluster: Cluster,
    {
      transactionalId,
      signal,
      onDelivered,
    }: { readonly transactionalId: string; readonly signal: AbortSignal; readonly onDelivered: OnDelivered },
  ) {
    this.#onDelivered = onDelivered
    this.#cluster = cluster
    this.#id = transactionalId
    this.#signal = signal
  }

  get #object(): string {
    return `transactional id "${this.#id}"`
  }

  /** Fences every earlier producer of this id, itself at an earlier epoch too, and aborts what it left open. */
  async init(): Promise<void> {
    this.#unanswered = false
    const { transactionTimeoutMs } = this.#cluster.options
    const [id, epoch] = [this.#producerId, this.#epoch]
    const response = await this.#ask((broker) =>
      this.#cluster.call(broker, initProducerId, this.#id, transactionTimeoutMs, id, epoch),
    )
    this.#producerId = response.producerId
    this.#epoch = response.producerEpoch
    this.#sequences.clear()
    this.#known.clear()
  }

  /** Sends batches within the log transaction, opening one where none is. */
  async send(batches: readonly FilledBatch[]): Promise<void> {
    if (batches.length === 0) return
    // One that arrives late would end this log transaction in its middle. The next epoch shuts it out: so this producer, which has not
    // been fenced, takes it (KIP-360), and its sequence numbers begin anew.
    if (this.#openedMs === null && this.#unanswered) await this.init()
    if (this.#openedMs === null) {
      this.#openedMs = this.#cluster.clock.elapsedMs()
      this.#lostMs = 0
    }
    try {
      await this.#addPartitions(batches)
      await this.#produce(batches.map((batch) => this.#stamp(batch)))
    } catch (error) {
      throw this.#timedOut(error)
    }
  }

  /**
   * Whether the last log transaction of this id was committed, as the coordinator remembers it until `init`. False where it does not say:
   * before Kafka 3.0, or of an id that it does not know.
   */
  async lastWasCommitted(): Promise<boolean> {
    const state = await this.#ask(async (broker) => {
      try {
        const { transactionStates } = await this.#cluster.call(broker, describeTransactions, [this.#id])
        return transactionStates[0]?.transactionState
      } catch (error) {
        const unknown = codesOf(error).some((code) => UNTOLD.has(code))
        if (unknown || (error instanceof EvertError && error.code === 'LOG_PROTOCOL')) return null
        throw error
      }
    })
    return state === 'PrepareCommit' || state === 'CompleteCommit'
  }

  /** Writes markers where an earlier log transaction of this id was left without one. */
  async endIn(partitions: readonly TopicPartition[], commit: boolean): Promise<void> {
    this.#openedMs = this.#cluster.clock.elapsedMs()
    await this.#addPartitions(partitions)
    await this.end(commit)
  }

  /** Ends the log transaction, where one is open. */
  async end(commit: boolean): Promise<void> {
    if (this.#openedMs === null) return
    try {
      await this.#ask((broker) =>
        this.#cluster.call(broker, endTransaction, this.#id, this.#producerId, this.#epoch, commit),
      )
    } catch (error) {
      throw this.#timedOut(error)
    }
    this.#openedMs = null
    this.#added.clear()
  }

  /**
   * Being fenced in a log transaction that is older than its timeout means that the broker has aborted it. Where its own work took that
   * long, it would happen again; where the brokers were away for a part of it, all can be well the next time.
   */
  #timedOut(error: unknown): unknown {
    const { transactionTimeoutMs } = this.#cluster.options
    const ageMs = this.#openedMs === null ? 0 : this.#cluster.clock.elapsedMs() - this.#openedMs
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

  /** As Cluster.retry, and reckons up what failed attempts cost. */
  async #retry<T>(asked: Asked, work: () => Promise<T>, options: { readonly firstMs?: number } = {}): Promise<T> {
    const startedMs = this.#cluster.clock.elapsedMs()
    let lastAttemptMs = startedMs
    const attempt = async (): Promise<T> => {
      lastAttemptMs = this.#cluster.clock.elapsedMs()
      return await work()
    }
    try {
      return await this.#cluster.retry(asked, attempt, { ...options, signal: this.#signal })
    } finally {
      this.#lostMs += lastAttemptMs - startedMs
    }
  }

  /** A request to the coordinator, wherever it is. */
  async #ask<T>(request: (broker: Broker) => Promise<T>): Promise<T> {
    const asked = { object: this.#object }
    return await this.#retry(
      asked,
      async () => {
        this.#coordinator ??= await this.#cluster.coordinator(this.#id)
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

  async #addPartitions(partitions: readonly TopicPartition[]): Promise<void> {
    const topics = new Map<string, number[]>()
    for (const { topic, partition } of partitions) {
      const key = `${topic}/${partition}`
      if (this.#added.has(key)) continue
      this.#added.add(key)
      const others = topics.get(topic)
      if (others === undefined) topics.set(topic, [partition])
      else others.push(partition)
    }
    if (topics.size === 0) return
    const transaction = {
      transactionalId: this.#id,
      producerId: this.#producerId,
      producerEpoch: this.#epoch,
      verifyOnly: false,
      topics: [...topics].map(([topic, indexes]) => ({ name: topic, partitions: indexes })),
    }
    await this.#ask((broker) => this.#cluster.call(broker, addPartitionsToTransaction, [transaction]))
  }

  #stamp({ topic, partition, builder }: FilledBatch): StampedBatch {
    const key = `${topic}/${partition}`
    const baseSequence = this.#sequences.get(key) ?? 0
    this.#sequences.set(key, (baseSequence + builder.count) & SEQUENCE_MASK)
    const producer = { producerId: this.#producerId, producerEpoch: this.#epoch, baseSequence, transactional: true }
    return { topic, partition, records: builder.stamp(producer), count: builder.count }
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
    const requests = await this.#requests(batches)
    let failure: unknown = requests.failure
    const undelivered = new Set([...requests.homeless, ...requests.later])
    // Partitions that failed in this round: what follows in them is out of order for the broker, and comes again too.
    const broken = new Set(requests.homeless.map(partitionKey))
    const results = await Promise.all(
      requests.sent.map(async ({ broker, entries }) => {
        try {
          return { entries, results: await this.#cluster.call(broker, produce, this.#id, entries), error: null }
        } catch (error) {
          return { entries, results: [], error }
        }
      }),
    )
    for (const { entries, results: answers, error } of results) {
      if (error !== null && !isPassing(error)) throw error
      for (const entry of entries) {
        const key = partitionKey(entry)
        const answer = answers.find(({ topic, partition }) => topic === entry.topic && partition === entry.partition)
        const code = answer?.error
        if (code === CODE.none || code === CODE.duplicateSequence) {
          this.#known.add(key)
          if (answer !== undefined && answer.baseOffset >= 0n)
            this.#onDelivered(entry.topic, entry.partition, answer.baseOffset + BigInt(entry.count))
          continue
        }
        const passing =
          code === undefined || isPassingCode(code) || (code === CODE.outOfOrderSequence && broken.has(key))
        if (!passing) throw this.#refused(entry, code)
        broken.add(key)
        undelivered.add(entry)
        this.#cluster.forget(entry.topic)
        failure ??= error ?? new RetryRound(code ?? CODE.unknownTopicOrPartition)
      }
    }
    return { left: batches.filter((batch) => undelivered.has(batch)), failure }
  }

  #refused(batch: StampedBatch, code: number): EvertError {
    const object = `topic "${batch.topic}" partition ${batch.partition} (a batch of ${batch.records.length} bytes)`
    return codeError(code, { object, topic: batch.topic })
  }

  /** One request per leader holds at most one batch of a partition, so the n-th batch of each goes into the n-th request. */
  async #requests(batches: readonly StampedBatch[]): Promise<{
    sent: { broker: Broker; entries: StampedBatch[] }[]
    /** Whose partition has no leader now. */
    homeless: StampedBatch[]
    /** For the next round. */
    later: StampedBatch[]
    failure: unknown
  }> {
    const requests = new Map<string, { broker: Broker; entries: StampedBatch[] }>()
    const counts = new Map<string, number>()
    const homeless: StampedBatch[] = []
    const later: StampedBatch[] = []
    let failure: unknown = null
    for (const batch of batches) {
      const key = partitionKey(batch)
      const turn = counts.get(key) ?? 0
      if (turn === (this.#known.has(key) ? BATCHES_IN_FLIGHT : 1)) {
        later.push(batch)
        continue
      }
      const leader = await this.#cluster.leader(batch.topic, batch.partition).catch((error: unknown) => {
        if (!isPassing(error)) throw error
        failure ??= error
        return null
      })
      if (leader === null) {
        this.#cluster.forget(batch.topic)
        failure ??= new RetryRound(CODE.unknownTopicOrPartition)
        homeless.push(batch)
        continue
      }
      counts.set(key, turn + 1)
      const place = `${turn}/${leader.id}`
      const request = requests.get(place)
      if (request === undefined) requests.set(place, { broker: leader.broker, entries: [batch] })
      else request.entries.push(batch)
    }
    return { sent: [...requests.values()], homeless, later, failure }
  }
}

/** A round that has to be sent again because of a code that passes. */
class RetryRound extends Error {
  readonly apiCode: number

  constructor(code: number) {
    super(`error ${code}`)
    this.apiCode = code
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

function partitionKey({ topic, partition }: { readonly topic: string; readonly partition: number }): string {
  return `${topic}/${partition}`
}
