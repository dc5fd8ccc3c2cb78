/** Reading the embedded log: one batch at a time, up to the committed end, then waiting for the next commit of any process. */
import { EvertError } from '../../base/errors.js'
import type { LogRecord, PartitionOffsets, ReadOptions } from '../log.js'
import { type RecordBatch, decodeRecords, readBatches } from '../read-batch.js'
import type { Environment } from './environment.js'
import { type PartitionId, batchKey } from './keys.js'
import { endOffset, findPartition } from './topics.js'

/**
 * How often readers look for commits of other processes; those of their own process wake them at once. LMDB tells nobody, and
 * watching its file is not to be had on every file system; a look costs some 20 µs, for all readers together.
 */
const LOOK_EVERY_MS = 10

/** Offsets are signed 64-bit numbers in Kafka's batches. */
const OFFSET_MAX = 2n ** 63n - 1n

/** Wakes readers after a commit. One look serves all that wait. */
export class CommitWatch {
  readonly #environment: Environment
  readonly #waiting = new Set<() => void>()
  /** The latest transaction at the last look: always older than what a reader saw that began to wait after that look. */
  #seen = -1
  #looking = false

  constructor(environment: Environment) {
    this.#environment = environment
    environment.onWrite(() => this.wake())
  }

  /** Resolves after a commit, or at an abort. A reader calls it in the same turn in which it found nothing more to read. */
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiting.add(done)
      signal.addEventListener('abort', done)
      if (signal.aborted) done()
      this.#look()
    })
  }

  /** Lets every reader look again. */
  wake(): void {
    for (const done of this.#waiting) done()
  }

  #look(): void {
    if (this.#looking || this.#waiting.size === 0) return
    this.#looking = true
    setTimeout(() => {
      this.#looking = false
      if (!this.#environment.isOpen) return
      const latest = this.#environment.lastTransaction
      if (latest !== this.#seen) this.wake()
      this.#seen = latest
      this.#look()
    }, LOOK_EVERY_MS)
  }
}

/** Errors: TOPIC_MISSING, LOG_PROTOCOL. */
export async function* readPartition(
  environment: Environment,
  commits: CommitWatch,
  { topic, partition, from, until, signal }: ReadOptions,
): AsyncGenerator<LogRecord, void, undefined> {
  const id = environment.read(() => findPartition(environment, topic, partition))
  const stop = until ?? OFFSET_MAX
  let next = from < 0n ? 0n : from
  while (!signal.aborted && next < stop) {
    const batch = environment.read(() => {
      // A topic of the same name that was made anew has another number; this reader's offsets mean nothing there.
      const same = findPartition(environment, topic, partition).topicId === id.topicId
      return same ? findBatch(environment, { id, topic, offset: next }) : null
    })
    if (batch === null) {
      await commits.wait(signal)
      if (!environment.isOpen) return
      continue
    }
    for (const record of await decodeRecords(batch)) {
      if (record.offset < next) continue
      if (signal.aborted || record.offset >= stop) return
      yield record
    }
    next = batch.lastOffset + 1n
    if (!environment.isOpen) return
  }
}

/** For the binary search of offsetAt: the last searches fall into one batch, which is decoded once. */
export function recordFinder(
  environment: Environment,
  options: Omit<Place, 'offset'>,
): (offset: bigint) => Promise<LogRecord | null> {
  let records: readonly LogRecord[] = []
  return async (offset: bigint): Promise<LogRecord | null> => {
    const known = records.find((record) => record.offset === offset)
    if (known !== undefined) return known
    const batch = environment.read(() => findBatch(environment, { ...options, offset }))
    if (batch === null) return null
    records = await decodeRecords(batch)
    return records.find((record) => record.offset >= offset) ?? null
  }
}

export function offsetsOf(environment: Environment, topic: string, partition: number): PartitionOffsets {
  // Nothing is ever removed from the front of a partition.
  return { earliest: 0n, end: endOffset(environment, findPartition(environment, topic, partition)) }
}

interface Place {
  readonly topic: string
  readonly id: PartitionId
  readonly offset: bigint
}

/** The committed batch that holds an offset, or null where the offset is at or behind the end. */
function findBatch(environment: Environment, options: Place): RecordBatch | null {
  const { id, topic, offset } = options
  if (offset >= endOffset(environment, id)) return null
  // From the offset downwards; the end is excluded, hence the byte less.
  const [entry] = environment.range({
    start: batchKey(id, offset),
    end: batchKey(id, 0n).subarray(0, 16),
    reverse: true,
    limit: 1,
  })
  const batch =
    entry === undefined ? undefined : readBatches(entry.value, { topic, partition: id.partition }).next().value
  if (batch === undefined || batch.lastOffset < offset) throw gap(environment, options)
  return batch
}

function gap(environment: Environment, { topic, id, offset }: Place): EvertError {
  return new EvertError('LOG_PROTOCOL', {
    message: `the log "${environment.directory}" holds no batch for offset ${offset} of topic "${topic}" partition ${id.partition}`,
    hint: 'the log is damaged: restore it, or start over in another directory',
  })
}
