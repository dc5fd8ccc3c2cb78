/** Log transactions: which one each record came with, as the brokers' batches say it: by their producer ids, and the markers between them. */
import type { ConsumedRecord } from '../../support/independent-consumer.js'
import { Cluster } from '../../../src/log/kafka/cluster.js'
import { fetchOnce, offsetsOf } from '../../../src/log/kafka/reader.js'
import { readBatches } from '../../../src/log/read-batch.js'
import { kafkaOptions } from '../../support/kafka-options.js'

/** A name that the records of one partition share if, and only if, they came with one log transaction. */
export type LogTransactionOf = (record: Pick<ConsumedRecord, 'topic' | 'partition' | 'offset'>) => string

/** Of everything that is visible by now. */
export async function logTransactions(
  bootstrap: string,
  topics: readonly string[],
  partitions: number,
): Promise<LogTransactionOf> {
  const cluster = new Cluster(kafkaOptions(bootstrap))
  const { signal } = new AbortController()
  const names = new Map<string, string>()
  const look = async (topic: string, partition: number): Promise<void> => {
    const ended = new Map<bigint, number>()
    const { end } = await offsetsOf(cluster, topic, partition)
    for (let next = 0n; next < end;) {
      const fetched = await fetchOnce(cluster, { topic, partition, from: 0n, until: end, signal }, next)
      if (fetched === null) throw new Error(`${topic}/${partition} does not reach from ${next} to ${end}`)
      for (const { producerId, isControl, baseOffset, lastOffset } of readBatches(fetched.records, {
        topic,
        partition,
      })) {
        const turn = ended.get(producerId) ?? 0
        if (isControl && baseOffset >= next) ended.set(producerId, turn + 1)
        for (let offset = baseOffset; offset <= lastOffset; offset++)
          if (!isControl) names.set(`${topic}/${partition}/${offset}`, `${topic}/${partition}: ${producerId}#${turn}`)
        next = lastOffset + 1n
      }
    }
  }
  try {
    for (const topic of topics)
      for (let partition = 0; partition < partitions; partition++) await look(topic, partition)
  } finally {
    await cluster.close()
  }
  return ({ topic, partition, offset }) => {
    const name = names.get(`${topic}/${partition}/${offset}`)
    if (name === undefined) throw new Error(`${topic}/${partition} has nothing at ${offset}`)
    return name
  }
}
