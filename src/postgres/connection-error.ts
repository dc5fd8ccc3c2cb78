/**
 * Connection errors: what a refused connection or statement means. Codes are those of
 * https://www.postgresql.org/docs/current/errcodes-appendix.html, and Node's for sockets and certificates.
 */
import pg from 'pg'
import { type ErrorCode, EvertError } from '../base/errors.js'
import { type ConnectionOptions, describeHost, describeServer } from './connection-options.js'
import { passesByItself } from './server-error.js'
import { quoteIdentifier } from './sql.js'
import { isHandshakeCut, isTlsError } from './tls.js'

interface Meaning {
  readonly code: ErrorCode
  readonly hint?: string
}

/** Of an attempt to connect to one host. */
export function connectionError(
  error: unknown,
  at: { readonly options: ConnectionOptions; readonly host: string; readonly port: number },
): EvertError {
  if (error instanceof EvertError) return error
  const { options } = at
  const { code, hint } = error instanceof pg.DatabaseError ? refusal(error, options) : failure(error)
  const text =
    messageOf(error) === 'timeout expired' ? `no answer in ${options.connectTimeoutMs / 1000} s` : messageOf(error)
  return new EvertError(code, {
    message: `${describeHost(at)}/${options.database}: ${text}`,
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  })
}

/** The server has answered with an error. */
function refusal(error: pg.DatabaseError, { user, database }: ConnectionOptions): Meaning {
  const state = error.code ?? ''
  const role = quoteIdentifier(user)
  if (state === '42501') {
    if (!/database/.test(error.message)) {
      return {
        code: 'REPLICATION_PERMISSION',
        hint: `alter role ${role} replication; on RDS: grant rds_replication to ${role}`,
      }
    }
    return {
      code: 'POSTGRES_AUTHENTICATION',
      hint: `grant connect on database ${quoteIdentifier(database)} to ${role}`,
    }
  }
  if (state === '53300') {
    if (/max_wal_senders/.test(error.message)) {
      return {
        code: 'SLOTS_EXHAUSTED',
        hint: 'select pid, application_name from pg_stat_replication shows who uses them; or raise max_wal_senders and restart',
      }
    }
    return {
      code: 'POSTGRES_UNREACHABLE',
      hint: 'select pid, usename, application_name from pg_stat_activity shows who is connected; or raise max_connections and restart',
    }
  }
  if (/^(28|3D)/.test(state)) {
    return {
      code: 'POSTGRES_AUTHENTICATION',
      hint: /pg_hba/.test(error.message)
        ? `add a line to the server's pg_hba.conf, such as: host ${database} ${user} <address of evert>/32 scram-sha-256`
        : 'check user, password and database of --source',
    }
  }
  if (state === '57P03') return { code: 'POSTGRES_UNREACHABLE', hint: 'it starts or stops: evert tries again' }
  return { code: passesByItself(state) ? 'POSTGRES_UNREACHABLE' : 'POSTGRES_QUERY' }
}

/** Nobody has answered, or not as the protocol goes. */
function failure(error: unknown): Meaning {
  if (/^SASL|SCRAM/.test(messageOf(error))) {
    return { code: 'POSTGRES_AUTHENTICATION', hint: 'check user and password of --source' }
  }
  if (isTlsError(error) && !isHandshakeCut(messageOf(error))) {
    return {
      code: 'POSTGRES_TLS',
      hint: 'see sslmode and sslrootcert of --source; sslmode=prefer goes on without TLS where the server has none',
    }
  }
  return { code: 'POSTGRES_UNREACHABLE', hint: 'is the server up, and its address right?' }
}

const LOCKS =
  'each reader of a snapshot locks every table with its indexes: fewer --readers, or raise max_locks_per_transaction and restart'

/** Of a statement: refused, or the connection broke under it. */
export function queryError(error: unknown, options: ConnectionOptions): EvertError {
  if (error instanceof EvertError) return error
  const message = `${describeServer(options)}: ${messageOf(error)}`
  const state = sqlState(error)
  if (state === '42501') return new EvertError('POSTGRES_PERMISSION', { message, cause: error })
  const code = state === '' || passesByItself(state) ? 'POSTGRES_CONNECTION_LOST' : 'POSTGRES_QUERY'
  const locks = state === '53200' && /shared memory/.test(message)
  return new EvertError(code, { message, cause: error, ...(locks ? { hint: LOCKS } : {}) })
}

/** SQLSTATE of the server's answer behind an error, or an empty text. */
export function sqlState(error: unknown): string {
  const cause = error instanceof EvertError ? error.cause : error
  return cause instanceof pg.DatabaseError ? (cause.code ?? '') : ''
}

/** A host with several addresses fails with an error for each, and no message of its own. */
function messageOf(error: unknown): string {
  const { message, errors = [] } = error as { readonly message: string; readonly errors?: readonly unknown[] }
  return message || errors.map(messageOf).join(', ')
}
