/** Where the hot path appends to, for both logs: encoded records go straight into the record batch of their partition. */
import type { EncodedRecord, RecordSink, SinkTopic, TopicRequest } from '../event/sink.js'
import { BufferPool } from './buffer-pool.js'
import type { FilledRecords } from './log.js'
import { partitionOf } from './murmur2.js'
import { BatchBuilder } from './record-batch.js'

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
    const { keyStart, keyEnd, bytes } = record
    const partition = keyStart < 0 ? 0 : partitionOf(bytes, keyStart, keyEnd, topic.partitions)
    this.#appendTo(topic as OpenTopic, partition, record)
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
    return filled
  }

  #appendTo(topic: OpenTopic, partition: number, record: EncodedRecord): void {
    let builder = topic.filling[partition] ?? null
    let before = builder === null ? 0 : builder.bytes
    if (builder === null || !builder.append(record)) {
      // Where one batch was filled, the next one will be too: it starts at its full size.
      builder = this.#open(topic, partition, builder === null ? 0 : this.#maxBatchBytes)
      before = 0
      builder.append(record)
    }
    this.#bytes += builder.bytes - before
    this.#records += 1
  }

  #open(topic: OpenTopic, partition: number, startBytes: number): BatchBuilder {
    const builder = new BatchBuilder({ pool: this.#pool, maxBytes: this.#maxBatchBytes, startBytes })
    topic.filling[partition] = builder
    this.#touched.add(topic)
    this.#batches.push({ topic: topic.name, partition, builder })
    return builder
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
