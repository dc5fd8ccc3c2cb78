/** Errors of Kafka: which pass by themselves, and what the others mean. https://kafka.apache.org/protocol#protocol_error_codes */
import { isNativeError } from 'node:util/types'
import { EvertError } from '../../base/errors.js'
import { isTlsCode } from '../../base/tls-codes.js'

/** Codes that evert acts on, by Kafka's own names. */
export const CODE = {
  none: 0,
  offsetOutOfRange: 1,
  unknownTopicOrPartition: 3,
  leaderNotAvailable: 5,
  brokerNotAvailable: 8,
  messageTooLarge: 10,
  coordinatorLoading: 14,
  coordinatorNotAvailable: 15,
  notCoordinator: 16,
  invalidTopic: 17,
  recordListTooLarge: 18,
  notEnoughReplicasAfterAppend: 20,
  topicAuthorizationFailed: 29,
  clusterAuthorizationFailed: 31,
  invalidTimestamp: 32,
  unsupportedSaslMechanism: 33,
  illegalSaslState: 34,
  topicAlreadyExists: 36,
  invalidPartitions: 37,
  invalidReplicationFactor: 38,
  policyViolation: 44,
  outOfOrderSequence: 45,
  duplicateSequence: 46,
  invalidProducerEpoch: 47,
  invalidTxnState: 48,
  invalidProducerIdMapping: 49,
  invalidTransactionTimeout: 50,
  concurrentTransactions: 51,
  transactionalIdAuthorizationFailed: 53,
  saslAuthenticationFailed: 58,
  unknownProducerId: 59,
  throttlingQuotaExceeded: 89,
  producerFenced: 90,
  transactionalIdNotFound: 105,
} as const

/** Leader or controller moved or missing, coordinator loading or moved, not attempted because of another partition, replicas missing, storage error, quota, timeouts. */
const PASSING = new Set([3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 41, 51, 55, 56, 72, 74, 75, 78, 89, 100])

/** The codes in a response, or none where there was no response at all: a connection that broke, or a request that timed out. */
export function codesOf(error: unknown): number[] {
  if (typeof error !== 'object' || error === null) return []
  const own = 'apiCode' in error && typeof error.apiCode === 'number' ? [error.apiCode] : []
  const inner = 'errors' in error && Array.isArray(error.errors) ? error.errors.flatMap(codesOf) : []
  return [...own, ...inner]
}

/** Names that the client gives to errors without a response. */
const NO_RESPONSE = /^PLT_KFK_(NETWORK|TIMEOUT|MULTIPLE|UNEXPECTED_CORRELATION_ID)$/

export function isPassing(error: unknown): boolean {
  const codes = codesOf(error)
  if (codes.length > 0) return codes.every((code) => code === CODE.none || PASSING.has(code))
  return noResponse(error) && !isTls(error) && !isAuthentication(error)
}

export function isPassingCode(code: number): boolean {
  return PASSING.has(code)
}

function noResponse(error: unknown): boolean {
  return (
    isNativeError(error) &&
    'code' in error &&
    typeof error.code === 'string' &&
    (NO_RESPONSE.test(error.code) || /^E[A-Z]+$/.test(error.code))
  )
}

/** What an error was made of. */
function behind(error: Error): readonly unknown[] {
  return [error.cause, ...('errors' in error && Array.isArray(error.errors) ? error.errors : [])]
}

/** Messages of an error and of everything behind it. */
export function texts(error: unknown): string {
  if (!isNativeError(error)) return ''
  const code = 'code' in error ? String(error.code) : ''
  return [code, error.message, ...behind(error).map(texts)].filter((text) => text !== '').join(': ')
}

/** What the broker says besides the code, which the client keeps in a field of its own: of a policy, only this tells which. */
function brokersWords(error: unknown): string {
  const said = isNativeError(error) && 'serverErrorMessage' in error ? error.serverErrorMessage : null
  return typeof said === 'string' && said !== '' ? `: ${said}` : ''
}

/** Where messages of the client and of Node have the name of a broker, which may hold anything. */
const BROKER = /\b(Connection to|getaddrinfo [A-Z_]+|connect [A-Z]+) \S+/g

/** What a broker says of ours. */
const REFUSED_CERTIFICATE = /alert (bad |unsupported )?certificate|alert (unknown ca|access denied)/i

/** By its code, and what OpenSSL and Node say of certificates: a closed connection may pass. */
function isTls(error: unknown): boolean {
  if (!isNativeError(error)) return false
  const code = 'code' in error ? String(error.code) : ''
  return (
    isTlsCode(code) ||
    /certificate|altnames|SSL routines/.test(error.message.replace(BROKER, '')) ||
    behind(error).some(isTls)
  )
}

const REFUSALS: ReadonlySet<number> = new Set([
  CODE.unsupportedSaslMechanism,
  CODE.illegalSaslState,
  CODE.saslAuthenticationFailed,
])

/** The client says so too where the connection broke while it authenticated. */
function isAuthentication(error: unknown): boolean {
  if (!isNativeError(error)) return false
  if (behind(error).some(isAuthentication) || codesOf(error).some((code) => REFUSALS.has(code))) return true
  return 'code' in error && error.code === 'PLT_KFK_AUTHENTICATION' && !isBroken(error.cause)
}

/** Or a token cannot be read now, which could be when the log was opened. */
function isBroken(error: unknown): boolean {
  return noResponse(error) || error instanceof EvertError || (isNativeError(error) && isBroken(error.cause))
}

/** An error as one that came with an answer. */
export function answered(code: number, message = `error ${code}`): Error {
  return Object.assign(new Error(message), { apiCode: code })
}

/** What was asked, for the message. */
export interface Asked {
  /** `topic "shop.public.cart" partition 3`, `transactional id "shop"` */
  readonly object: string
  readonly topic?: string
}

export function kafkaError(error: unknown, asked: Asked): EvertError {
  if (error instanceof EvertError) return error
  const [code] = codesOf(error).filter((found) => found !== CODE.none && !PASSING.has(found))
  if (code !== undefined) return codeError(code, asked, error)
  const said = texts(error)
  if (isAuthentication(error)) {
    return credentialsRefused(said, error)
  }
  if (isTls(error)) {
    return new EvertError('LOG_TLS', {
      message: `the TLS connection for ${asked.object} failed: ${said}`,
      hint: REFUSED_CERTIFICATE.test(said)
        ? 'check --kafka-cert-file and --kafka-key-file: the broker has refused them'
        : 'check --kafka-tls, --kafka-ca-file, and that the port is the TLS listener',
      cause: error,
    })
  }
  return new EvertError('LOG_UNAVAILABLE', { message: `${asked.object} is not available: ${said}`, cause: error })
}

function credentialsRefused(said: string, cause: unknown): EvertError {
  return new EvertError('LOG_AUTHENTICATION', {
    message: `Kafka refused the credentials: ${said}`,
    hint: 'check --kafka-sasl-mechanism, --kafka-username and --kafka-password (or --kafka-token-file)',
    cause,
  })
}

/** An error code that does not pass. */
export function codeError(code: number, asked: Asked, cause?: unknown): EvertError {
  const make = (kind: EvertError['code'], message: string, hint?: string): EvertError =>
    new EvertError(kind, {
      message,
      ...(hint === undefined ? {} : { hint }),
      ...(cause === undefined ? {} : { cause }),
    })
  switch (code) {
    case CODE.invalidProducerEpoch:
    case CODE.producerFenced:
      return make(
        'LOG_FENCED',
        `${asked.object}: another writer has taken the pipeline over, or the broker aborted its log transaction after --transaction-timeout`,
        'leave the other process running, or stop it and start this one again',
      )
    case CODE.topicAuthorizationFailed:
    case CODE.clusterAuthorizationFailed:
    case CODE.transactionalIdAuthorizationFailed:
      return make(
        'LOG_PERMISSION',
        `${asked.object}: Kafka does not allow it`,
        'grant with kafka-acls: Write, Read, Describe, Create, DescribeConfigs and AlterConfigs on the topics with the pipeline’s name as prefix, Write and Describe on the transactional ids with that prefix',
      )
    case CODE.messageTooLarge:
    case CODE.recordListTooLarge:
      return make(
        'RECORD_TOO_LARGE',
        `${asked.object}: larger than the topic accepts`,
        `kafka-configs --alter --entity-type topics --entity-name ${asked.topic ?? '…'} --add-config max.message.bytes=… (a batch may have 1 MB, and one event more); or --large-values omit, which asks for the limit`,
      )
    case CODE.invalidTopic:
      return make(
        'TOPIC_INVALID',
        `${asked.object}: Kafka refuses the name: it is longer than 249 characters, or differs from that of another topic only in . and _`,
        'leave the table out (--tables), or publish it by a pipeline with another --name',
      )
    case CODE.invalidReplicationFactor:
      return make(
        'LOG_CONFIGURATION',
        `${asked.object}: there are fewer brokers than --replication-factor asks for`,
        'a smaller --replication-factor',
      )
    case CODE.invalidTransactionTimeout:
      return make(
        'LOG_CONFIGURATION',
        `${asked.object}: --transaction-timeout is longer than the broker's transaction.max.timeout.ms`,
        'a shorter --transaction-timeout, or a larger transaction.max.timeout.ms',
      )
    case CODE.unsupportedSaslMechanism:
    case CODE.illegalSaslState:
    case CODE.saslAuthenticationFailed:
      return credentialsRefused(`error ${code}`, cause)
    case CODE.invalidTimestamp:
      return make(
        'LOG_CONFIGURATION',
        `${asked.object}: the broker refuses the commit time of the database's server as too far from its own clock`,
        `set the clocks right, or raise message.timestamp.after.max.ms of the topic${asked.topic === undefined ? '' : ` ${asked.topic}`}`,
      )
    case CODE.policyViolation:
    case CODE.invalidPartitions:
      return make('LOG_CONFIGURATION', `${asked.object}: refused by the cluster (error ${code})${brokersWords(cause)}`)
    case CODE.outOfOrderSequence:
    case CODE.invalidTxnState:
    case CODE.invalidProducerIdMapping:
    case CODE.unknownProducerId:
      return make(
        'LOG_UNAVAILABLE',
        `${asked.object}: the broker has lost the state of the log transaction (error ${code})`,
      )
    default:
      return make('LOG_PROTOCOL', `${asked.object}: Kafka answered with error ${code}${brokersWords(cause)}`)
  }
}
