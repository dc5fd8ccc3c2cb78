/**
 * Coordinator of one transactional id, as Kafka's TransactionCoordinator decides for clients of transaction version 1. Markers are
 * written one partition after the other; until the last one is written, the next transaction waits. A partition that is gone with its
 * broker for a while gets none.
 */
import type { World } from '../world.js'
import { markerBatch } from './batch.js'
import { ERROR, type Partition } from './partition.js'

type State = 'empty' | 'ongoing' | 'prepare-commit' | 'prepare-abort' | 'complete-commit' | 'complete-abort'

export interface TransactionView {
  readonly producerId: bigint
  readonly partitions: readonly Partition[]
}

const MARKER_USUAL_MS = 2
const MARKER_WORST_MS = 400
/** A coordinator that is moved has to read its state first. */
const LOADING_MS = 300

export class Coordinator {
  readonly #world: World
  readonly #onCommit: (transaction: TransactionView) => void
  readonly #onMarker: () => void
  broker: number
  #loadingUntilMs = 0
  readonly producerId: bigint
  #epoch = -1
  /** The epoch before, where its own producer has asked for this one: asking again is a retry. */
  #lastEpoch = -1
  #state: State = 'empty'
  #partitions = new Set<Partition>()
  #timeoutMs = 60_000
  #startedMs = 0
  /** Markers that were not written, and where their partitions ended then. */
  readonly #lost = new Map<Partition, { readonly commit: boolean; readonly end: number }>()

  constructor(options: {
    world: World
    broker: number
    producerId: bigint
    /** Told when a commit is decided, which nothing can take back. */
    onCommit: (transaction: TransactionView) => void
    onMarker: () => void
  }) {
    this.#world = options.world
    this.broker = options.broker
    this.producerId = options.producerId
    this.#onCommit = options.onCommit
    this.#onMarker = options.onMarker
  }

  get settled(): boolean {
    return this.#state !== 'ongoing' && !this.#preparing && this.#lost.size === 0
  }

  get #preparing(): boolean {
    return this.#state === 'prepare-commit' || this.#state === 'prepare-abort'
  }

  /** As Kafka names it. */
  get stateName(): string {
    return this.#state.replace(/(^|-)[a-z]/g, (letter) => letter.replace('-', '').toUpperCase())
  }

  move(broker: number): void {
    this.broker = broker
    this.#loadingUntilMs = this.#world.nowMs + this.#world.random.next() * LOADING_MS
  }

  /** An error that concerns the place and not the request. */
  misplaced(broker: number): number {
    if (broker !== this.broker) return ERROR.notCoordinator
    return this.#world.nowMs < this.#loadingUntilMs ? ERROR.coordinatorLoading : ERROR.none
  }

  initProducerId(
    timeoutMs: number,
    from: { readonly producerId: bigint; readonly epoch: number },
  ): { readonly error: number; readonly epoch: number } {
    const refused = (error: number): { error: number; epoch: number } => ({ error, epoch: -1 })
    if (from.producerId !== -1n) {
      if (from.producerId !== this.producerId) return refused(ERROR.invalidProducerIdMapping)
      if (from.epoch !== this.#epoch && from.epoch !== this.#lastEpoch) return refused(ERROR.producerFenced)
    }
    if (this.#preparing) return refused(ERROR.concurrentTransactions)
    if (this.#state === 'ongoing') {
      this.#fence()
      return refused(ERROR.concurrentTransactions)
    }
    // The known limit: a start that is killed before it has looked leaves nothing from which the next one could tell.
    if (this.#state === 'empty') this.#restore()
    const retried = from.producerId !== -1n && from.epoch === this.#lastEpoch
    if (!retried) {
      this.#lastEpoch = from.producerId === -1n ? -1 : this.#epoch
      this.#epoch++
    }
    this.#state = 'empty'
    this.#timeoutMs = timeoutMs
    return { error: ERROR.none, epoch: this.#epoch }
  }

  addPartitions(producerId: bigint, epoch: number, partitions: readonly Partition[]): number {
    const error = this.#check(producerId, epoch)
    if (error !== ERROR.none) return error
    if (this.#preparing) return ERROR.concurrentTransactions
    if (this.#state !== 'ongoing') {
      this.#state = 'ongoing'
      this.#startedMs = this.#world.nowMs
      this.#partitions = new Set()
      const startedMs = this.#startedMs
      this.#world.after(this.#timeoutMs, () => this.#expire(startedMs))
    }
    for (const partition of partitions) this.#partitions.add(partition)
    return ERROR.none
  }

  /** What a leader asks before the first batch of a transaction. */
  verify(producerId: bigint, epoch: number, partition: Partition): number {
    const error = this.#check(producerId, epoch)
    if (error === ERROR.producerFenced) return ERROR.invalidProducerEpoch
    if (error !== ERROR.none) return error
    if (this.#preparing) return ERROR.notEnoughReplicas
    return this.#state === 'ongoing' && this.#partitions.has(partition) ? ERROR.none : ERROR.invalidTxnState
  }

  endTransaction(producerId: bigint, epoch: number, commit: boolean): number {
    const error = this.#check(producerId, epoch)
    if (error !== ERROR.none) return error
    switch (this.#state) {
      case 'ongoing':
        this.#prepare(commit)
        return ERROR.none
      case 'prepare-commit':
        return commit ? ERROR.concurrentTransactions : ERROR.invalidTxnState
      case 'prepare-abort':
        return commit ? ERROR.invalidTxnState : ERROR.concurrentTransactions
      case 'complete-commit':
        return commit ? ERROR.none : ERROR.invalidTxnState
      case 'complete-abort':
        return commit ? ERROR.invalidTxnState : ERROR.none
      case 'empty':
        return ERROR.invalidTxnState
    }
  }

  #check(producerId: bigint, epoch: number): number {
    if (producerId !== this.producerId) return ERROR.invalidProducerIdMapping
    return epoch === this.#epoch ? ERROR.none : ERROR.producerFenced
  }

  #expire(startedMs: number): void {
    if (this.#state !== 'ongoing' || this.#startedMs !== startedMs) return
    this.#world.say(() => 'kafka: the transaction has timed out')
    this.#fence()
  }

  /** Aborts what is open, at an epoch that nobody has. */
  #fence(): void {
    this.#epoch++
    this.#lastEpoch = -1
    // The known limit: killed while it wrote markers again, and nothing else.
    const begun = [...this.#partitions].some((partition) => {
      const from = this.#lost.get(partition)?.end ?? 0
      return partition.openBatches(this.producerId).some(({ baseOffset }) => baseOffset >= from)
    })
    if (!begun) this.#restore()
    this.#prepare(false)
  }

  /** Writes markers all the same that evert cannot know of. */
  #restore(): void {
    for (const [partition, { commit }] of this.#lost) this.#write(partition, commit)
  }

  #write(partition: Partition, commit: boolean): void {
    partition.writeMarker(markerBatch(this.producerId, this.#epoch, commit))
    this.#lost.delete(partition)
    this.#onMarker()
  }

  #prepare(commit: boolean): void {
    this.#state = commit ? 'prepare-commit' : 'prepare-abort'
    this.#world.say(() => `kafka: ${this.#state} at epoch ${this.#epoch}`)
    if (commit) this.#onCommit({ producerId: this.producerId, partitions: [...this.#partitions] })
    this.#mark([...this.#partitions], commit)
  }

  #mark(left: Partition[], commit: boolean): void {
    const [partition] = left
    if (partition === undefined) {
      this.#state = commit ? 'complete-commit' : 'complete-abort'
      return
    }
    const { random } = this.#world
    this.#world.after(random.delayMs(MARKER_USUAL_MS, MARKER_WORST_MS), () => {
      const { nowMs } = this.#world
      const leaderless = nowMs < partition.leaderlessUntilMs
      const gone = leaderless && nowMs >= partition.goneFromMs
      const waits = (leaderless && !gone) || nowMs < this.#loadingUntilMs
      if (!waits && gone) this.#lose(partition, commit)
      else if (!waits) this.#write(partition, commit)
      this.#mark(waits ? left : left.slice(1), commit)
    })
  }

  #lose(partition: Partition, commit: boolean): void {
    if (partition.openBatches(this.producerId).length === 0) return
    this.#world.say(() => `kafka: no marker in ${partition.topic}/${partition.index}, which is gone`)
    this.#lost.set(partition, { commit, end: partition.end })
  }
}
