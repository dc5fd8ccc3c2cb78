/** The shared servers as suites use them: a database, a slot and a topic prefix of their own for each file. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'

/** A URL of the superuser on the shared Postgres 18. */
export function testPostgres(): string {
  const url = process.env['EVERT_TEST_POSTGRES']
  if (url === undefined) throw new Error('the shared Postgres was not started')
  return url
}

/** host:port of the shared broker, or null where there is none. */
export function testKafka(): string | null {
  return process.env['EVERT_TEST_KAFKA'] ?? null
}

/** A suite that needs a broker: skipped where there is none, which global-setup says aloud (and CI refuses). */
export function describeKafka(name: string, suite: () => void): void {
  if (testKafka() === null) describe.skip(name, suite)
  else describe(name, suite)
}

export function uniqueName(prefix: string): string {
  return `${prefix}_${randomBytes(4).toString('hex')}`
}

const KILLED_MS = 5000

/** How to be rid of databases that no test has dropped: test/support/environment.js calls it where one has failed. */
const left = new Set<() => Promise<void>>()
Object.assign(globalThis, { evertLeftDatabases: left })

export interface TestDatabase {
  readonly name: string
  readonly url: string
  /** Runs statements one after the other, and returns the rows of the last. */
  query(text: string): Promise<Record<string, string | null>[]>
  client(): Promise<pg.Client>
  /** Drops it with its slots; proves that no slot of it is left in use. */
  drop(): Promise<void>
}

/** A fresh database on a server, by default the shared one. */
export async function freshDatabase(serverUrl = testPostgres()): Promise<TestDatabase> {
  const name = uniqueName('test')
  const url = new URL(serverUrl)
  const admin = await open(url.href)
  await admin.query(`create database "${name}"`)
  url.pathname = `/${name}`
  const session = await open(url.href)
  const clients: pg.Client[] = [session]
  const slots = `from pg_replication_slots where database = '${name}'`
  const abandon = async (): Promise<void> => {
    await admin.query(`alter database "${name}" with allow_connections false`)
    while ((await admin.query(`select pg_terminate_backend(active_pid) ${slots} and active`)).rowCount !== 0)
      await new Promise((resolve) => setTimeout(resolve, 50))
    await admin.query(`select pg_drop_replication_slot(slot_name) ${slots}`)
    await admin.query(`drop database "${name}" with (force)`)
    await admin.end()
  }
  left.add(abandon)
  return {
    name,
    url: url.href,
    async query(text) {
      const result = (await session.query(text)) as unknown as pg.QueryResult | pg.QueryResult[]
      return (Array.isArray(result) ? result.at(-1) : result)?.rows ?? []
    },
    async client() {
      const client = await open(url.href)
      clients.push(client)
      return client
    },
    async drop() {
      left.delete(abandon)
      for (const client of clients) await client.end().catch(() => undefined)
      const inUse = `select slot_name ${slots} and active`
      let used = await admin.query(inUse)
      // The server takes a moment to see that a process was killed; one that was left running stays.
      const untilMs = performance.now() + KILLED_MS
      while (used.rowCount !== 0 && performance.now() < untilMs) {
        await new Promise((resolve) => setTimeout(resolve, 50))
        used = await admin.query(inUse)
      }
      await abandon()
      expect(used.rows).toEqual([])
    },
  }
}

/** A session of its own on a database that is there, for as long as the server is. */
export async function openSession(url: string): Promise<TestDatabase['query']> {
  const client = await open(url)
  return async (text) => (await client.query(text)).rows as Record<string, string | null>[]
}

async function open(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    types: { getTypeParser: () => (text: string) => text } as never,
  })
  client.on('error', () => undefined)
  await client.connect()
  return client
}
