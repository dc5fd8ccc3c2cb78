/** Connection options: from a URL, the libpq variables and their defaults, as libpq reads them. */
import { EvertError } from '../base/errors.js'

/** https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS */
export const TLS_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
export type TlsMode = (typeof TLS_MODES)[number]

export interface ConnectionOptions {
  /** Tried in turn. A host that begins with a slash is the folder of a Unix socket. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[]
  readonly user: string
  /** Null where none was given: ~/.pgpass is asked for each host. */
  readonly password: string | null
  readonly database: string
  readonly tls: {
    readonly mode: TlsMode
    readonly rootCertFile: string | null
    readonly certFile: string | null
    readonly keyFile: string | null
  }
  readonly connectTimeoutMs: number
  readonly applicationName: string
}

/** URL parameter, libpq variable: https://www.postgresql.org/docs/current/libpq-envars.html */
const PARAMETERS = {
  host: 'PGHOST',
  port: 'PGPORT',
  user: 'PGUSER',
  password: 'PGPASSWORD',
  dbname: 'PGDATABASE',
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  application_name: 'PGAPPNAME',
} as const
type Parameter = keyof typeof PARAMETERS

/** libpq's own default is 0 (for ever); a daemon that tries hosts in turn wants an answer. */
const CONNECT_TIMEOUT_S = 10

/** Error: OPTION_INVALID, which never repeats the URL, since it may hold a password. */
export function connectionOptions(
  url: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  osUser: string,
): ConnectionOptions {
  const given = url === undefined ? new Map<Parameter, string>() : parseUrl(url)
  const get = (name: Parameter): string | null => {
    const value = given.get(name) ?? environment[PARAMETERS[name]]
    return value === undefined || value === '' ? null : value
  }
  const user = get('user') ?? osUser
  const mode = get('sslmode') ?? 'prefer'
  if (!(TLS_MODES as readonly string[]).includes(mode)) {
    throw invalid(`sslmode "${mode}" is not known`, `one of ${TLS_MODES.join(', ')}`)
  }
  const timeout = Number(get('connect_timeout') ?? CONNECT_TIMEOUT_S)
  if (!Number.isFinite(timeout) || timeout < 0) throw invalid('connect_timeout is not a number of seconds')
  return {
    hosts: hosts(get('host') ?? 'localhost', get('port') ?? '5432'),
    user,
    password: get('password'),
    database: get('dbname') ?? user,
    tls: { mode: mode as TlsMode, rootCertFile: get('sslrootcert'), certFile: get('sslcert'), keyFile: get('sslkey') },
    connectTimeoutMs: (timeout === 0 ? CONNECT_TIMEOUT_S : timeout) * 1000,
    applicationName: get('application_name') ?? 'evert',
  }
}

/** `host:port/database`, for messages: no user, no password. */
export function describeServer(options: ConnectionOptions): string {
  return `${options.hosts.map(({ host, port }) => `${host}:${port}`).join(',')}/${options.database}`
}

function invalid(message: string, hint = 'postgres://user:password@host:5432/database?sslmode=prefer'): EvertError {
  return new EvertError('OPTION_INVALID', { message: `--source: ${message}`, hint })
}

/** postgres://user:password@h1:5432,h2:5433/database?parameters, which the URL class does not read because of several hosts. */
function parseUrl(url: string): Map<Parameter, string> {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url)
  if (match === null) throw invalid('it is not a postgres:// URL')
  const [, credentials, authority = '', database, query] = match
  const values = new Map<Parameter, string>()
  const set = (name: Parameter, text: string | undefined): void => {
    if (text !== undefined && text !== '') values.set(name, decode(text))
  }
  if (credentials !== undefined) {
    const colon = credentials.indexOf(':')
    set('user', colon === -1 ? credentials : credentials.slice(0, colon))
    set('password', colon === -1 ? undefined : credentials.slice(colon + 1))
  }
  const parts = authority === '' ? [] : authority.split(',').map(splitHost)
  set('host', parts.map((part) => part.host).join(','))
  if (parts.some((part) => part.port !== '')) set('port', parts.map((part) => part.port || '5432').join(','))
  set('dbname', database)
  for (const [name, value] of new URLSearchParams(query ?? '')) {
    const known = name === 'ssl' ? 'sslmode' : name
    if (!(known in PARAMETERS)) {
      throw invalid(`the parameter "${name}" is not known`, `known are ${Object.keys(PARAMETERS).join(', ')}`)
    }
    values.set(known as Parameter, name === 'ssl' ? (value === 'true' ? 'require' : 'disable') : value)
  }
  return values
}

function splitHost(part: string): { host: string; port: string } {
  const match = /^(\[[^\]]+\]|[^:]*)(?::(\d+))?$/.exec(part)
  if (match === null) throw invalid('a host is not `name:port`')
  const host = match[1] ?? ''
  return { host: host.startsWith('[') ? host.slice(1, -1) : host, port: match[2] ?? '' }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid('it has a % that is not followed by two hexadecimal digits', 'write a percent sign as %25')
  }
}

/** One port for all hosts, or one for each. */
function hosts(hostText: string, portText: string): { host: string; port: number }[] {
  const names = hostText.split(',')
  const ports = portText.split(',').map(Number)
  if (ports.some((port) => !Number.isInteger(port) || port < 1 || port > 65535)) throw invalid('a port is not a port')
  if (ports.length !== 1 && ports.length !== names.length) throw invalid('there are not as many ports as hosts')
  return names.map((host, index) => ({ host, port: ports[ports.length === 1 ? 0 : index] ?? 5432 }))
}
