/** Connection: an authenticated session on `pg`, with every value as Postgres' own text. */
import type net from 'node:net'
import pg from 'pg'
import { assert } from '../base/assert.js'
import { EvertError } from '../base/errors.js'
import { connectionError, queryError, sqlState } from './connection-error.js'
import { type ConnectionOptions, describeHost } from './connection-options.js'
import { readPassword } from './password-file.js'
import { sql } from './sql.js'
import { encryptions, isTlsError, isTlsMissing, tlsOptions } from './tls.js'

/** A row of a query: text as Postgres printed it, null for NULL. */
export type Row = Readonly<Record<string, string | null>>

export interface Connection {
  readonly socket: net.Socket
  readonly encrypted: boolean
  /** The host that answered. */
  readonly host: string
  readonly processId: number
  /** Errors: POSTGRES_QUERY, POSTGRES_PERMISSION, POSTGRES_CONNECTION_LOST. */
  query(text: string): Promise<Row[]>
  /** Never fails, and does not wait long for a server that is gone. */
  close(): Promise<void>
}

export interface ConnectRequest {
  /** A replication connection also takes the commands of the replication protocol. */
  readonly kind: 'ordinary' | 'replication'
  readonly signal: AbortSignal
  /** Makes the socket of a connection without TLS; with TLS Node's own is used. */
  readonly rawSocket?: () => net.Socket
}

/**
 * Fixes the text form of values, whatever the server, database or role is set to; and nothing may end a session that waits, or a
 * snapshot of a large table. https://www.postgresql.org/docs/current/runtime-config-client.html#RUNTIME-CONFIG-CLIENT-FORMAT
 */
const SESSION = [
  'DateStyle=ISO',
  'IntervalStyle=iso_8601',
  'TimeZone=UTC',
  'extra_float_digits=3',
  'bytea_output=hex',
  'lc_monetary=C',
  'search_path=pg_catalog',
  'statement_timeout=0',
  'lock_timeout=0',
  'idle_in_transaction_session_timeout=0',
  'idle_session_timeout=0',
]

/** How long the server may take to close its end. */
const CLOSE_MS = 1000

interface Attempt {
  readonly host: string
  readonly port: number
  readonly encrypted: boolean
}

/**
 * Tries the hosts in turn; one that answers and refuses ends the search, as in libpq. Errors: POSTGRES_UNREACHABLE,
 * POSTGRES_AUTHENTICATION, POSTGRES_TLS, REPLICATION_PERMISSION, SLOTS_EXHAUSTED; the signal's reason after an abort.
 */
export async function connect(options: ConnectionOptions, request: ConnectRequest): Promise<Connection> {
  const failures: EvertError[] = []
  for (const { host, port } of options.hosts) {
    request.signal.throwIfAborted()
    try {
      return await connectToHost(options, request, { host, port })
    } catch (error) {
      request.signal.throwIfAborted()
      const failure = connectionError(error, { options, host, port })
      failures.push(failure)
      if (!failure.retry) break
    }
  }
  const last = failures.at(-1)
  assert(last !== undefined, 'there is no host to connect to')
  if (failures.length === 1) throw last
  throw new EvertError(last.code, {
    message: failures.map(({ message }) => message).join('; '),
    ...(last.hint === undefined ? {} : { hint: last.hint }),
    cause: last.cause,
  })
}

/** With TLS, without, or one after the other: the second way where the first was refused for being what it is. */
async function connectToHost(
  options: ConnectionOptions,
  request: ConnectRequest,
  at: { readonly host: string; readonly port: number },
): Promise<Connection> {
  const [first = false, second] = encryptions(options.tls.mode, at.host)
  try {
    return await connectOnce(options, request, { ...at, encrypted: first })
  } catch (error) {
    if (second === undefined || !(isTlsError(error) || sqlState(error) === '28000')) throw error
    try {
      return await connectOnce(options, request, { ...at, encrypted: second })
    } catch (secondError) {
      // The one that got further says more.
      const bothRefused = sqlState(secondError) === '28000' || isTlsError(secondError)
      throw bothRefused && !isTlsMissing(error) ? error : secondError
    }
  }
}

async function connectOnce(options: ConnectionOptions, request: ConnectRequest, attempt: Attempt): Promise<Connection> {
  request.signal.throwIfAborted()
  const client = new pg.Client(clientConfig(options, request, attempt))
  // A connection that ends while nobody is asking it anything is found out by the next query, or by who took its socket.
  client.on('error', () => undefined)
  const { connection } = client as unknown as ClientInternals
  const onAbort = (): void => void connection.stream.destroy()
  request.signal.addEventListener('abort', onAbort, { once: true })
  try {
    await client.connect()
    if (request.kind === 'ordinary') await client.query(sql('session'))
    request.signal.throwIfAborted()
  } catch (error) {
    connection.stream.destroy()
    throw error
  } finally {
    request.signal.removeEventListener('abort', onAbort)
  }
  return wrap(client, options, attempt)
}

function clientConfig(options: ConnectionOptions, request: ConnectRequest, attempt: Attempt): pg.ClientConfig {
  const { host, port, encrypted } = attempt
  const config = {
    host,
    port,
    user: options.user,
    database: options.database,
    password: () => password(options, attempt),
    ssl: encrypted ? tlsOptions(options.tls) : false,
    sslnegotiation: 'postgres',
    ...(encrypted || request.rawSocket === undefined ? {} : { stream: request.rawSocket }),
    ...(request.kind === 'replication' ? { replication: 'database' } : {}),
    // The last one counts: what evert needs cannot be overridden.
    options: `${options.sessionOptions} ${SESSION.map((setting) => `-c ${setting}`).join(' ')}`.trim(),
    client_encoding: 'UTF8',
    application_name: options.applicationName,
    connectionTimeoutMillis: options.connectTimeoutMs,
    keepAlive: true,
    // Type parsers lose digits and microseconds: everything stays text.
    types: { getTypeParser: () => (text: string) => text },
  }
  return config as pg.ClientConfig
}

/** Asked only where the server wants one. Error: POSTGRES_AUTHENTICATION. */
async function password(options: ConnectionOptions, { host, port }: Attempt): Promise<string> {
  const { user, database } = options
  if (options.password !== null) return options.password
  const found = readPassword(options.passwordFile, { host, port, database, user })
  if (found.password !== null) return found.password
  throw new EvertError('POSTGRES_AUTHENTICATION', {
    message: `${describeHost({ host, port })}/${database} asks for the password of user "${user}", and none was given`,
    hint: `set PGPASSWORD, or add a line to ~/.pgpass (${found.why})`,
  })
}

/** What `pg` keeps to itself: the socket, and the backend's process id. */
interface ClientInternals {
  readonly connection: { readonly stream: net.Socket }
  readonly processID: number
}

function wrap(client: pg.Client, options: ConnectionOptions, attempt: Attempt): Connection {
  const { connection, processID } = client as unknown as ClientInternals
  return {
    socket: connection.stream,
    encrypted: attempt.encrypted,
    host: attempt.host,
    processId: processID,
    async query(text) {
      try {
        const result = await client.query<Record<string, string | null>>(text)
        return result.rows
      } catch (error) {
        throw queryError(error, options)
      }
    },
    async close() {
      const late = setTimeout(() => connection.stream.destroy(), CLOSE_MS)
      await client.end().catch(() => undefined)
      clearTimeout(late)
    },
  }
}
