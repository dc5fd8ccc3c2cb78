/** Connection: an authenticated session on `pg`, with every value as Postgres' own text. */
import { readFileSync, existsSync } from 'node:fs'
import net from 'node:net'
import { homedir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { EvertError } from '../base/errors.js'
import { type ConnectionOptions, describeServer, type TlsMode } from './connection-options.js'

/** A row of a query: text as Postgres printed it, null for NULL. */
export type Row = Readonly<Record<string, string | null>>

export interface Connection {
  readonly socket: net.Socket
  readonly encrypted: boolean
  /** The host that answered. */
  readonly host: string
  readonly processId: number
  query(text: string): Promise<Row[]>
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
 * Fixes the text form of values, whatever the server, database or role is set to:
 * https://www.postgresql.org/docs/current/runtime-config-client.html#RUNTIME-CONFIG-CLIENT-FORMAT
 */
const SESSION =
  '-c DateStyle=ISO -c IntervalStyle=iso_8601 -c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex -c lc_monetary=C' +
  ' -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0'

interface Attempt {
  readonly host: string
  readonly port: number
  readonly encrypted: boolean
}

/** Tries the hosts in turn. Errors: POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, POSTGRES_TLS, REPLICATION_PERMISSION, … */
export async function connect(options: ConnectionOptions, request: ConnectRequest): Promise<Connection> {
  let last: EvertError | null = null
  for (const { host, port } of options.hosts) {
    for (const encrypted of encryptions(options.tls.mode, host)) {
      request.signal.throwIfAborted()
      try {
        return await connectOnce(options, request, { host, port, encrypted })
      } catch (error) {
        last = connectionError(error, { options, host, port })
        if (!worthAnother(error, options.tls.mode, encrypted)) break
      }
    }
    if (last !== null && !last.retry) break
  }
  throw last ?? new EvertError('POSTGRES_UNREACHABLE', { message: `no host in ${describeServer(options)}` })
}

/** With or without TLS, in the order libpq tries them; never TLS on a Unix socket. */
function encryptions(mode: TlsMode, host: string): readonly boolean[] {
  if (mode === 'disable' || host.startsWith('/')) return [false]
  if (mode === 'allow') return [false, true]
  return mode === 'prefer' ? [true, false] : [true]
}

/** Whether the mode's second way may do better: the server has no TLS, or wants one for this user. */
function worthAnother(error: unknown, mode: TlsMode, encrypted: boolean): boolean {
  if (mode === 'allow' && !encrypted) return codeOf(error) === '28000'
  if (mode !== 'prefer' || !encrypted) return false
  return codeOf(error) === '28000' || /does not support SSL|SSL connection|TLS|ssl|certificate/.test(messageOf(error))
}

async function connectOnce(options: ConnectionOptions, request: ConnectRequest, attempt: Attempt): Promise<Connection> {
  const { host, port, encrypted } = attempt
  const rawSocket = encrypted ? undefined : request.rawSocket
  const client = new pg.Client({
    host,
    port,
    user: options.user,
    database: options.database,
    ...(options.password === null ? {} : { password: options.password }),
    ssl: encrypted ? tlsOptions(options, host) : false,
    ...(rawSocket === undefined ? {} : { stream: rawSocket }),
    ...(request.kind === 'replication' ? { replication: 'database' } : {}),
    options: SESSION,
    client_encoding: 'UTF8',
    application_name: options.applicationName,
    connectionTimeoutMillis: options.connectTimeoutMs,
    keepAlive: true,
    // Type parsers lose digits and microseconds: everything stays text.
    types: { getTypeParser: () => (text: string) => text },
  } as pg.ClientConfig)
  // A connection that ends while nobody is asking it anything is found out by the next query, or by who took its socket.
  client.on('error', () => undefined)
  const onAbort = (): void => void client.end().catch(() => undefined)
  request.signal.addEventListener('abort', onAbort, { once: true })
  try {
    await client.connect()
  } catch (error) {
    await client.end().catch(() => undefined)
    throw error
  } finally {
    request.signal.removeEventListener('abort', onAbort)
  }
  return wrap(client, options, attempt)
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
      await client.end().catch(() => undefined)
    },
  }
}

/** require does not verify, unless a root certificate is there: then it is verify-ca, as in libpq. */
function tlsOptions(options: ConnectionOptions, host: string): object {
  const { mode, certFile, keyFile } = options.tls
  const ownRoot = join(homedir(), '.postgresql', 'root.crt')
  const rootFile = options.tls.rootCertFile ?? (existsSync(ownRoot) ? ownRoot : null)
  const verify = mode === 'verify-ca' || mode === 'verify-full' || (mode === 'require' && rootFile !== null)
  return {
    rejectUnauthorized: verify,
    ...(verify && rootFile !== null && rootFile !== 'system' ? { ca: read('sslrootcert', rootFile) } : {}),
    ...(certFile === null ? {} : { cert: read('sslcert', certFile) }),
    ...(keyFile === null ? {} : { key: read('sslkey', keyFile) }),
    ...(net.isIP(host) === 0 ? { servername: host } : {}),
    ...(mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  }
}

function read(parameter: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new EvertError('POSTGRES_TLS', { message: `${parameter}: ${file} cannot be read`, cause: error })
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function messageOf(error: unknown): string {
  return error instanceof Error
    ? error.message || (error.cause instanceof Error ? error.cause.message : codeOf(error))
    : String(error)
}

/** Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html, and Node's for sockets and certificates. */
function connectionError(
  error: unknown,
  where: { options: ConnectionOptions; host: string; port: number },
): EvertError {
  if (error instanceof EvertError) return error
  const { options, host, port } = where
  const code = codeOf(error)
  const text = messageOf(error)
  const server = `${host}:${port}/${options.database}`
  const make = (kind: EvertError['code'], hint?: string): EvertError =>
    new EvertError(kind, { message: `${server}: ${text}`, ...(hint === undefined ? {} : { hint }), cause: error })
  if (code === '42501' || /permission denied to start WAL sender|must be superuser or replication role/.test(text)) {
    return make('REPLICATION_PERMISSION', `alter role "${options.user}" replication`)
  }
  if (code === '53300' && /max_wal_senders/.test(text)) {
    return make('SLOTS_EXHAUSTED', 'raise max_wal_senders, or see who uses them: select * from pg_stat_replication')
  }
  if (/^(28|3D)/.test(code) || /password|SASL|SCRAM/.test(text)) {
    return make(
      'POSTGRES_AUTHENTICATION',
      'check user, password and database of --source, and pg_hba.conf of the server',
    )
  }
  if (
    /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO)/.test(code) ||
    /certificate|SSL|TLS/.test(text)
  ) {
    return make(
      'POSTGRES_TLS',
      'see sslmode and sslrootcert of --source; sslmode=prefer goes on without TLS where the server has none',
    )
  }
  return make('POSTGRES_UNREACHABLE', 'is the server up, and its address right?')
}

/** A refused statement, or a broken connection. */
export function queryError(error: unknown, options: ConnectionOptions): EvertError {
  if (error instanceof EvertError) return error
  const code = codeOf(error)
  const message = `${describeServer(options)}: ${messageOf(error)}`
  if (code === '42501') return new EvertError('POSTGRES_PERMISSION', { message, cause: error })
  const refused = /^[0-9A-Z]{5}$/.test(code) && !/^(08|53|57)/.test(code)
  return new EvertError(refused ? 'POSTGRES_QUERY' : 'POSTGRES_CONNECTION_LOST', { message, cause: error })
}

/** SQLSTATE of the server's answer behind an error, or an empty text. */
export function sqlState(error: unknown): string {
  return error instanceof EvertError ? codeOf(error.cause) : codeOf(error)
}
