/** Reader: committed records of a partition, from raw batches, with the records of aborted transactions left out. */
import type { LogRecord, PartitionOffsets, ReadOptions } from '../log.js'
import { decodeRecords, readBatches, type RecordBatch } from '../read-batch.js'
import { type Cluster, leaderlessError, missing } from './cluster.js'
import { CODE, codeError, isPassingCode, answered } from './errors.js'
import type { FetchResult } from './protocol.js'
import { fetch, listOffsets } from './requests.js'

const MAX_WAIT_MS = 500
/** Of a fetch; the broker sends at least one batch, however large. */
const MAX_BYTES = 4 * 1024 * 1024
const READ_COMMITTED = 1
const CONSUMER = -1
const EARLIEST = -2n
const LATEST = -1n

/** The end is the last stable offset: what a read_committed consumer can see. */
export async function offsetsOf(cluster: Cluster, topic: string, partition: number): Promise<PartitionOffsets> {
  return {
    earliest: await listOffset(cluster, topic, partition, EARLIEST),
    end: await listOffset(cluster, topic, partition, LATEST),
  }
}

async function listOffset(cluster: Cluster, topic: string, partition: number, timestamp: bigint): Promise<bigint> {
  return await atLeader(cluster, topic, partition, async (broker) => {
    const partitions = [{ partitionIndex: partition, currentLeaderEpoch: -1, timestamp }]
    const response = await cluster.call(broker, listOffsets, CONSUMER, READ_COMMITTED, [{ name: topic, partitions }])
    const offset = response.topics[0]?.partitions[0]?.offset
    if (offset === undefined || offset < 0n) throw answered(CODE.coordinatorNotAvailable)
    return offset
  })
}

/** Asks the partition's leader, and again whoever it is then. Errors: TOPIC_MISSING, and those of kafkaError. */
async function atLeader<T>(
  cluster: Cluster,
  topic: string,
  partition: number,
  work: (broker: { host: string; port: number }) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const asked = { object: `topic "${topic}" partition ${partition}`, topic }
  return await cluster.retry(
    asked,
    async () => {
      const leader = await cluster.leader(topic, partition)
      if (leader === null) {
        cluster.forget(topic)
        throw leaderlessError(topic, partition)
      }
      try {
        return await work(leader.broker)
      } catch (error) {
        cluster.forget(topic)
        throw error
      }
    },
    signal === undefined ? {} : { signal },
  )
}

/** Errors: TOPIC_MISSING, LOG_PROTOCOL, LOG_UNAVAILABLE. */
export async function* readPartition(
  cluster: Cluster,
  options: ReadOptions & { readonly maxBytes?: number },
): AsyncGenerator<LogRecord, void, undefined> {
  const { topic, partition, until, signal } = options
  if ((await cluster.partitions(topic)) === null) throw missing(topic)
  let next = options.from < 0n ? 0n : options.from
  while (!signal.aborted && (until === undefined || next < until)) {
    let result: FetchResult | null
    try {
      result = await fetchOnce(cluster, options, next)
    } catch (error) {
      if (signal.aborted) return
      throw error
    }
    if (result === null) {
      next = await offsetsOf(cluster, topic, partition).then(({ earliest, end }) => (next < earliest ? earliest : end))
      continue
    }
    const before = next
    for (const batch of committedBatches(result, { topic, partition })) {
      if (batch.visible) {
        for (const record of await decodeRecords(batch.batch)) {
          if (record.offset < next) continue
          if (signal.aborted || (until !== undefined && record.offset >= until)) return
          yield record
        }
      }
      next = batch.batch.lastOffset + 1n
    }
    // Nothing is left below a last stable offset that has come to the end asked for: compaction has taken the rest.
    if (next === before && until !== undefined && result.lastStableOffset >= until) return
  }
}

/** Null where the offset is out of range. Errors: those of readPartition. */
export async function fetchOnce(
  cluster: Cluster,
  { topic, partition, until, signal, maxBytes = MAX_BYTES }: ReadOptions & { readonly maxBytes?: number },
  offset: bigint,
): Promise<FetchResult | null> {
  const request = { topic, partition, offset, maxWaitMs: until === undefined ? MAX_WAIT_MS : 0, maxBytes }
  return await atLeader(
    cluster,
    topic,
    partition,
    async (broker) => {
      const result = await cluster.call(broker, fetch, request)
      // A broker that throttles answers without any partition.
      if (result === null) throw answered(CODE.throttlingQuotaExceeded)
      if (result.error === CODE.none) return result
      if (result.error === CODE.offsetOutOfRange) return null
      if (isPassingCode(result.error)) throw answered(result.error)
      throw codeError(result.error, { object: `topic "${topic}" partition ${partition}`, topic })
    },
    signal,
  )
}

/**
 * The batches of a fetch, and whether their records are committed, as the Java client decides it: at each batch, producers whose
 * aborted transaction has begun join the set; an abort marker takes its producer out; transactional batches of producers in the set
 * are skipped. https://kafka.apache.org/documentation/#consumerconfigs_isolation.level
 */
export function* committedBatches(
  result: Pick<FetchResult, 'records' | 'abortedTransactions'>,
  origin: { readonly topic: string; readonly partition: number },
): Generator<{ readonly batch: RecordBatch; readonly visible: boolean }> {
  const toCome = result.abortedTransactions.toSorted((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1))
  const aborting = new Set<bigint>()
  for (const batch of readBatches(result.records, origin)) {
    while (toCome[0] !== undefined && toCome[0].firstOffset <= batch.lastOffset) {
      aborting.add(toCome[0].producerId)
      toCome.shift()
    }
    if (batch.isControl) {
      if (batch.control === 'abort') aborting.delete(batch.producerId)
      yield { batch, visible: false }
    } else {
      yield { batch, visible: !(batch.isTransactional && aborting.has(batch.producerId)) }
    }
  }
}
