/** Password file: ~/.pgpass, as libpq reads it. https://www.postgresql.org/docs/current/libpq-pgpass.html */
import { readFileSync, statSync } from 'node:fs'

export interface PasswordRequest {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
}

/** A password, or why there is none. */
export type FoundPassword = { readonly password: string } | { readonly password: null; readonly why: string }

/** A file that others can read is not used, as in libpq. */
export function readPassword(file: string | null, request: PasswordRequest): FoundPassword {
  if (file === null) return { password: null, why: 'there is no password file' }
  let text: string
  try {
    const { mode } = statSync(file)
    if ((mode & 0o077) !== 0 && process.platform !== 'win32') {
      return { password: null, why: `${file} is not used because others may read it: chmod 600 ${file}` }
    }
    text = readFileSync(file, 'utf8')
  } catch {
    return { password: null, why: `${file} cannot be read` }
  }
  const password = findPassword(text, request)
  return password === null ? { password, why: `${file} has no line that matches` } : { password }
}

/** Four fields and the rest of the line; a backslash takes the next character as it is. */
const LINE = /^((?:\\.|[^\\:])*):((?:\\.|[^\\:])*):((?:\\.|[^\\:])*):((?:\\.|[^\\:])*):(.+)$/

/** Where libpq's builds look for a socket by default: there the host counts as localhost. */
const SOCKET_FOLDERS = ['/tmp', '/var/run/postgresql', '/run/postgresql']

/** The password of the first line that matches, or null. */
export function findPassword(text: string, request: PasswordRequest): string | null {
  const host = SOCKET_FOLDERS.includes(request.host) ? 'localhost' : request.host
  const wanted = [host, String(request.port), request.database, request.user]
  for (const line of text.split(/\r?\n/)) {
    const match = line.startsWith('#') ? null : LINE.exec(line)
    if (match === null) continue
    const [, ...fields] = match
    const matches = wanted.every((value, index) => fields[index] === '*' || unescape(fields[index] ?? '') === value)
    if (matches) return unescape(fields[4] ?? '')
  }
  return null
}

function unescape(field: string): string {
  return field.replace(/\\(.)/g, '$1')
}
