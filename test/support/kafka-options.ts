/** Options of a Kafka log under test. */
import { silentLogger } from '../../src/base/logger.js'
import type { KafkaOptions } from '../../src/log/kafka/options.js'

/** `bootstrap` is host:port, or several of them with commas; the first is asked. */
export function kafkaOptions(bootstrap: string, over: Partial<KafkaOptions> = {}): KafkaOptions {
  const [host = '', port = ''] = bootstrap.split(',')[0]?.split(':') ?? []
  return {
    brokers: [{ host, port: Number(port) }],
    clientId: 'evert-test',
    tls: null,
    sasl: null,
    topics: { partitions: 1, replicationFactor: -1, retention: 'forever' },
    compression: 'none',
    transactionTimeoutMs: 60_000,
    logger: silentLogger,
    ...over,
  }
}
