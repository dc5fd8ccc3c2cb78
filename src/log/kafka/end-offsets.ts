/** End offsets of many partitions, and where a log transaction was left open among them. */
import { type Cluster, leaderlessError } from './cluster.js'
import { listOffsets } from './requests.js'

/** https://kafka.apache.org/protocol#The_Messages_ListOffsets (isolation_level) */
export const ANY_RECORD = 0
export const COMMITTED_RECORDS = 1
const CONSUMER = -1
const LATEST = -1n

export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

/** Partitions whose end a read_committed consumer cannot see, while nobody writes: something was begun there, and never ended. */
export async function leftOpen(
  cluster: Cluster,
  topics: readonly string[],
  signal: AbortSignal,
): Promise<TopicPartition[]> {
  const committed = await endOffsets(cluster, topics, COMMITTED_RECORDS, signal)
  const all = await endOffsets(cluster, topics, ANY_RECORD, signal)
  return behind(committed, all)
}

type Ends = ReadonlyMap<string, readonly bigint[]>

/** Partitions whose committed end has not come to where they were written to. */
function behind(committed: Ends, written: Ends): TopicPartition[] {
  return [...written].flatMap(([topic, ends]) =>
    ends.flatMap((end, partition) => ((committed.get(topic)?.[partition] ?? end) < end ? [{ topic, partition }] : [])),
  )
}

const SETTLED_MS = 20

/** A commit is answered before its markers are in every partition. */
export async function untilSettled(cluster: Cluster, topics: readonly string[], signal: AbortSignal): Promise<void> {
  const written = await endOffsets(cluster, topics, ANY_RECORD)
  while (behind(await endOffsets(cluster, topics, COMMITTED_RECORDS), written).length > 0)
    await cluster.clock.delay(SETTLED_MS, signal)
}

/** Where partitions end, for one kind of reader; all of a broker's partitions in one request. */
export async function endOffsets(
  cluster: Cluster,
  topics: readonly string[],
  isolation: typeof ANY_RECORD | typeof COMMITTED_RECORDS,
  signal?: AbortSignal,
): Promise<Map<string, bigint[]>> {
  if (topics.length === 0) return new Map()
  const asked = new Set(topics)
  const ask = async (): Promise<Map<string, bigint[]>> => {
    const requests = new Map<
      number,
      { readonly host: string; readonly port: number; readonly topics: Map<string, number[]> }
    >()
    const places = (await cluster.listTopics(signal)).filter(({ name }) => asked.has(name))
    for (const { name, partitions } of places) {
      for (let partition = 0; partition < partitions; partition++) {
        const leader = await cluster.leader(name, partition)
        if (leader === null) {
          cluster.forget(name)
          throw leaderlessError(name, partition)
        }
        const request = requests.get(leader.id) ?? { ...leader.broker, topics: new Map<string, number[]>() }
        requests.set(leader.id, request)
        request.topics.set(name, [...(request.topics.get(name) ?? []), partition])
      }
    }
    const ends = new Map<string, bigint[]>()
    try {
      for (const { host, port, topics: own } of requests.values()) {
        const wanted = [...own].map(([name, partitions]) => ({
          name,
          partitions: partitions.map((partitionIndex) => ({
            partitionIndex,
            currentLeaderEpoch: -1,
            timestamp: LATEST,
          })),
        }))
        const response = await cluster.call({ host, port }, listOffsets, CONSUMER, isolation, wanted)
        for (const { name, partitions } of response.topics) {
          const found = ends.get(name) ?? []
          ends.set(name, found)
          for (const { partitionIndex, offset } of partitions) found[partitionIndex] = offset
        }
      }
    } catch (error) {
      for (const name of topics) cluster.forget(name)
      throw error
    }
    return ends
  }
  return await cluster.retry({ object: `${topics.length} topics` }, ask, signal === undefined ? {} : { signal })
}
