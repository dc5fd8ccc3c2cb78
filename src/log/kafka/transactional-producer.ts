/**
 * Transactional producer: log transactions in order, by two transactional ids in turn. While the commit of one is under way, which ends with a
 * marker in each partition, the next is sent by the other already; it commits once the coordinator has answered the commit before it. Who
 * takes over takes both ids, so that of the two either none, the first or both are there.
 */
import type { FilledBatch } from '../batch-sink.js'
import type { Cluster } from './cluster.js'
import { leftOpen, type TopicPartition } from './end-offsets.js'
import { TransactionalId, type TransactionalIdOptions } from './transactional-id.js'

/** Markers that take longer than this to be written may have been given up. */
const MARKERS_LATE_MS = 1000
/** As often as a broker may die in a row. */
const MARKER_ROUNDS = 10

export class TransactionalProducer {
  readonly #cluster: Cluster
  readonly #ids: readonly TransactionalId[]
  readonly #signal: AbortSignal
  #turn = 0
  /** Of every log transaction whose end was asked for. */
  #ended: Promise<void> = Promise.resolve()
  /** The same, without the last one: the id of the next is free again. */
  #free: Promise<void> = Promise.resolve()
  /** Connections that the cluster had lost when the markers of the last log transactions were not yet in doubt. */
  #losses = 0
  #tending: Promise<void> = Promise.resolve()
  /** Of that: told to whoever sends next. */
  #failure: unknown = null
  /** Something is being sent. */
  #busy = false

  /** `id` is the first of both. */
  constructor(cluster: Cluster, options: TransactionalIdOptions) {
    this.#cluster = cluster
    this.#ids = transactionalIds(options.id).map((id) => new TransactionalId(cluster, { ...options, id }))
    this.#signal = options.signal
    cluster.onLoss = () => this.#tend()
  }

  /** Fences every earlier producer of this name, aborts what it left open, and ends what was left open where it was ended. */
  async takeOver(topics: () => Promise<readonly string[]>): Promise<void> {
    for (const id of this.#ids) {
      await id.recall()
      await id.init()
    }
    await this.#endLeftOver(await topics())
  }

  /** The one of the log transaction that is open, or the next. */
  get #current(): TransactionalId {
    return this.#ids[this.#turn % this.#ids.length]!
  }

  /** Sends batches within the log transaction, opening one where none is. */
  async send(batches: readonly FilledBatch[]): Promise<void> {
    if (batches.length === 0) return
    const id = this.#current
    // First of all: nothing is tended from here on but what is under way.
    this.#busy = true
    try {
      await this.#free
      if (await this.#stopsBefore(this.#tending)) this.#signal.throwIfAborted()
      if (this.#failure !== null) throw this.#failure
      for (let looked = false; !id.open; looked = true) await this.#open(id, batches, looked)
      await id.send(batches)
    } finally {
      this.#busy = false
    }
  }

  /**
   * Begins a log transaction, unless the markers of the last ones may be missing somewhere: a broker that died, or comes back, can have
   * them taken for ended without them (see endLeftOver). Within this log transaction it would be too late: were it aborted, so would be
   * what the last one of its id left open. `looked` says that they were there a moment ago.
   */
  async #open(id: TransactionalId, partitions: readonly TopicPartition[], looked: boolean): Promise<void> {
    // What is still to be committed would be taken for left over.
    if (this.#cluster.losses !== this.#losses) await this.#ended
    // Before an epoch is taken, which aborts what a request that was not answered may have opened: with it, all that lacks its marker.
    await this.#requireMarkers()
    // One that arrives late would end this log transaction in its middle. The next epoch shuts it out: so this producer, which has not
    // been fenced, takes it (KIP-360), and its sequence numbers begin anew.
    if (id.unanswered) await id.init()
    const doubtful = (): boolean => {
      const late = !looked && id.ageMs > MARKERS_LATE_MS
      return id.last !== null && (late || id.lossesAtBegin !== this.#cluster.losses)
    }
    if (!(await id.begin(partitions, doubtful))) this.#losses = -1
  }

  /** Writes the markers of the last log transactions again where they are missing, once a lost connection has made that possible. */
  async #requireMarkers(): Promise<void> {
    const { losses } = this.#cluster
    if (losses === this.#losses) return
    const partitions = this.#ids.flatMap(({ last }) => last?.partitions ?? [])
    await this.#endLeftOver([...new Set(partitions.map(({ topic }) => topic))])
    this.#losses = losses
  }

  /** Does so while nothing is there to be sent, which may be for long. */
  #tend(): void {
    this.#tending = this.#tending.then(async () => {
      if (this.#busy || this.#ids.some(({ open }) => open) || this.#signal.aborted) return
      await this.#requireMarkers().catch((error: unknown) => (this.#failure ??= error))
    })
  }

  /**
   * Once a producer is initialized, every marker of earlier log transactions is written; but one whose broker was away can be taken for
   * ended without any (Kafka 4.3 and 3.9: "Couldn't find leader endpoint for partitions … while trying to send transaction markers"). Of a
   * commit, which the source may have been told of, its records would stay unseen; of an abort they would be seen with the next commit.
   * Which id left a partition open is not to be seen: the marker of the other does nothing there.
   */
  async #endLeftOver(topics: readonly string[]): Promise<void> {
    // What somebody else leaves open in these topics is not for us to end.
    for (let round = 0; round < MARKER_ROUNDS; round++) {
      const partitions = await leftOpen(this.#cluster, topics, this.#signal)
      if (partitions.length === 0) return
      for (const id of this.#ids) {
        const { commit } = id.last ?? { commit: false }
        const how = commit ? 'committed' : 'aborted'
        this.#cluster.options.logger.warn(
          { partitions: partitions.length },
          `a log transaction was left open where the last was ${how}`,
        )
        await id.begin(partitions)
        await this.#end(id, commit)
      }
    }
  }

  /** Ends the log transaction, where one is open, after those before it. The next may be sent at once. */
  async end(commit: boolean): Promise<void> {
    const id = this.#current
    this.#turn++
    const askedMs = this.#cluster.clock.elapsedMs()
    const before = commit ? this.#ended : this.#ended.catch(() => undefined)
    const ended = before.then(async () => {
      const waitedMs = this.#cluster.clock.elapsedMs() - askedMs
      // What is being tended is not to be ended otherwise, and brokers that are away are not waited for at a stop.
      if (await this.#stopsBefore(this.#tending)) {
        if (commit) this.#signal.throwIfAborted()
        return
      }
      if (commit && this.#failure !== null) throw this.#failure
      if (id.open && this.#failure === null) await this.#end(id, commit, waitedMs)
    })
    this.#free = before
    this.#ended = ended
    ended.catch(() => undefined)
    await ended
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

  async #end(id: TransactionalId, commit: boolean, waitedMs = 0): Promise<void> {
    await id.end(commit, waitedMs)
    this.#losses = id.lossesAtBegin
    if (this.#losses !== this.#cluster.losses) this.#tend()
  }
}

/** The second has a dot in its name, which no pipeline has. */
export function transactionalIds(name: string): readonly string[] {
  return [name, `${name}.2`]
}
