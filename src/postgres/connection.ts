/** Connection: an authenticated session on `pg`, with every value as Postgres' own text. */
import type net from 'node:net'
import pg from 'pg'
import { assert } from '../base/assert.js'
import { EvertError } from '../base/errors.js'
import { connectionError, queryError, sqlState } from './connection-error.js'
import { type ConnectionOptions, describeHost, type Host, type SessionTarget } from './connection-options.js'
import { readPassword } from './password-file.js'
import { sql } from './sql.js'
import { encryptions, isTlsError, isTlsMissing, tlsOptions } from './tls.js'

/** A row of a query: text as Postgres printed it, null for NULL. */
export type Row = Readonly<Record<string, string | null>>

export interface Connection {
  readonly socket: net.Socket
  /** The host that answered. */
  readonly at: Host
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
  /** A query that has no answer by then is given up, with its connection; unlimited where it is not given. */
  readonly queryTimeoutMs?: number
  /** Instead of the server's own wal_sender_timeout: the server ends the session of a client that is silent for so long. */
  readonly walSenderTimeoutMs?: number
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
const KEEP_ALIVE_MS = 10_000

interface Attempt extends Host {
  readonly encrypted: boolean
}

/**
 * Tries the hosts in turn until one is what target_session_attrs asks for; one that answers and refuses ends the search, as in libpq.
 * Errors: POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, POSTGRES_TLS, REPLICATION_PERMISSION, SLOTS_EXHAUSTED; the signal's reason after
 * an abort.
 */
export async function connect(options: ConnectionOptions, request: ConnectRequest): Promise<Connection> {
  const failures: EvertError[] = []
  const targets: SessionTarget[] = options.target === 'prefer-standby' ? ['standby', 'any'] : [options.target]
  for (const target of targets) {
    for (const host of options.hosts) {
      request.signal.throwIfAborted()
      try {
        return await connectToHost({ ...options, target }, request, host)
      } catch (error) {
        request.signal.throwIfAborted()
        const failure = connectionError(error, { options, ...host })
        failures.push(failure)
        if (!failure.retry) throw allOf(failures)
      }
    }
  }
  throw allOf(failures)
}

function allOf(failures: readonly EvertError[]): EvertError {
  const last = failures.at(-1)
  assert(last !== undefined, 'there is no host to connect to')
  if (failures.length === 1) return last
  return new EvertError(last.code, {
    message: failures.map(({ message }) => message).join('; '),
    ...(last.hint === undefined ? {} : { hint: last.hint }),
    cause: last.cause,
  })
}

/** With TLS, without, or one after the other: the second way where the first was refused for being what it is. */
async function connectToHost(options: ConnectionOptions, request: ConnectRequest, at: Host): Promise<Connection> {
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
  const reported = new Map<string, string>()
  connection.on('parameterStatus', ({ parameterName, parameterValue }) => reported.set(parameterName, parameterValue))
  const onAbort = (): void => void connection.stream.destroy()
  request.signal.addEventListener('abort', onAbort, { once: true })
  try {
    await client.connect()
    requireTarget(options.target, reported, attempt)
    await client.query(sql('session'))
    request.signal.throwIfAborted()
  } catch (error) {
    connection.stream.destroy()
    throw error
  } finally {
    request.signal.removeEventListener('abort', onAbort)
  }
  return wrap(client, options, attempt)
}

/** What a server says of itself as it greets: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC */
function requireTarget(target: SessionTarget, reported: ReadonlyMap<string, string>, at: Host): void {
  const standby = reported.get('in_hot_standby') === 'on'
  const readOnly = standby || reported.get('default_transaction_read_only') === 'on'
  const fits =
    target === 'any' ||
    (target === 'primary' && !standby) ||
    (target === 'standby' && standby) ||
    (target === 'read-write' && !readOnly) ||
    (target === 'read-only' && readOnly)
  if (fits) return
  throw new EvertError('POSTGRES_UNREACHABLE', {
    message: `${describeHost(at)} is a ${standby ? 'standby' : 'primary'}${readOnly && !standby ? ' that takes no writes' : ''}, and target_session_attrs=${target}`,
    hint: 'evert waits for one that is; target_session_attrs=any in --source takes whichever answers first',
  })
}

function clientConfig(options: ConnectionOptions, request: ConnectRequest, attempt: Attempt): pg.ClientConfig {
  const { host, port, encrypted } = attempt
  const { walSenderTimeoutMs, queryTimeoutMs } = request
  const settings = [
    ...SESSION,
    ...(walSenderTimeoutMs === undefined ? [] : [`wal_sender_timeout=${walSenderTimeoutMs}`]),
  ]
  const config = {
    host,
    port,
    user: options.user,
    database: options.database,
    password: () => password(options, attempt),
    ssl: encrypted ? tlsOptions(options.tls) : false,
    sslnegotiation: 'postgres',
    ...(request.kind === 'replication' ? { replication: 'database' } : {}),
    // The last one counts: what evert needs cannot be overridden.
    options: `${options.sessionOptions} ${settings.map((setting) => `-c ${setting}`).join(' ')}`.trim(),
    client_encoding: 'UTF8',
    application_name: options.applicationName,
    connectionTimeoutMillis: options.connectTimeoutMs,
    keepAlive: true,
    // A server that is gone without a word while rows are waited for is found out after this and Node's ten probes, not after two hours.
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    ...(queryTimeoutMs === undefined ? {} : { query_timeout: queryTimeoutMs }),
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
  readonly connection: {
    readonly stream: net.Socket
    on(
      event: 'parameterStatus',
      listener: (message: { readonly parameterName: string; readonly parameterValue: string }) => void,
    ): void
  }
  readonly processID: number
}

function wrap(client: pg.Client, options: ConnectionOptions, attempt: Attempt): Connection {
  const { connection, processID } = client as unknown as ClientInternals
  return {
    socket: connection.stream,
    at: { host: attempt.host, port: attempt.port },
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
