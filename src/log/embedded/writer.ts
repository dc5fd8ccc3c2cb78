/** The writer of an embedded log: batches, the ends of their partitions and the progress change together, in one LMDB transaction. */
import { assert } from '../../base/assert.js'
import { EvertError } from '../../base/errors.js'
import { BatchSink, FilledBatches } from '../batch-sink.js'
import type { Codec } from '../compression.js'
import type { FilledRecords, LogWriter, Progress } from '../log.js'
import type { Environment } from './environment.js'
import {
  PENDING_PREFIX,
  PROGRESS_PREFIX,
  type PartitionId,
  batchKey,
  endKey,
  epochKey,
  pendingKey,
  progressKey,
  progressPrefix,
  readPendingKey,
  readProgressKey,
  uint64,
} from './keys.js'
import { behind, createTopic, endOffset, findPartition, findTopic, removeBatches } from './topics.js'

/** Where an open log transaction has come to in one partition. */
interface Pending {
  readonly id: PartitionId
  /** The offset of the next record. */
  readonly next: bigint
  readonly pipeline: string
}

interface WriterOptions {
  readonly environment: Environment
  readonly name: string
  /** Partitions of the topics that the sink creates. */
  readonly partitions: number
  readonly codec: Codec
}

/** Fences every earlier writer of that name, and removes what the last of them left of a log transaction. */
export function openEmbeddedWriter(options: WriterOptions): LogWriter {
  const { environment, name } = options
  const opened = environment.write(() => {
    const epoch = (environment.get(epochKey(name))?.readBigUInt64BE(0) ?? 0n) + 1n
    environment.put(epochKey(name), uint64(epoch))
    removePending(environment, name)
    return { epoch, progress: readProgress(environment, name) }
  })
  return new EmbeddedWriter({ ...options, ...opened })
}

export function readProgress(environment: Environment, pipeline: string): Progress {
  const prefix = progressPrefix(pipeline)
  const entries = environment.range({ start: prefix, end: behind(prefix) })
  return new Map(entries.map(({ key, value }) => [readProgressKey(key).entry, value]))
}

/** Sorted names of the pipelines with progress. */
export function listPipelines(environment: Environment): readonly string[] {
  const keys = environment.keys({ start: PROGRESS_PREFIX, end: behind(PROGRESS_PREFIX) })
  return [...new Set(keys.map((key) => readProgressKey(key).pipeline))].toSorted()
}

/** Needs a write transaction. */
export function deleteProgress(environment: Environment, pipeline: string): void {
  const prefix = progressPrefix(pipeline)
  for (const key of environment.keys({ start: prefix, end: behind(prefix) })) environment.remove(key)
}

class EmbeddedWriter implements LogWriter {
  readonly sink: BatchSink
  readonly progress: Progress
  readonly #options: WriterOptions
  readonly #epoch: bigint
  #appended: Promise<void> = Promise.resolve()
  #usable = true

  constructor(options: WriterOptions & { readonly epoch: bigint; readonly progress: Progress }) {
    const { environment, partitions } = options
    this.#options = options
    this.#epoch = options.epoch
    this.progress = options.progress
    this.sink = new BatchSink({
      lookup: (request) =>
        environment.read(() => findTopic(environment, request.name)) ??
        this.#write(() => createTopic(environment, request, partitions)),
    })
  }

  cut(): FilledRecords {
    return this.sink.cut()
  }

  async append(records: FilledRecords, progress: Progress | null): Promise<void> {
    const appended = this.#append(records, progress)
    this.#appended = appended
    await appended
  }

  /** What is appended is committed at once. */
  async ready(): Promise<void> {
    await this.#appended
  }

  async #append(records: FilledRecords, progress: Progress | null): Promise<void> {
    assert(records instanceof FilledBatches, 'records of another log are appended')
    assert(this.#usable, 'a writer is used after an error or its close')
    try {
      for (const { builder } of records.batches) await builder.compress(this.#options.codec)
      this.#write(() => {
        this.#store(records)
        if (progress !== null) this.#commit(progress)
      })
    } catch (error) {
      this.#usable = false
      throw error
    } finally {
      records.release()
    }
  }

  /** After an error the next writer removes what is left: this one may be fenced, or the disk full. Readers never see it. */
  async close(): Promise<void> {
    this.sink.cut().release()
    if (!this.#usable || !this.#options.environment.isOpen) return
    this.#usable = false
    this.#write(() => removePending(this.#options.environment, this.#options.name))
  }

  /** Errors: LOG_FENCED, LOG_DISK_FULL. */
  #write<T>(work: () => T): T {
    const { environment, name } = this.#options
    return environment.write(() => {
      if (environment.get(epochKey(name))?.readBigUInt64BE(0) !== this.#epoch) {
        throw new EvertError('LOG_FENCED', {
          message: `another writer has taken over pipeline "${name}" in the log "${environment.directory}"`,
          hint: 'leave the other process running, or stop it and start this one again',
        })
      }
      return work()
    })
  }

  /** Behind the committed ends, where readers do not look. */
  #store(records: FilledBatches): void {
    const { environment, name } = this.#options
    for (const { topic, partition, builder } of records.batches) {
      const id = findPartition(environment, topic, partition)
      const pending = findPending(environment, id)
      if (pending !== null && pending.pipeline !== name) {
        throw new EvertError('LOG_UNAVAILABLE', {
          message: `pipeline "${pending.pipeline}" has a log transaction open on topic "${topic}" partition ${partition}`,
          hint: `let pipelines write into topics of their own, or start "${pending.pipeline}" again so that it ends its log transaction`,
        })
      }
      const base = pending?.next ?? endOffset(environment, id)
      environment.put(batchKey(id, base), builder.finish(base))
      putPending(environment, { id, next: base + BigInt(builder.count), pipeline: name })
    }
  }

  #commit(progress: Progress): void {
    const { environment, name } = this.#options
    for (const { id, next } of listPending(environment, name)) {
      environment.put(endKey(id), uint64(next))
      environment.remove(pendingKey(id))
    }
    for (const [entry, value] of progress) environment.put(progressKey(name, entry), value)
  }
}

function findPending(environment: Environment, id: PartitionId): Pending | null {
  const stored = environment.get(pendingKey(id))
  return stored === undefined ? null : readPending(id, stored)
}

function listPending(environment: Environment, pipeline: string): readonly Pending[] {
  return environment
    .range({ start: PENDING_PREFIX, end: behind(PENDING_PREFIX) })
    .map(({ key, value }) => readPending(readPendingKey(key), value))
    .filter((pending) => pending.pipeline === pipeline)
}

function putPending(environment: Environment, pending: Pending): void {
  environment.put(pendingKey(pending.id), Buffer.concat([uint64(pending.next), Buffer.from(pending.pipeline)]))
}

function readPending(id: PartitionId, stored: Buffer): Pending {
  return { id, next: stored.readBigUInt64BE(0), pipeline: stored.toString('utf8', 8) }
}

/** The batches of an open log transaction. Needs a write transaction. */
function removePending(environment: Environment, pipeline: string): void {
  for (const { id } of listPending(environment, pipeline)) {
    removeBatches(environment, id, endOffset(environment, id))
    environment.remove(pendingKey(id))
  }
}
