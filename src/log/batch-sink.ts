/** Where the hot path appends to, for both logs: encoded records go straight into the record batch of their partition. */
import type { EncodedRecord, RecordSink, Room, SinkTopic, TopicRequest } from '../event/sink.js'
import { BufferPool } from './buffer-pool.js'
import type { FilledRecords } from './log.js'
import { partitionOf } from './murmur2.js'
import { BatchBuilder } from './record-batch.js'

const NO_BYTES = Buffer.alloc(0)

/** Below Kafka's default for max.message.bytes, 1,048,588, which bounds a batch. */
export const MAX_BATCH_BYTES = 1_000_000

export interface FilledBatch {
  readonly topic: string
  readonly partition: number
  readonly builder: BatchBuilder
}

/** What a sink held when it was cut. */
export class FilledBatches implements FilledRecords {
  /** In append order per partition; a partition has several where one batch was not enough. */
  readonly batches: readonly FilledBatch[]
  readonly bytes: number
  readonly records: number

  constructor(options: { readonly batches: readonly FilledBatch[]; readonly bytes: number; readonly records: number }) {
    this.batches = options.batches
    this.bytes = options.bytes
    this.records = options.records
  }

  /** Gives the buffers back to the sink. Safe to call twice. */
  release(): void {
    for (const { builder } of this.batches) builder.release()
  }
}

/** A topic as this sink knows it: the batch that is being filled, per partition. Partitions without records cost a null each. */
class OpenTopic implements SinkTopic {
  readonly name: string
  readonly partitions: number
  readonly maxRecordBytes: number
  readonly filling: (BatchBuilder | null)[]
  /** False once the topic was asked for with records that have no key. */
  keyed: boolean

  constructor(topic: SinkTopic, keyed: boolean) {
    this.name = topic.name
    this.partitions = topic.partitions
    this.maxRecordBytes = topic.maxRecordBytes ?? Number.POSITIVE_INFINITY
    this.filling = Array.from<BatchBuilder | null>({ length: topic.partitions }).fill(null)
    this.keyed = keyed
  }
}

export type TopicLookup = (request: TopicRequest) => SinkTopic | Promise<SinkTopic>

export class BatchSink implements RecordSink {
  readonly #lookup: TopicLookup
  readonly #maxBatchBytes: number
  readonly #pool: BufferPool
  readonly #topics = new Map<string, OpenTopic>()
  #batches: FilledBatch[] = []
  /** The topics with a partition in `filling`, so that a cut does not look at thousands of idle ones. */
  #touched = new Set<OpenTopic>()
  #bytes = 0
  #records = 0
  /** What is open: its batch, which is one of this sink's when it is closed. */
  #builder: BatchBuilder | null = null
  #isNew = false
  #topic: OpenTopic | null = null
  #partition = 0
  readonly #room: Room = { bytes: NO_BYTES, start: 0 }

  /** `lookup` finds or creates a topic; it is asked once per topic (and once more when records without a key turn up). */
  constructor(options: { readonly lookup: TopicLookup; readonly maxBatchBytes?: number; readonly pool?: BufferPool }) {
    this.#pool = options.pool ?? new BufferPool()
    this.#lookup = options.lookup
    this.#maxBatchBytes = options.maxBatchBytes ?? MAX_BATCH_BYTES
  }

  get bytes(): number {
    return this.#bytes
  }

  get records(): number {
    return this.#records
  }

  topic(request: TopicRequest): SinkTopic | Promise<SinkTopic> {
    const known = this.#topics.get(request.name)
    if (known !== undefined && (request.keyed || !known.keyed)) return known
    const found = this.#lookup(request)
    return found instanceof Promise
      ? found.then((topic) => this.#remember(topic, request))
      : this.#remember(found, request)
  }

  append(topic: SinkTopic, record: EncodedRecord): void {
    this.#appendTo(topic as OpenTopic, this.#partitionOf(topic, record), record)
  }

  open(topic: SinkTopic, record: EncodedRecord, valueBytes: number): Room {
    const start = this.#openIn(topic as OpenTopic, this.#partitionOf(topic, record), record, valueBytes)
    this.#room.bytes = this.#builder!.buffer
    this.#room.start = start
    return this.#room
  }

  close(valueEnd: number): void {
    const builder = this.#builder!
    if (this.#isNew) this.#add(builder)
    const before = this.#isNew ? 0 : builder.bytes
    this.#builder = null
    builder.close(valueEnd)
    this.#bytes += builder.bytes - before
    this.#records += 1
  }

  appendToAll(topic: SinkTopic, record: EncodedRecord): void {
    for (let partition = 0; partition < topic.partitions; partition++) {
      this.#appendTo(topic as OpenTopic, partition, record)
    }
  }

  /** Takes what was appended since the last cut. Synchronous, so that nothing falls between two cuts. */
  cut(): FilledBatches {
    const filled = new FilledBatches({ batches: this.#batches, bytes: this.#bytes, records: this.#records })
    for (const topic of this.#touched) topic.filling.fill(null)
    this.#touched.clear()
    this.#batches = []
    this.#bytes = 0
    this.#records = 0
    // Or a huge batch would be held until the next record comes, also one that was begun for a record which was then forgotten.
    this.#room.bytes = NO_BYTES
    this.#forget()
    return filled
  }

  #partitionOf(topic: SinkTopic, { bytes, keyStart, keyEnd }: EncodedRecord): number {
    return keyStart < 0 ? 0 : partitionOf(bytes, keyStart, keyEnd, topic.partitions)
  }

  #appendTo(topic: OpenTopic, partition: number, record: EncodedRecord): void {
    const { bytes, valueStart, valueEnd } = record
    const at = this.#openIn(topic, partition, record, valueStart < 0 ? -1 : valueEnd - valueStart)
    this.close(valueStart < 0 ? at : at + bytes.copy(this.#builder!.buffer, at, valueStart, valueEnd))
  }

  #openIn(topic: OpenTopic, partition: number, record: EncodedRecord, valueBytes: number): number {
    this.#forget()
    this.#topic = topic
    this.#partition = partition
    const filling = topic.filling[partition] ?? null
    this.#builder = filling
    this.#isNew = false
    let at = filling === null ? -1 : filling.open(record, valueBytes)
    if (at < 0) {
      // Where one batch was filled, the next one will be too: it starts at its full size.
      const maxBytes = Math.min(this.#maxBatchBytes, topic.maxRecordBytes)
      const startBytes = filling === null ? 0 : maxBytes
      this.#builder = new BatchBuilder({ pool: this.#pool, maxBytes, startBytes, into: record.into })
      this.#isNew = true
      at = this.#builder.open(record, valueBytes)
    }
    return at
  }

  /** What is open, and was not closed. */
  #forget(): void {
    if (this.#builder !== null && this.#isNew) this.#builder.release()
    this.#builder = null
  }

  #add(builder: BatchBuilder): void {
    const topic = this.#topic!
    topic.filling[this.#partition] = builder
    this.#touched.add(topic)
    this.#batches.push({ topic: topic.name, partition: this.#partition, builder })
  }

  /** One object per name for good: records of a partition must not be split over two that are filled at the same time. */
  #remember(found: SinkTopic, request: TopicRequest): OpenTopic {
    const known = this.#topics.get(request.name)
    if (known === undefined) {
      const topic = new OpenTopic(found, request.keyed)
      this.#topics.set(request.name, topic)
      return topic
    }
    known.keyed &&= request.keyed
    return known
  }
}
