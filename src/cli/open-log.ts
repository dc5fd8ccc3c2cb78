/** Which log --log means. The code of the other kind is not loaded. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { EvertError } from '../base/errors.js'
import type { Logger } from '../base/logger.js'
import type { Config } from '../config.js'
import type { Log } from '../log/log.js'

type Place =
  | { readonly kind: 'kafka'; readonly brokers: readonly { readonly host: string; readonly port: number }[] }
  | { readonly kind: 'embedded'; readonly directory: string }

const KAFKA_PORT = 9092
const HINT = 'kafka://host:port[,host:port], or a directory such as ./log'

/** Null where none was given; the options are looked at at once, the log is opened when asked. Errors: OPTION_INVALID. */
export function logOpener(
  config: Config,
  use: { readonly logger: Logger; readonly create: boolean },
): (() => Promise<Log>) | null {
  if (config.log === undefined) return null
  const place = parsePlace(config.log)
  if (place.kind === 'embedded') return () => openEmbedded(place.directory, config, use)
  return () => openKafka(place.brokers, config, use.logger)
}

/** Errors: OPTION_MISSING, OPTION_INVALID. */
export function requireLog(
  config: Config,
  use: { readonly logger: Logger; readonly create: boolean },
): () => Promise<Log> {
  const open = logOpener(config, use)
  if (open !== null) return open
  throw new EvertError('OPTION_MISSING', { message: '--log was not given (nor EVERT_LOG)', hint: HINT })
}

export function parsePlace(text: string): Place {
  const url = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/i.exec(text)
  if (url === null) {
    if (/^[\w.-]+:\d+(,|$)/.test(text)) throw invalid(`"${text}" has no scheme`, `kafka://${text}`)
    return { kind: 'embedded', directory: resolve(text) }
  }
  const [, scheme = '', rest = ''] = url
  if (scheme === 'file') return { kind: 'embedded', directory: fileURLToPath(text) }
  if (scheme !== 'kafka') throw invalid(`the scheme "${scheme}" is not known`)
  if (rest.includes('@'))
    throw invalid('credentials do not go into the URL', '--kafka-username and EVERT_KAFKA_PASSWORD')
  return { kind: 'kafka', brokers: rest.replace(/\/$/, '').split(',').map(broker) }
}

function broker(part: string): { host: string; port: number } {
  const match = /^(\[[0-9a-f:.]+\]|[^:/[\]?#\s]+)(?::(\d{1,5}))?$/i.exec(part.trim())
  const port = Number(match?.[2] ?? KAFKA_PORT)
  if (match?.[1] === undefined || port < 1 || port > 65_535) throw invalid(`"${part}" is not host:port`)
  return { host: match[1].replace(/^\[|\]$/g, ''), port }
}

function invalid(message: string, hint = HINT): EvertError {
  return new EvertError('OPTION_INVALID', { message: `--log: ${message}`, hint })
}

async function openEmbedded(directory: string, config: Config, { create }: { create: boolean }): Promise<Log> {
  const { openEmbeddedLog } = await import('../log/embedded/log.js')
  const topics = { partitions: config.partitions ?? 1 }
  return await openEmbeddedLog({ directory, topics, compression: config.compression ?? 'none', create })
}

async function openKafka(
  brokers: readonly { readonly host: string; readonly port: number }[],
  config: Config,
  logger: Logger,
): Promise<Log> {
  const { openKafkaLog } = await import('../log/kafka/log.js')
  const caFile = config['kafka-ca-file'] ?? null
  const certFile = config['kafka-cert-file'] ?? null
  const keyFile = config['kafka-key-file'] ?? null
  if (certFile === null && keyFile !== null)
    throw missing('--kafka-cert-file', 'a key was given without its certificate')
  if (certFile !== null && keyFile === null)
    throw missing('--kafka-key-file', 'a certificate was given without its key')
  const tls = config['kafka-tls'] === true || caFile !== null || certFile !== null
  return await openKafkaLog({
    brokers,
    clientId: 'evert',
    tls: tls ? { caFile, certFile, keyFile } : null,
    sasl: sasl(config),
    topics: {
      partitions: config.partitions ?? 1,
      replicationFactor: config['replication-factor'] ?? -1,
      retention: config.retention ?? 'compact',
    },
    compression: config.compression ?? 'none',
    recordLimits: (config['large-values'] ?? 'stop') !== 'stop',
    transactionTimeoutMs: config['transaction-timeout'] ?? 60_000,
    logger,
  })
}

/** A mechanism needs its credentials, and credentials a mechanism. */
function sasl(config: Config): null | {
  mechanism: NonNullable<Config['kafka-sasl-mechanism']>
  username?: string
  password?: string
  token?: string | (() => string)
} {
  const { 'kafka-sasl-mechanism': mechanism, 'kafka-username': username } = config
  const { 'kafka-password': password, 'kafka-token': token, 'kafka-token-file': tokenFile } = config
  if (mechanism === undefined) {
    if ([username, password, token, tokenFile].every((given) => given === undefined)) return null
    throw missing('--kafka-sasl-mechanism', 'credentials were given without a mechanism')
  }
  if (mechanism === 'OAUTHBEARER') {
    if (tokenFile !== undefined) {
      readToken(tokenFile)
      return { mechanism, token: () => readToken(tokenFile) }
    }
    if (token === undefined) throw missing('--kafka-token-file or --kafka-token', `${mechanism} needs a token`)
    return { mechanism, token }
  }
  if (username === undefined || password === undefined) {
    throw missing('--kafka-username and --kafka-password', `${mechanism} needs a user and a password`)
  }
  return { mechanism, username, password }
}

/** Whoever renews the token writes it there; it is read for each connection, and again before its time is over. */
function readToken(file: string): string {
  let token: string
  try {
    token = readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new EvertError('LOG_AUTHENTICATION', { message: `--kafka-token-file: ${file} cannot be read`, cause: error })
  }
  // Somebody may be about to write it.
  if (token === '') throw new EvertError('LOG_AUTHENTICATION', { message: `--kafka-token-file: ${file} is empty` })
  return token
}

function missing(option: string, message: string): EvertError {
  return new EvertError('OPTION_MISSING', { message, hint: `${option}, or the EVERT_KAFKA_… variable` })
}
