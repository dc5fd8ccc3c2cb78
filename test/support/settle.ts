/** Puts the log transactions of a pipeline whose process is gone at rest, so that its topics can be read as they stay. */
import { Kafka, logLevel } from 'kafkajs'
import { transactionalIds } from '../../src/log/kafka/transactional-producer.js'

/**
 * A consumer that asks one partition after the other for its end may see the marker of a commit in the first and not yet in the second: a
 * torn cut that is nobody's fault. A producer of the same transactional ids is told to wait until the last commit is everywhere, and has
 * aborted what was left open.
 */
export async function settle(bootstrap: string, pipeline: string): Promise<void> {
  const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING, retry: { retries: 20 } })
  for (const transactionalId of transactionalIds(pipeline)) {
    const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    const transaction = await producer.transaction()
    await transaction.abort()
    await producer.disconnect()
  }
}
