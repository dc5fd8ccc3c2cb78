/** TLS: what sslmode and its files mean to Node. https://www.postgresql.org/docs/current/libpq-ssl.html */
import { existsSync, readFileSync } from 'node:fs'
import tls from 'node:tls'
import { EvertError } from '../base/errors.js'
import { isTlsCode } from '../base/tls-codes.js'
import type { TlsFiles, TlsMode } from './connection-options.js'

/** With or without TLS, in the order libpq tries them; never TLS on a Unix socket. */
export function encryptions(mode: TlsMode, host: string): readonly boolean[] {
  if (mode === 'disable' || host.startsWith('/')) return [false]
  if (mode === 'allow') return [false, true]
  return mode === 'prefer' ? [true, false] : [true]
}

/**
 * Where a root certificate is given, or lies in ~/.postgresql, the server's certificate is verified whatever the mode; only verify-ca
 * and verify-full insist on one, and only verify-full on the host's name. Error: POSTGRES_TLS.
 */
export function tlsOptions(files: TlsFiles): tls.ConnectionOptions {
  const { mode } = files
  const rootFile = files.rootCertFile ?? standing(files.folder, 'root.crt')
  if (rootFile === null && (mode === 'verify-ca' || mode === 'verify-full')) {
    throw new EvertError('POSTGRES_TLS', {
      message: `sslmode=${mode} has no authority to verify the server's certificate with`,
      hint: 'sslrootcert=FILE names its certificate; sslrootcert=system takes the authorities that Node trusts',
    })
  }
  const certFile = files.certFile ?? standing(files.folder, 'postgresql.crt')
  const keyFile = files.keyFile ?? standing(files.folder, 'postgresql.key')
  const own = certFile === null ? {} : { cert: read('sslcert', certFile) }
  const key = certFile === null || keyFile === null ? {} : { key: read('sslkey', keyFile) }
  // Where nothing is verified, not one: all that Node trusts take a twentieth of a start to be read.
  const ca = rootFile === 'system' ? {} : { ca: rootFile === null ? [] : read('sslrootcert', rootFile) }
  return {
    secureContext: secureContext({ ...own, ...key, ...ca }),
    rejectUnauthorized: rootFile !== null,
    ...(mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  }
}

/** True for what TLS itself makes fail: no TLS on the server's side, a handshake, a certificate. */
export function isTlsError(error: unknown): boolean {
  const { code = '', message = '' } = error as { readonly code?: string; readonly message?: string }
  return isTlsMissing(error) || isTlsCode(code) || isHandshakeCut(message)
}

/** Nothing was wrong but that the other end went away, or could not begin: what Node and `pg` say then has no code. */
export function isHandshakeCut(message: string): boolean {
  return /establishing an SSL connection|before secure TLS connection/.test(message)
}

/** The server answered that it has no TLS. */
export function isTlsMissing(error: unknown): boolean {
  return (error as Error).message.includes('does not support SSL')
}

/** Made before there is a socket: what is wrong with a file would otherwise be thrown where nobody catches it. */
function secureContext(options: tls.SecureContextOptions): tls.SecureContext {
  try {
    return tls.createSecureContext(options)
  } catch (error) {
    throw new EvertError('POSTGRES_TLS', {
      message: `the certificates cannot be used: ${(error as Error).message}`,
      hint: 'sslrootcert, sslcert and sslkey are PEM files; the key is not encrypted and belongs to the certificate',
      cause: error,
    })
  }
}

function standing(folder: string | null, name: string): string | null {
  const file = `${folder}/${name}`
  return folder !== null && existsSync(file) ? file : null
}

function read(parameter: string, file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new EvertError('POSTGRES_TLS', { message: `${parameter}: ${file} cannot be read`, cause: error })
  }
}
