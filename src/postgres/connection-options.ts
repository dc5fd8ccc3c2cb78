/** Connection options: from a URL, the libpq variables and their defaults, as libpq reads them. */
import { EvertError } from '../base/errors.js'
import { nearest } from '../base/nearest.js'

/** https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS */
export const TLS_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
export type TlsMode = (typeof TLS_MODES)[number]

/** https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS */
export const SESSION_TARGETS = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const
export type SessionTarget = (typeof SESSION_TARGETS)[number]

export interface TlsFiles {
  readonly mode: TlsMode
  /** Null where none was given; `system` stands for the authorities that Node trusts. */
  readonly rootCertFile: string | null
  readonly certFile: string | null
  readonly keyFile: string | null
  /** ~/.postgresql, where libpq looks for root.crt, postgresql.crt and postgresql.key that were not given; null without a home. */
  readonly folder: string | null
}

export interface Host {
  /** One that begins with a slash is the folder of a Unix socket. */
  readonly host: string
  readonly port: number
}

export interface ConnectionOptions {
  /** Tried in turn. */
  readonly hosts: readonly Host[]
  /** Which of them will do. */
  readonly target: SessionTarget
  readonly user: string
  /** Null where none was given: the password file is asked for each host. */
  readonly password: string | null
  readonly passwordFile: string | null
  readonly database: string
  readonly tls: TlsFiles
  /** For each host; 0 waits for ever. */
  readonly connectTimeoutMs: number
  readonly applicationName: string
  /** Command-line options for the session, such as `-c search_path=app`. */
  readonly sessionOptions: string
}

/** URL parameter, libpq variable: https://www.postgresql.org/docs/current/libpq-envars.html */
const PARAMETERS = {
  host: 'PGHOST',
  port: 'PGPORT',
  user: 'PGUSER',
  password: 'PGPASSWORD',
  passfile: 'PGPASSFILE',
  dbname: 'PGDATABASE',
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  target_session_attrs: 'PGTARGETSESSIONATTRS',
  application_name: 'PGAPPNAME',
  options: 'PGOPTIONS',
} as const
type Parameter = keyof typeof PARAMETERS

/** libpq's own default is 0 (for ever); a daemon that tries hosts in turn wants an answer. */
const CONNECT_TIMEOUT_S = 10
/** What a timer can hold. */
const TIMEOUT_MAX_MS = 2 ** 31 - 1

const URL_FORM =
  'postgres://user:password@host:5432/database?sslmode=prefer; in a user name or password @ / ? : % are written %40 %2F %3F %3A %25'

/**
 * What the URL leaves out comes from the environment (with HOME, for the files in it), and then from libpq's defaults, with two
 * exceptions: the default host is localhost, since where the socket is differs between builds; and of several hosts the primary is
 * taken, since a standby that answers first may be promoted later than the slot is gone. Error: OPTION_INVALID, which never repeats the
 * URL, since it may hold a password.
 */
export function connectionOptions(
  url: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  osUser: string,
): ConnectionOptions {
  const given = url === undefined ? new Map<Parameter, string>() : parseUrl(url)
  const get = (name: Parameter): string | null => given.get(name) || environment[PARAMETERS[name]] || null
  const home = environment['HOME'] || null
  const user = get('user') ?? osUser
  const all = hosts(get('host') ?? 'localhost', get('port') ?? '5432')
  return {
    hosts: all,
    target: target(get('target_session_attrs') ?? (all.length > 1 ? 'primary' : 'any')),
    user,
    password: get('password'),
    passwordFile: get('passfile') ?? (home === null ? null : `${home}/.pgpass`),
    database: get('dbname') ?? user,
    tls: {
      mode: tlsMode(get('sslmode'), get('sslrootcert')),
      rootCertFile: get('sslrootcert'),
      certFile: get('sslcert'),
      keyFile: get('sslkey'),
      folder: home === null ? null : `${home}/.postgresql`,
    },
    connectTimeoutMs: timeoutMs(get('connect_timeout')),
    applicationName: get('application_name') ?? 'evert',
    sessionOptions: get('options') ?? '',
  }
}

/** `host:port/database`, for messages: no user, no password. */
export function describeServer(options: ConnectionOptions): string {
  return `${options.hosts.map(describeHost).join(',')}/${options.database}`
}

/** `host:port`, `[::1]:5432` */
export function describeHost({ host, port }: Host): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function invalid(message: string, hint = URL_FORM): EvertError {
  return new EvertError('OPTION_INVALID', { message: `--source: ${message}`, hint })
}

/** https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT for what `system` asks of the mode. */
function tlsMode(text: string | null, rootCertFile: string | null): TlsMode {
  const mode = text ?? (rootCertFile === 'system' ? 'verify-full' : 'prefer')
  if (!isTlsMode(mode)) {
    throw invalid(`sslmode "${mode}" is not known`, meant(mode, TLS_MODES))
  }
  if (rootCertFile === 'system' && mode !== 'verify-full') {
    throw invalid(`sslmode "${mode}" is too weak for sslrootcert=system`, 'sslmode=verify-full')
  }
  return mode
}

function target(text: string): SessionTarget {
  const known = SESSION_TARGETS.find((one) => one === text)
  if (known !== undefined) return known
  throw invalid(`target_session_attrs "${text}" is not known`, meant(text, SESSION_TARGETS))
}

function isTlsMode(mode: string): mode is TlsMode {
  return (TLS_MODES as readonly string[]).includes(mode)
}

function meant(word: string, known: readonly string[]): string {
  const near = nearest(word, known)
  return near === null ? `known are ${known.join(', ')}` : `did you mean "${near}"? Known are ${known.join(', ')}`
}

function timeoutMs(text: string | null): number {
  if (text === null) return CONNECT_TIMEOUT_S * 1000
  if (!/^-?\d+$/.test(text)) throw invalid('connect_timeout is not a whole number of seconds', 'connect_timeout=10')
  return Math.min(Math.max(Number(text), 0) * 1000, TIMEOUT_MAX_MS)
}

/**
 * postgres://user:password@h1:5432,h2:5433/database?parameters, which the URL class does not read because of several hosts. An @ that
 * was not written %40 is refused, or a part of the password would pass for the host and stand in messages.
 */
function parseUrl(url: string): Map<Parameter, string> {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^@/?]*)(?:\/([^@?]*))?(?:\?(.*))?$/s.exec(url)
  if (match === null) throw invalid('it is not a postgres:// URL')
  const [, credentials = '', authority = '', database = '', query = ''] = match
  const colon = credentials.indexOf(':')
  const parts = authority.split(',').map(splitHost)
  const values = new Map<Parameter, string>([
    ['user', decode(colon === -1 ? credentials : credentials.slice(0, colon))],
    ['password', decode(colon === -1 ? '' : credentials.slice(colon + 1))],
    ['host', authority === '' ? '' : parts.map((part) => part.host).join(',')],
    ['port', parts.some((part) => part.port !== '') ? parts.map((part) => part.port).join(',') : ''],
    ['dbname', decode(database)],
  ])
  for (const pair of query.split('&')) {
    if (pair === '') continue
    // A password with a question mark in it looks like parameters, up to its @.
    const [name, value] = parameter(pair, query.includes('@'))
    values.set(name, value)
  }
  return values
}

/** `name=value`. A plus is a plus here, as in libpq. */
function parameter(pair: string, secret: boolean): [Parameter, string] {
  const equals = pair.indexOf('=')
  const name = decode(equals === -1 ? pair : pair.slice(0, equals))
  const known = Object.keys(PARAMETERS)
  // What JDBC calls it, which libpq takes too.
  if (pair === 'ssl=true') return ['sslmode', 'require']
  const shown = secret ? 'a parameter' : `the parameter "${name}"`
  if (!isParameter(name)) throw invalid(`${shown} is not known`, meant(name, known))
  if (equals === -1) throw invalid(`the parameter "${name}" has no value`)
  return [name, decode(pair.slice(equals + 1))]
}

function isParameter(name: string): name is Parameter {
  return Object.hasOwn(PARAMETERS, name)
}

function splitHost(part: string): { host: string; port: string } {
  const match = /^(\[[^\]]+\]|[^:[\]]*)(?::(\d*))?$/.exec(part)
  if (match === null) throw invalid('a host is not `name:port` (an IPv6 address stands in brackets)')
  const [, host = '', port = ''] = match
  return { host: decode(host.startsWith('[') ? host.slice(1, -1) : host), port }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid('it has a % that is not followed by two hexadecimal digits', 'write a percent sign as %25')
  }
}

/** One port for all hosts, or one for each; an empty one is the default. */
function hosts(hostText: string, portText: string): Host[] {
  const names = hostText.split(',')
  const ports = portText.split(',').map((port) => (port === '' ? 5432 : Number(port)))
  if (ports.some((port) => !Number.isInteger(port) || port < 1 || port > 65535)) {
    throw invalid('a port is not a number from 1 to 65535')
  }
  if (ports.length !== 1 && ports.length !== names.length) {
    throw invalid(
      `there are ${names.length} hosts and ${ports.length} ports`,
      'one port for all hosts, or one for each',
    )
  }
  return names.map((host, index) => ({
    host: host || 'localhost',
    port: ports[ports.length === 1 ? 0 : index] ?? 5432,
  }))
}
