/**
 * Partition: a log of batches with what its leader knows of producers, checked as Kafka's ProducerStateManager does it. What is not
 * replicated yet may be gone with the leader.
 */
import { nextOffset, type StoredBatch, stored } from './batch.js'

export const ERROR = {
  none: 0,
  unknownTopic: 3,
  notLeader: 6,
  requestTimedOut: 7,
  coordinatorLoading: 14,
  notCoordinator: 16,
  notEnoughReplicas: 19,
  notEnoughReplicasAfterAppend: 20,
  topicExists: 36,
  outOfOrderSequence: 45,
  duplicateSequence: 46,
  invalidProducerEpoch: 47,
  invalidTxnState: 48,
  invalidProducerIdMapping: 49,
  concurrentTransactions: 51,
  producerFenced: 90,
} as const

/** A leader remembers this many batches of a producer, to know them again. */
const REMEMBERED = 5

interface Producer {
  epoch: number
  lastSequence: number
  batches: StoredBatch[]
  /** Of the open transaction. */
  firstOffset: number | null
}

interface Aborted {
  readonly producerId: bigint
  readonly firstOffset: number
  readonly lastOffset: number
}

export class Partition {
  readonly topic: string
  readonly index: number
  leader: number
  /** Nobody leads before. */
  leaderlessUntilMs = 0
  /** From here on, until there is a leader again, a coordinator takes it for gone, and its markers for needless. */
  goneFromMs = Number.POSITIVE_INFINITY
  batches: StoredBatch[] = []
  /** Consumers see what lies before it. */
  highWatermark = 0
  #producers = new Map<bigint, Producer>()
  #aborted: Aborted[] = []

  constructor(topic: string, index: number, leader: number) {
    this.topic = topic
    this.index = index
    this.leader = leader
  }

  get end(): number {
    const last = this.batches.at(-1)
    return last === undefined ? 0 : nextOffset(last)
  }

  /** The last stable offset: before it, every transaction has ended. */
  get stable(): number {
    let stable = this.highWatermark
    for (const { firstOffset } of this.#producers.values()) {
      if (firstOffset !== null && firstOffset < stable) stable = firstOffset
    }
    return stable
  }

  /** True where the producer has an open transaction here, so that the leader need not ask the coordinator. */
  hasOpen(producerId: bigint): boolean {
    return (this.#producers.get(producerId)?.firstOffset ?? null) !== null
  }

  /** Appends, or says why not; gives the batch that it knows where this is the same. Of a new producer it takes any sequence. */
  append(batch: StoredBatch): { readonly error: number; readonly batch: StoredBatch } {
    const known = this.#producers.get(batch.producerId)
    if (known !== undefined) {
      if (batch.epoch < known.epoch) return { error: ERROR.invalidProducerEpoch, batch }
      const again = known.batches.find((of) => {
        return of.baseSequence === batch.baseSequence && of.lastSequence === batch.lastSequence
      })
      if (again !== undefined && batch.epoch === known.epoch) return { error: ERROR.none, batch: again }
      const expected = batch.epoch > known.epoch ? 0 : (known.lastSequence + 1) & 0x7fffffff
      if (batch.baseSequence !== expected) return { error: ERROR.outOfOrderSequence, batch }
    }
    this.#push(batch)
    return { error: ERROR.none, batch }
  }

  /** A marker is replicated when it is written. */
  writeMarker(marker: StoredBatch): void {
    this.#push(marker)
    this.highWatermark = this.end
  }

  #push(batch: StoredBatch): void {
    this.batches.push(stored(batch, this.end))
    this.#learn(batch)
  }

  #learn(batch: StoredBatch): void {
    let producer = this.#producers.get(batch.producerId)
    if (producer === undefined) {
      producer = { epoch: batch.epoch, lastSequence: -1, batches: [], firstOffset: null }
      this.#producers.set(batch.producerId, producer)
    }
    if (batch.epoch !== producer.epoch) {
      producer.epoch = batch.epoch
      producer.lastSequence = -1
      producer.batches = []
    }
    if (batch.control !== null) {
      this.#settle(batch, producer)
      return
    }
    producer.firstOffset ??= batch.baseOffset
    producer.lastSequence = batch.lastSequence
    producer.batches.push(batch)
    if (producer.batches.length > REMEMBERED) producer.batches.shift()
  }

  #settle(marker: StoredBatch, producer: Producer): void {
    const { firstOffset } = producer
    if (firstOffset === null) return
    producer.firstOffset = null
    for (const batch of this.batches) {
      if (batch.producerId !== marker.producerId || batch.baseOffset < firstOffset || batch.control !== null) continue
      batch.outcome = marker.control === 'commit' ? 'committed' : 'aborted'
    }
    if (marker.control === 'commit') return
    this.#aborted.push({ producerId: marker.producerId, firstOffset, lastOffset: marker.baseOffset })
  }

  /** Of the producer's open transaction. */
  openBatches(producerId: bigint): StoredBatch[] {
    const from = this.#producers.get(producerId)?.firstOffset ?? null
    if (from === null) return []
    return this.batches.filter((batch) => batch.producerId === producerId && batch.baseOffset >= from)
  }

  /** Another broker leads: it has what was replicated, and of the rest some. */
  moveTo(leader: number, keptOffset: number): void {
    this.leader = leader
    const kept = this.batches.filter((batch) => nextOffset(batch) <= Math.max(keptOffset, this.highWatermark))
    if (kept.length === this.batches.length) return
    this.batches = kept
    this.#producers = new Map()
    this.#aborted = []
    for (const batch of kept) this.#learn(batch)
  }

  replicated(batch: StoredBatch): void {
    if (!this.batches.includes(batch)) return
    this.highWatermark = Math.max(this.highWatermark, nextOffset(batch))
  }

  /** A read_committed fetch: whole batches up to the last stable offset, and the aborted transactions among them. */
  fetch(offset: number): { batches: StoredBatch[]; aborted: Aborted[]; stable: number } {
    const { stable } = this
    const batches = this.batches.filter((batch) => nextOffset(batch) > offset && batch.baseOffset < stable)
    const aborted = this.#aborted.filter(({ firstOffset, lastOffset }) => lastOffset >= offset && firstOffset < stable)
    return { batches, aborted, stable }
  }
}
