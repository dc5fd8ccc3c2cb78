/** Log transactions: which one each record came with, as the brokers' batches say it: by their producer ids, and the markers between them. */
import type { ConsumedRecord } from '../../support/independent-consumer.js'
import { Cluster } from '../../../src/log/kafka/cluster.js'
import { answered, CODE } from '../../../src/log/kafka/errors.js'
import { offsetsOf } from '../../../src/log/kafka/reader.js'
import { fetch } from '../../../src/log/kafka/requests.js'
import { readBatches } from '../../../src/log/read-batch.js'
import { kafkaOptions } from '../../support/kafka-options.js'

/** A name that the records of one partition share if, and only if, they came with one log transaction. */
export type LogTransactionOf = (record: Pick<ConsumedRecord, 'topic' | 'partition' | 'offset'>) => string

const FETCH_BYTES = 4 * 1024 * 1024

/** Of everything that is visible by now. */
export async function logTransactions(
  bootstrap: string,
  topics: readonly string[],
  partitions: number,
): Promise<LogTransactionOf> {
  const cluster = new Cluster(kafkaOptions(bootstrap))
  const names = new Map<string, string>()
  const look = async (topic: string, partition: number): Promise<void> => {
    const ended = new Map<bigint, number>()
    const { end } = await offsetsOf(cluster, topic, partition)
    for (let next = 0n; next < end;) {
      const records = await cluster.retry({ object: topic }, async () => {
        const leader = await cluster.leader(topic, partition)
        const request = { topic, partition, offset: next, maxWaitMs: 0, maxBytes: FETCH_BYTES }
        const result = leader === null ? null : await cluster.call(leader.broker, fetch, request)
        if (result?.error === CODE.none) return result.records
        cluster.forget(topic)
        throw answered(CODE.coordinatorNotAvailable)
      })
      for (const { producerId, isControl, baseOffset, lastOffset } of readBatches(records, { topic, partition })) {
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
