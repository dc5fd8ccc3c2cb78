/**
 * Transactional producer of ready-made record batches. Batches of a partition keep their order and their sequence numbers however
 * often they are sent, so that the broker takes each of them once.
 */
import type { Broker } from '@platformatic/kafka'
import { EvertError } from '../../base/errors.js'
import type { FilledBatch } from '../batch-sink.js'
import type { Cluster } from './cluster.js'
import { leftOpen, type TopicPartition } from './end-offsets.js'
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
/** Markers that take longer than this to be written may have been given up. */
const MARKERS_LATE_MS = 1000
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
  /** Partitions that the open log transaction has, by their keys. */
  readonly #added = new Map<string, TopicPartition>()
  /** How the last log transaction ended, and in which partitions. */
  #last: { readonly partitions: readonly TopicPartition[]; readonly commit: boolean } | null = null
  /** Connections that the cluster had lost when the markers of the last log transaction were not yet in doubt. */
  #losses = 0
  #openedMs: number | null = null
  #lossesAtBegin = 0
  #tending: Promise<void> = Promise.resolve()
  /** Of that: told to whoever sends next. */
  #failure: unknown = null
  /** Something is being sent. */
  #busy = false
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
    cluster.onLoss = () => this.#tend()
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
    // First of all: nothing is tended from here on but what is under way.
    this.#busy = true
    try {
      if (await this.#stopsBefore(this.#tending)) this.#signal.throwIfAborted()
      if (this.#failure !== null) throw this.#failure
      for (let looked = false; this.#openedMs === null; looked = true) await this.#open(batches, looked)
      await this.#addPartitions(batches)
      await this.#produce(batches.map((batch) => this.#stamp(batch)))
    } catch (error) {
      throw this.#timedOut(error)
    } finally {
      this.#busy = false
    }
  }

  /**
   * Begins a log transaction, unless the markers of the last one may be missing somewhere: a broker that died, or comes back, can have it
   * taken for ended without them (see endLeftOver). Within this log transaction it would be too late: were it aborted, so would be what
   * the last one left open. `looked` says that they were there a moment ago.
   */
  async #open(partitions: readonly TopicPartition[], looked: boolean): Promise<void> {
    // Before an epoch is taken, which aborts what a request that was not answered may have opened: with it, all that lacks its marker.
    await this.#requireMarkers()
    // One that arrives late would end this log transaction in its middle. The next epoch shuts it out: so this producer, which has not
    // been fenced, takes it (KIP-360), and its sequence numbers begin anew.
    if (this.#unanswered) await this.init()
    this.#begin()
    const doubtful = (): boolean => {
      const late = !looked && this.#cluster.clock.elapsedMs() - (this.#openedMs ?? 0) > MARKERS_LATE_MS
      return this.#last !== null && (late || this.#lossesAtBegin !== this.#cluster.losses)
    }
    if (await this.#addPartitions(partitions, doubtful)) return
    this.#losses = -1
    this.#openedMs = null
    this.#added.clear()
  }

  /** Writes the markers of the last log transaction again where they are missing, once a lost connection has made that possible. */
  async #requireMarkers(): Promise<void> {
    const { losses } = this.#cluster
    const last = this.#last
    if (last === null || losses === this.#losses) return
    await this.endLeftOver([...new Set(last.partitions.map(({ topic }) => topic))], last.commit)
    this.#losses = losses
  }

  /** Does so while nothing is there to be sent, which may be for long. */
  #tend(): void {
    this.#tending = this.#tending.then(async () => {
      if (this.#busy || this.#openedMs !== null || this.#signal.aborted) return
      await this.#requireMarkers().catch((error: unknown) => (this.#failure ??= error))
    })
  }

  #begin(): void {
    this.#openedMs = this.#cluster.clock.elapsedMs()
    this.#lostMs = 0
    this.#lossesAtBegin = this.#cluster.losses
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

  /**
   * Once a producer is initialized, every marker of earlier log transactions is written; but one whose broker was away can be taken for
   * ended without any (Kafka 4.3 and 3.9: "Couldn't find leader endpoint for partitions … while trying to send transaction markers"). Of a
   * commit, which the source may have been told of, its records would stay unseen; of an abort they would be seen with the next commit.
   */
  async endLeftOver(topics: readonly string[], commit: boolean): Promise<void> {
    // As often as a broker may die in a row. What somebody else leaves open in these topics is not for us to end.
    for (let round = 0; round < 10; round++) {
      const partitions = await leftOpen(this.#cluster, topics, this.#signal)
      if (partitions.length === 0) return
      const how = commit ? 'committed' : 'aborted'
      this.#cluster.options.logger.warn(
        { partitions: partitions.length },
        `a log transaction was left open where it was ${how}`,
      )
      this.#begin()
      await this.#addPartitions(partitions)
      await this.#end(commit)
    }
  }

  /** Ends the log transaction, where one is open. */
  async end(commit: boolean): Promise<void> {
    // What is being tended is not to be ended otherwise, and brokers that are away are not waited for at a stop.
    if (await this.#stopsBefore(this.#tending)) {
      if (commit) this.#signal.throwIfAborted()
      return
    }
    if (this.#openedMs !== null && this.#failure === null) await this.#end(commit)
  }

  /** True where the signal is aborted first. */
  async #stopsBefore(work: Promise<void>): Promise<boolean> {
    if (this.#signal.aborted) return true
    let stop = (): void => undefined
    const stopped = new Promise<boolean>((resolve) => (stop = () => resolve(true)))
    this.#signal.addEventListener('abort', stop)
    return await Promise.race([work.then(() => false), stopped]).finally(() =>
      this.#signal.removeEventListener('abort', stop),
    )
  }

  async #end(commit: boolean): Promise<void> {
    try {
      await this.#ask((broker) =>
        this.#cluster.call(broker, endTransaction, this.#id, this.#producerId, this.#epoch, commit),
      )
    } catch (error) {
      throw this.#timedOut(error)
    }
    this.#openedMs = null
    this.#last = { partitions: [...this.#added.values()], commit }
    this.#losses = this.#lossesAtBegin
    this.#added.clear()
    if (this.#losses !== this.#cluster.losses) this.#tend()
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

  /** `unless` is asked before each attempt: where it holds, nothing more is asked for, and this is false. */
  async #addPartitions(partitions: readonly TopicPartition[], unless: () => boolean = () => false): Promise<boolean> {
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
      transactionalId: this.#id,
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
    const requests = await produceRequests(this.#cluster, batches, this.#known)
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
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}
