/**
 * The contract of a log, types only. Two implementations keep it, Kafka and the embedded log; test/log/contract.ts holds both to it.
 *
 * A writer belongs to a pipeline by name. Opening one fences every earlier writer of that name: whatever those append afterwards
 * fails with LOG_FENCED and leaves nothing behind. What a log transaction holds becomes visible at once, together with its progress.
 */
import type { RecordHeader, RecordSink, TopicRequest } from '../event/sink.js'

/** What a pipeline remembers: small named entries, each the last value that a committed log transaction gave it. */
export type Progress = ReadonlyMap<string, Buffer>

/** Filled record batches, taken from the writer's sink: opaque outside the log. */
export interface FilledRecords {
  readonly bytes: number
  readonly records: number
}

export interface LogWriter {
  /** Where the hot path appends to. Filling goes on while an append is under way. */
  readonly sink: RecordSink
  /** Progress as it stood when this writer was opened. */
  readonly progress: Progress
  /** Takes what the sink holds; the sink goes on empty. Synchronous, so that nothing falls between two cuts. */
  cut(): FilledRecords
  /**
   * Adds records to the open log transaction, opening one where none is. With progress the log transaction commits, both or
   * neither; with null it stays open for more. Resolves when that is done. Appends are made one after the other, the next when the
   * writer is `ready`: log transactions commit in the order of their appends. After an error the writer is unusable.
   * Retriable broker errors are retried inside. Errors: LOG_FENCED, LOG_UNAVAILABLE, RECORD_TOO_LARGE, LOG_DISK_FULL, …
   */
  append(records: FilledRecords, progress: Progress | null): Promise<void>
  /** Resolves when the next append may be made, which can be before the last one has committed. Errors, if any, are those of the last append, which tells them in any case. */
  ready(): Promise<void>
  /** Aborts an open log transaction and gives everything back. Safe to call twice, and after an error. */
  close(): Promise<void>
}

export interface LogRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  /** Milliseconds since 1970. */
  readonly timestampMs: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly RecordHeader[]
}

export interface TopicDescription {
  readonly name: string
  readonly partitions: number
}

export interface ReadOptions {
  readonly topic: string
  readonly partition: number
  /** First offset to read. Where it no longer exists (retention), reading starts at the earliest that does. */
  readonly from: bigint
  /** First offset not to read; undefined follows the log for ever. */
  readonly until?: bigint
  readonly signal: AbortSignal
}

export interface PartitionOffsets {
  /** The first offset that is still there. */
  readonly earliest: bigint
  /** The offset after the last one that a read_committed consumer can see. */
  readonly end: bigint
}

export interface Log {
  /**
   * Fences every earlier writer of that name and reads back its progress. After a loss that was told of, `accept` takes what the log has
   * now for what it should have.
   */
  openWriter(options: {
    readonly name: string
    readonly signal: AbortSignal
    readonly accept?: boolean
  }): Promise<LogWriter>
  /**
   * A writer for one topic that belongs to no pipeline: it remembers nothing, and commits with empty progress. Fences every earlier writer
   * of that topic; its name there, `<topic>.into`, is no pipeline's, which have no dot.
   */
  openTopicWriter(options: { readonly topic: string; readonly signal: AbortSignal }): Promise<LogWriter>
  /**
   * Whether those topics still hold what the pipeline has written, as far as its progress remembers. Asked while nobody else writes: it
   * may fence. Errors: PROGRESS_MISSING, TOPIC_LOST, TOPIC_REPLACED, TOPIC_TRUNCATED.
   */
  requireWhole(options: {
    readonly name: string
    readonly topics: readonly string[]
    readonly signal: AbortSignal
  }): Promise<void>
  /** Progress without fencing anybody, for read-only commands. */
  readProgress(options: { readonly name: string; readonly signal: AbortSignal }): Promise<Progress>
  /** Names of the pipelines that have written into this log, or were about to, sorted. */
  pipelines(): Promise<readonly string[]>
  /** Topics whose names start with the prefix, sorted, the progress topic left out. */
  topics(prefix: string): Promise<readonly TopicDescription[]>
  /**
   * Creates what is missing, with what the progress of a pipeline needs where one is named; leaves what is there as it is, but for a
   * compacted topic that is to hold records without a key.
   */
  createTopics(requests: readonly TopicRequest[], pipeline?: string): Promise<void>
  deleteTopics(names: readonly string[]): Promise<void>
  /** Removes the progress of a pipeline, so that its name starts afresh. */
  deleteProgress(name: string): Promise<void>
  offsets(topic: string, partition: number): Promise<PartitionOffsets>
  /** Waits until whatever was written into these topics so far is committed, and to be read, or aborted. */
  settled(options: { readonly topics: readonly string[]; readonly signal: AbortSignal }): Promise<void>
  /**
   * The first offset whose record has a position at or after the given one (16 hex digits, `-`, 8 hex digits), or the end. Found by
   * binary search: positions only grow within a partition.
   */
  offsetAt(options: {
    readonly topic: string
    readonly partition: number
    readonly position: string
    readonly signal: AbortSignal
  }): Promise<bigint>
  /** Committed records of one partition, in order. Ends at `until`, at an abort, or never. */
  read(options: ReadOptions): AsyncIterable<LogRecord>
  close(): Promise<void>
}
