/** The Kafka log: topics, a transactional writer for a pipeline, and read_committed readers. */
import { BatchSink, FilledBatches, MAX_BATCH_BYTES } from '../batch-sink.js'
import { type Codec, loadCodec } from '../compression.js'
import { assert } from '../../base/assert.js'
import type { Clock } from '../../base/clock.js'
import { encodedRecord } from '../../event/record.js'
import type { SinkTopic, TopicRequest } from '../../event/sink.js'
import { isTopicOf } from '../../event/topic-name.js'
import type { FilledRecords, Log, LogRecord, LogWriter, Progress, ReadOptions } from '../log.js'
import { offsetAt } from '../offset-at.js'
import { requireProgress } from '../records-without-progress.js'
import { Cluster, missing } from './cluster.js'
import type { KafkaOptions } from './options.js'
import { offsetsOf, readPartition } from './reader.js'
import { createTopics, deleteTopics, listPipelines, maxMessageBytes, pipelineOf, progressTopic } from './topics.js'
import { untilSettled } from './end-offsets.js'
import { isOfLog, RememberedTopics, requireRemembered } from './remembered.js'
import type { OnDelivered } from './transactional-id.js'
import { TransactionalProducer } from './transactional-producer.js'

/** `connect` makes a client of the cluster. Errors: LOG_UNREACHABLE, LOG_TLS, LOG_AUTHENTICATION, COMPRESSION_MISSING. */
export async function openKafkaLog(options: KafkaOptions, connect = (): Cluster => new Cluster(options)): Promise<Log> {
  const codec = await loadCodec(options.compression)
  const cluster = connect()
  const followers = new Set<Cluster>()

  /** A follower waits at the broker for what is to come, which would hold up every other request on its connection. */
  async function* read(request: ReadOptions): AsyncGenerator<LogRecord, void, undefined> {
    if (request.until !== undefined) return yield* readPartition(cluster, request)
    const own = connect()
    followers.add(own)
    try {
      yield* readPartition(own, request)
    } finally {
      followers.delete(own)
      await own.close()
    }
  }

  /** Of a pipeline whose progress topic exists. */
  const entriesOf = async ({ name, signal }: { name: string; signal: AbortSignal }): Promise<Progress> => {
    const topic = progressTopic(name)
    const { earliest, end } = await offsetsOf(cluster, topic, 0)
    const entries = new Map<string, Buffer>()
    for await (const { key, value } of readPartition(cluster, {
      topic,
      partition: 0,
      from: earliest,
      until: end,
      signal,
    })) {
      if (key !== null && value !== null) entries.set(key.toString(), Buffer.from(value))
    }
    return entries
  }

  const readEntries = async (request: { name: string; signal: AbortSignal }): Promise<Progress> =>
    (await exists(cluster, progressTopic(request.name))) ? await entriesOf(request) : new Map()

  const log: Log = {
    async openWriter({ name, signal, accept = false }) {
      if (!(await exists(cluster, progressTopic(name)))) await createTopics(cluster, [], name)
      const grace = new Grace(signal, cluster.clock)
      try {
        let onDelivered: OnDelivered = () => undefined
        const producer = new TransactionalProducer(cluster, {
          id: name,
          signal: grace.signal,
          onDelivered: (...delivered) => onDelivered(...delivered),
        })
        await producer.takeOver(async () => {
          const topics = await cluster.listTopics()
          return topics.map((topic) => topic.name).filter((topic) => isTopicOf(name, topic))
        })
        const entries = await entriesOf({ name, signal })
        const remembered = new RememberedTopics(entries)
        if (accept) await remembered.accept(cluster)
        onDelivered = (topic, partition, end) => remembered.delivered(topic, cluster.topicId(topic), partition, end)
        const progress = { topic: progressTopic(name), entries: ofPipeline(entries), remembered }
        return new KafkaWriter({ cluster, producer, codec, progress, grace })
      } catch (error) {
        grace.end()
        throw error
      }
    },
    async openTopicWriter({ topic, signal }) {
      const grace = new Grace(signal, cluster.clock)
      try {
        const onDelivered = (): void => undefined
        const producer = new TransactionalProducer(cluster, {
          id: `${topic}.into`,
          signal: grace.signal,
          onDelivered,
        })
        await producer.takeOver(async () => ((await exists(cluster, topic)) ? [topic] : []))
        return new KafkaWriter({ cluster, producer, codec, progress: null, grace })
      } catch (error) {
        grace.end()
        throw error
      }
    },
    async requireWhole({ name, topics, signal }) {
      const entries = await readEntries({ name, signal })
      const settled = async (): Promise<Progress> => {
        const writer = await log.openWriter({ name, signal })
        await writer.close()
        return writer.progress
      }
      await requireProgress(log, { name, progress: ofPipeline(entries), settled, topics, signal })
      await requireRemembered(cluster, { entries, topics })
    },
    readProgress: async (request) => ofPipeline(await readEntries(request)),
    pipelines: () => listPipelines(cluster),
    async topics(prefix) {
      const topics = (await cluster.listTopics())
        .filter(({ name }) => name.startsWith(prefix) && pipelineOf(name) === null)
        .map(({ name, partitions }) => ({ name, partitions }))
      return topics.toSorted((a, b) => (a.name < b.name ? -1 : 1))
    },
    createTopics: (requests, pipeline) => createTopics(cluster, requests, pipeline),
    deleteTopics: (names) => deleteTopics(cluster, names),
    deleteProgress: (name) => deleteTopics(cluster, [progressTopic(name)]),
    async offsets(topic, partition) {
      if (!(await exists(cluster, topic))) throw missing(topic)
      return await offsetsOf(cluster, topic, partition)
    },
    settled: ({ topics, signal }) => untilSettled(cluster, topics, signal),
    async offsetAt({ topic, partition, position, signal }) {
      const offsets = await offsetsOf(cluster, topic, partition)
      const firstRecordAtOrAfter = async (from: bigint): Promise<LogRecord | null> => {
        const request = { topic, partition, from, until: offsets.end, maxBytes: ONE_BATCH, signal }
        for await (const record of readPartition(cluster, request)) return record
        return null
      }
      return await offsetAt({ ...offsets, position, firstRecordAtOrAfter })
    },
    read,
    async close() {
      await Promise.all([cluster, ...followers].map((open) => open.close()))
    },
  }
  return log
}

/** Whatever is asked for, a broker sends at least one. */
const ONE_BATCH = 1

/** A stop that comes while a log transaction is at hand lets it come to its end, if the brokers let it. */
const GRACE_MS = 5000

/** Aborted some time after the signal it stands for. */
class Grace {
  readonly #late = new AbortController()
  readonly #signal: AbortSignal
  readonly #onAbort: () => void

  constructor(signal: AbortSignal, clock: Clock) {
    this.#signal = signal
    this.#onAbort = () => clock.after(GRACE_MS, () => this.#late.abort()).unref()
    signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#late.signal
  }

  end(): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
  }
}

function ofPipeline(entries: Progress): Progress {
  return new Map([...entries].filter(([entry]) => !isOfLog(entry)))
}

async function exists(cluster: Cluster, topic: string): Promise<boolean> {
  return (await cluster.retry({ object: `topic "${topic}"`, topic }, () => cluster.refresh(topic))) !== null
}

interface WriterOptions {
  readonly cluster: Cluster
  readonly producer: TransactionalProducer
  readonly codec: Codec
  /** Null for a writer that remembers nothing. */
  readonly progress: {
    readonly topic: string
    readonly entries: Progress
    readonly remembered: RememberedTopics
  } | null
  readonly grace: Grace
}

class KafkaWriter implements LogWriter {
  readonly sink: BatchSink
  readonly progress: Progress
  readonly #producer: TransactionalProducer
  readonly #codec: Codec
  readonly #entries: { readonly sink: BatchSink; readonly topic: string; readonly remembered: RememberedTopics } | null
  readonly #grace: Grace
  readonly #clock: Clock
  #ready: Promise<unknown> = Promise.resolve()
  /** Of an append: whoever made the next one before it was told hears of it, too. */
  #failure: unknown = null
  #closed = false

  constructor({ cluster, producer, codec, progress, grace }: WriterOptions) {
    this.#producer = producer
    this.#grace = grace
    this.#clock = cluster.clock
    this.#codec = codec
    this.progress = progress?.entries ?? new Map()
    this.#entries =
      progress === null
        ? null
        : { ...progress, sink: new BatchSink({ lookup: () => ({ name: progress.topic, partitions: 1 }) }) }
    const { batchBytes = MAX_BATCH_BYTES } = cluster.options
    this.sink = new BatchSink({ lookup: (request) => lookUp(cluster, request), maxBatchBytes: batchBytes })
  }

  cut(): FilledRecords {
    return this.sink.cut()
  }

  async append(records: FilledRecords, progress: Progress | null): Promise<void> {
    assert(records instanceof FilledBatches, 'records of another log are appended')
    assert(!this.#closed, 'a writer is used after its close')
    if (this.#failure !== null) throw this.#failure
    try {
      const sent = this.#send(records, progress)
      this.#ready = sent
      const { committed } = await sent
      await committed
    } catch (error) {
      this.#failure ??= error
      throw error
    }
  }

  async ready(): Promise<void> {
    await this.#ready
  }

  /** Of a part, nothing is committed. */
  async #send(
    records: FilledBatches,
    progress: Progress | null,
  ): Promise<{ readonly committed: Promise<void> | null }> {
    const entries = progress === null ? null : this.#fill(progress)
    const batches = entries === null ? records.batches : [...records.batches, ...entries.batches]
    try {
      for (const { builder } of records.batches) await builder.compress(this.#codec)
      this.#requireOpen()
      await this.#producer.send(batches)
      this.#requireOpen()
      return { committed: progress === null ? null : this.#producer.end(true) }
    } finally {
      records.release()
      entries?.release()
    }
  }

  /** What is under way when the writer is closed is aborted, and the next log transaction is not that one. */
  #requireOpen(): void {
    if (this.#closed) throw new Error('the writer was closed while it was sending')
  }

  /** Progress as records of its topic, in the same log transaction. */
  #fill(progress: Progress): FilledBatches | null {
    if (this.#entries === null) {
      assert(progress.size === 0, 'a writer that remembers nothing is given progress')
      return null
    }
    const { sink, topic: name, remembered } = this.#entries
    const topic = sink.topic({ name, keyed: true })
    assert(!(topic instanceof Promise), 'the progress topic is known')
    const timestampMs = this.#clock.nowMs()
    for (const [entry, value] of [...progress, ...remembered.entries(this.#clock.elapsedMs())])
      sink.append(topic, encodedRecord({ key: Buffer.from(entry), value, timestampMs }))
    return sink.cut()
  }

  /** After an error the broker aborts what is open, when the next writer comes or the transaction times out. */
  async close(): Promise<void> {
    this.sink.cut().release()
    const open = !this.#closed && this.#failure === null
    this.#closed = true
    try {
      if (open) await this.#producer.end(false)
    } finally {
      this.#grace.end()
    }
  }
}

async function lookUp(cluster: Cluster, request: TopicRequest): Promise<SinkTopic> {
  const asked = { object: `topic "${request.name}"`, topic: request.name }
  const known = await cluster.retry(asked, () => cluster.partitions(request.name))
  if (known === null || !request.keyed) await createTopics(cluster, [request])
  const partitions = known ?? (await cluster.retry(asked, () => cluster.partitions(request.name)))
  if (partitions === null) throw missing(request.name)
  if (cluster.options.recordLimits !== true) return { name: request.name, partitions }
  return { name: request.name, partitions, maxRecordBytes: await maxMessageBytes(cluster, request.name) }
}
