/** kafkajs as an independent read_committed consumer: what somebody else's program sees in the topics. */
import { Admin, FetchIsolationLevels } from '@platformatic/kafka'
import { Kafka, logLevel } from 'kafkajs'

export interface ConsumedRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly key: string | null
  readonly value: string | null
  readonly headers: Readonly<Record<string, string>>
}

/**
 * Everything that is committed in the topics now, partition by partition in offset order. A commit is answered before its markers are in every
 * partition: what is not committed yet is waited for, unless a log transaction is `leftOpen`.
 */
export async function consume(
  bootstrap: string,
  topics: readonly string[],
  { leftOpen = false } = {},
): Promise<ConsumedRecord[]> {
  const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING, retry: { retries: 20 } })
  const admin = kafka.admin()
  await admin.connect()
  const starts = new Map<string, bigint>()
  for (const topic of topics) {
    for (const { partition, low } of await admin.fetchTopicOffsets(topic))
      starts.set(`${topic}/${partition}`, BigInt(low))
  }
  await admin.disconnect()
  const { READ_COMMITTED, READ_UNCOMMITTED } = FetchIsolationLevels
  const ends = await endsOf(bootstrap, [...starts.keys()], leftOpen ? READ_COMMITTED : READ_UNCOMMITTED)
  const waiting = new Set([...ends].filter(([place, end]) => end !== starts.get(place)).map(([place]) => place))
  const records: ConsumedRecord[] = []
  if (waiting.size === 0) return records
  const consumer = kafka.consumer({ groupId: `oracle-${process.pid}-${performance.now()}`, readUncommitted: false })
  await consumer.connect()
  await consumer.subscribe({ topics: [...topics], fromBeginning: true })
  await new Promise<void>((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) reject(payload.error)
    })
    // A commit marker is the last thing in a partition, and no record: the end of a batch fetched tells.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      const place = `${payload.topic}/${payload.partition}`
      if (BigInt(payload.lastOffset) + 1n >= (ends.get(place) ?? 0n)) waiting.delete(place)
      if (waiting.size === 0) resolve()
    })
    consumer
      .run({
        autoCommit: false,
        eachBatch: async ({ batch }) => {
          for (const message of batch.messages) {
            records.push({
              topic: batch.topic,
              partition: batch.partition,
              offset: BigInt(message.offset),
              key: message.key?.toString() ?? null,
              value: message.value?.toString() ?? null,
              headers: Object.fromEntries(
                Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)]),
              ),
            })
          }
        },
      })
      .catch(() => undefined) // The crash event says whether it comes back.
  })
  await consumer.disconnect()
  return byPartition(records)
}

const LATEST = -1n

async function endsOf(
  bootstrap: string,
  places: readonly string[],
  isolationLevel: 0 | 1,
): Promise<Map<string, bigint>> {
  const partitions = places.map((place) => {
    const slash = place.lastIndexOf('/')
    return { name: place.slice(0, slash), partitionIndex: Number(place.slice(slash + 1)), timestamp: LATEST }
  })
  const admin = new Admin({ clientId: 'oracle', bootstrapBrokers: bootstrap.split(','), retries: 20 })
  try {
    const listed = await admin.listOffsets({
      topics: partitions.map(({ name, ...partition }) => ({ name, partitions: [partition] })),
      isolationLevel,
    })
    return new Map(
      listed.flatMap(({ name, partitions: ends }) =>
        ends.map(({ partitionIndex, offset }) => [`${name}/${partitionIndex}`, offset] as const),
      ),
    )
  } finally {
    await admin.close()
  }
}

/** Partition by partition. Within a partition records come in the order of their offsets from any consumer. */
export function byPartition(records: readonly ConsumedRecord[]): ConsumedRecord[] {
  const partitions = new Map<string, ConsumedRecord[]>()
  for (const record of records) {
    const place = `${record.topic}/${String(record.partition).padStart(6, '0')}`
    const partition = partitions.get(place)
    if (partition === undefined) partitions.set(place, [record])
    else partition.push(record)
  }
  return [...partitions.keys()].toSorted().flatMap((place) => partitions.get(place) ?? [])
}
