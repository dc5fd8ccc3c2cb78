/** Where encoded events go: the seam between the transcoder and whatever log stands behind it. Types only. */

/** Bytes of one header of a record. */
export interface RecordHeader {
  readonly key: string
  readonly value: Buffer
}

/**
 * One encoded record, as byte ranges of a buffer that the encoder reuses: a sink copies what it keeps before it returns (of a
 * record that is open the headers are read when it is closed).
 * The object itself is reused from record to record too, which is what keeps the hot path free of objects.
 */
export interface EncodedRecord {
  /** Holds key and value. */
  bytes: Buffer
  /** -1 for a null key. */
  keyStart: number
  keyEnd: number
  /** -1 for a null value: a tombstone. */
  valueStart: number
  valueEnd: number
  /** Milliseconds since 1970, the commit time. */
  timestampMs: number
  /** Null for the common case of none. */
  headers: readonly RecordHeader[] | null
  /** A buffer that is the sink's from now on, and may hold the record's batch: large enough, and free up to where the value's parts still lie. */
  into: Buffer | null
}

/** A topic that is known to exist, with the number of its partitions. Opaque to everything but the sink that gave it. */
export interface SinkTopic {
  readonly name: string
  readonly partitions: number
  /** The largest record that it takes; undefined where that was not asked, or where there is no limit. */
  readonly maxRecordBytes?: number
}

export interface TopicRequest {
  readonly name: string
  /** False where the records have no key: such a topic cannot be compacted. */
  readonly keyed: boolean
  /** True where the last record of each key is to stay, whatever else is kept. */
  readonly lasting?: boolean
}

/** Where a value is to be written. The object itself is reused from record to record. */
export interface Room {
  bytes: Buffer
  start: number
}

export interface RecordSink {
  /** Bytes appended since the last cut. */
  readonly bytes: number
  /** Records appended since the last cut. */
  readonly records: number
  /** The topic if it is known already, or a promise while it is looked up or created. */
  topic(request: TopicRequest): SinkTopic | Promise<SinkTopic>
  /** Appends to the partition that the key chooses (murmur2, as Java's default partitioner). A null key goes to partition 0. */
  append(topic: SinkTopic, record: EncodedRecord): void
  /**
   * The same for a record whose value is not written yet: room for that many bytes where it stays, which saves its copy. What was opened is
   * appended when it is closed, and forgotten when something else is opened or appended. Null where the record is not wanted.
   */
  open(topic: SinkTopic, record: EncodedRecord, valueBytes: number): Room | null
  /** Says where the value that was written ends. */
  close(valueEnd: number): void
  /** Appends a copy to every partition of the topic, so that each partition's order is true. */
  appendToAll(topic: SinkTopic, record: EncodedRecord): void
}
