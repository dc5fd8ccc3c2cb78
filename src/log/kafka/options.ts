/** Options of the Kafka log, and what the connections of the client make of them. */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from '@platformatic/kafka'
import type { Clock } from '../../base/clock.js'
import { EvertError } from '../../base/errors.js'
import type { Logger } from '../../base/logger.js'
import type { Compression } from '../compression.js'

export interface KafkaOptions {
  /** Where to ask for the cluster; one that answers is enough. */
  readonly brokers: readonly { readonly host: string; readonly port: number }[]
  readonly clientId: string
  readonly tls: null | {
    readonly caFile: string | null
    readonly certFile: string | null
    readonly keyFile: string | null
  }
  readonly sasl: null | {
    readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512' | 'OAUTHBEARER'
    readonly username?: string
    readonly password?: string
    readonly token?: string | (() => string)
  }
  /** What new topics get. */
  readonly topics: {
    readonly partitions: number
    /** -1 leaves it to the broker. */
    readonly replicationFactor: number
    readonly retention: 'compact' | 'forever' | { readonly ms: number }
  }
  readonly compression: Compression
  /** The largest record batch, if it holds more than one record. */
  readonly batchBytes?: number
  /** Whether topics are asked for the largest record that they take. */
  readonly recordLimits?: boolean
  /** The broker aborts a log transaction that is open for longer. */
  readonly transactionTimeoutMs: number
  /** How long retriable errors are ridden out before the writer gives up. */
  readonly retryTimeoutMs?: number
  readonly clock?: Clock
  readonly logger: Logger
}

/** A broker that does not answer within it is asked anew, on another connection. */
const REQUEST_TIMEOUT_MS = 30_000
const CONNECT_TIMEOUT_MS = 5000

export function connectionSettings(options: KafkaOptions): ConnectionOptions {
  const { tls, sasl } = options
  return {
    connectTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    ...(tls === null
      ? {}
      : {
          tls: {
            ...(tls.caFile === null ? {} : { ca: read('--kafka-ca-file', tls.caFile) }),
            ...(tls.certFile === null ? {} : { cert: read('--kafka-cert-file', tls.certFile) }),
            ...(tls.keyFile === null ? {} : { key: read('--kafka-key-file', tls.keyFile) }),
          },
          tlsServerName: true,
        }),
    ...(sasl === null ? {} : { sasl }),
  }
}

function read(option: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new EvertError('LOG_TLS', { message: `${option}: ${file} cannot be read`, cause: error })
  }
}
