/**
 * Produce and Fetch with raw record batches, which the client's own APIs take apart record by record. The last versions before
 * tagged fields: https://kafka.apache.org/protocol#The_Messages_Produce, https://kafka.apache.org/protocol#The_Messages_Fetch
 */
import { type API, createAPI, type Reader, Writer } from '@platformatic/kafka'
import { inParts } from './in-parts.js'

const PRODUCE = 0
const PRODUCE_VERSION = 8
const FETCH = 1
const FETCH_VERSION = 11
/** Requests of these versions have no tagged fields, neither in the header nor in the body. */
const TAGGED = false
const COMPACT = false

/** What is used of a request of the client's. */
export type VersionedApi<Parameters extends unknown[], Response> = Pick<
  API<Parameters, Response>,
  'async' | 'key' | 'version'
>

export interface ProducePartition {
  readonly topic: string
  readonly partition: number
  /** One record batch. */
  readonly records: Buffer
}

export interface ProduceResult {
  readonly topic: string
  readonly partition: number
  readonly error: number
  /** Of the batch's first record; -1 where the broker did not take it now. */
  readonly baseOffset: bigint
}

const ALL_REPLICAS = -1
/** How long the broker waits for its replicas. */
const REPLICATION_TIMEOUT_MS = 20_000

function byTopic<T extends { readonly topic: string }>(entries: readonly T[]): [string, T[]][] {
  const topics = new Map<string, T[]>()
  for (const entry of entries) {
    const found = topics.get(entry.topic)
    if (found === undefined) topics.set(entry.topic, [entry])
    else found.push(entry)
  }
  return [...topics]
}

/** The body is a token that stands for it. */
const produceToken = createAPI<[token: Buffer], ProduceResult[]>(
  PRODUCE,
  PRODUCE_VERSION,
  (token: Buffer) => Writer.create().append(token),
  (_correlation, _key, _version, reader) => {
    const topics = reader.readArray(
      (inner) => {
        const topic = inner.readString(COMPACT)
        return inner.readArray((entry) => readProduceResult(topic, entry), COMPACT, TAGGED)
      },
      COMPACT,
      TAGGED,
    )
    return topics.flat()
  },
  TAGGED,
  TAGGED,
)

/** Record batches are written from where they lie: they are not to be touched before the answer is there, or the connection is gone. */
export const produceV8: VersionedApi<
  [transactionalId: string, partitions: readonly ProducePartition[]],
  ProduceResult[]
> = {
  version: PRODUCE_VERSION,
  key: PRODUCE,
  async: async (connection, transactionalId, partitions) =>
    await inParts(produceBody(transactionalId, partitions), (token) => produceToken.async(connection, token)),
}

function produceBody(transactionalId: string, partitions: readonly ProducePartition[]): readonly Buffer[] {
  return Writer.create()
    .appendString(transactionalId, COMPACT)
    .appendInt16(ALL_REPLICAS)
    .appendInt32(REPLICATION_TIMEOUT_MS)
    .appendArray(
      byTopic(partitions),
      (writer, [topic, entries]) => {
        writer.appendString(topic, COMPACT).appendArray(
          entries,
          (inner, { partition, records }) => {
            inner.appendInt32(partition).appendInt32(records.length).append(records)
          },
          COMPACT,
          TAGGED,
        )
      },
      COMPACT,
      TAGGED,
    ).buffers
}

function readProduceResult(topic: string, reader: Reader): ProduceResult {
  const partition = reader.readInt32()
  const error = reader.readInt16()
  const baseOffset = reader.readInt64()
  reader.skip(16) // log append time, log start offset
  reader.readArray(
    (inner) => {
      inner.readInt32()
      return inner.readNullableString(COMPACT)
    },
    COMPACT,
    TAGGED,
  )
  reader.readNullableString(COMPACT)
  return { topic, partition, error, baseOffset }
}

export interface FetchRequest {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly maxWaitMs: number
  readonly maxBytes: number
}

export interface FetchResult {
  readonly error: number
  readonly lastStableOffset: bigint
  readonly abortedTransactions: readonly { readonly producerId: bigint; readonly firstOffset: bigint }[]
  /** Whole batches, the last one maybe cut. */
  readonly records: Buffer
}

const CONSUMER = -1
const READ_COMMITTED = 1
const NO_SESSION_EPOCH = -1
const NO_LEADER_EPOCH = -1
const EMPTY = Buffer.alloc(0)

/** One partition at a time, as a read_committed consumer. */
export const fetchV11 = createAPI<[request: FetchRequest], FetchResult | null>(
  FETCH,
  FETCH_VERSION,
  (request: FetchRequest) =>
    Writer.create()
      .appendInt32(CONSUMER)
      .appendInt32(request.maxWaitMs)
      .appendInt32(1) // at least one byte, or the wait is over
      .appendInt32(request.maxBytes)
      .appendInt8(READ_COMMITTED)
      .appendInt32(0)
      .appendInt32(NO_SESSION_EPOCH)
      .appendArray(
        [request],
        (writer, { topic, partition, offset, maxBytes }) => {
          writer.appendString(topic, COMPACT).appendArray(
            [partition],
            (inner, index) => {
              inner
                .appendInt32(index)
                .appendInt32(NO_LEADER_EPOCH)
                .appendInt64(offset)
                .appendInt64(-1n)
                .appendInt32(maxBytes)
            },
            COMPACT,
            TAGGED,
          )
        },
        COMPACT,
        TAGGED,
      )
      .appendArray([], () => undefined, COMPACT, TAGGED)
      .appendString('', COMPACT),
  (_correlation, _key, _version, reader) => {
    reader.readInt32() // throttle time
    const error = reader.readInt16()
    reader.readInt32() // session
    const [partitions] = reader.readArray(
      (inner) => {
        inner.readString(COMPACT)
        return inner.readArray(readFetchResult, COMPACT, TAGGED)
      },
      COMPACT,
      TAGGED,
    )
    if (error !== 0) return { error, lastStableOffset: -1n, abortedTransactions: [], records: EMPTY }
    return partitions?.[0] ?? null
  },
  TAGGED,
  TAGGED,
)

function readFetchResult(reader: Reader): FetchResult {
  reader.readInt32() // partition
  const error = reader.readInt16()
  reader.readInt64() // high watermark
  const lastStableOffset = reader.readInt64()
  reader.readInt64() // log start offset
  const abortedTransactions =
    reader.readNullableArray(
      (inner) => ({ producerId: inner.readInt64(), firstOffset: inner.readInt64() }),
      COMPACT,
      TAGGED,
    ) ?? []
  reader.readInt32() // preferred read replica
  return { error, lastStableOffset, abortedTransactions, records: reader.readNullableBytes(COMPACT) ?? EMPTY }
}
