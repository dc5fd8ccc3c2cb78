/** Backfill subject: a table as it is now, with what it takes to read it in chunks, and to notice that it has become another one. */
import { EvertError } from '../base/errors.js'
import { type PublishedTable, publishedTables, qualifiedName } from './catalog.js'
import { type ChunkKey, chunkKey } from './chunk-reader.js'
import { type Connection, connect } from './connection.js'
import { sqlState } from './connection-error.js'
import type { ConnectionOptions } from './connection-options.js'
import { sql } from './sql.js'
import type { TablePatterns } from './table-patterns.js'

export interface Subject {
  readonly table: PublishedTable
  /** Null where its rows cannot be read in the order of a key. */
  readonly key: ChunkKey | null
  /** See sql/table-shape.sql. */
  readonly shape: string
}

/** What tells of published tables opens them: who has one for himself is not waited for. Errors: SNAPSHOT_OVERTAKEN, and those of a query. */
const LOCK_TIMEOUT = "set lock_timeout = '2s'"

/** On a connection of its own, so that nobody else waits. */
export async function askCatalog<T>(
  to: ConnectionOptions,
  signal: AbortSignal,
  ask: (catalog: Connection) => Promise<T>,
): Promise<T> {
  const catalog = await connect(to, { kind: 'ordinary', signal })
  const abandon = (): void => void catalog.socket.destroy()
  signal.addEventListener('abort', abandon)
  try {
    await catalog.query(LOCK_TIMEOUT)
    return await ask(catalog)
  } catch (error) {
    if (sqlState(error) !== '55P03') throw error
    const holders = await catalog.query(sql('exclusive-locks')).catch(() => [])
    const held = holders.map((row) => `${row['table'] ?? '?'} (pid ${row['pid'] ?? '?'})`).join(', ')
    const message = `somebody has a table for himself: ${held === '' ? 'nobody any more' : held}`
    throw new EvertError('SNAPSHOT_OVERTAKEN', { message, cause: error })
  } finally {
    signal.removeEventListener('abort', abandon)
    await catalog.close().catch(() => undefined)
  }
}

export interface PublishedName {
  readonly oid: number
  readonly schema: string
  readonly table: string
}

/** Names of the tables that are published and wanted, and whether the publication has every table from its first row on. */
export async function publishedNames(
  catalog: Connection,
  { publication, patterns }: { readonly publication: string; readonly patterns: TablePatterns },
): Promise<{ readonly tables: PublishedName[]; readonly all: boolean }> {
  const rows = await catalog.query(sql('published-oids', { publication }))
  const tables = rows
    .map((row) => ({ oid: Number(row['oid']), schema: row['schema'] ?? '', table: row['table'] ?? '' }))
    .filter(({ schema, table }) => patterns.matches(schema, table))
  return { tables, all: rows[0]?.['all_tables'] === 't' }
}

/** The table as it is now, or what keeps it from being published like this. */
export async function subjectOf(
  catalog: Connection,
  of: { readonly oid: number | undefined; readonly publication: string; readonly columns: readonly string[] },
): Promise<Subject | string> {
  const { oid, publication, columns } = of
  if (oid === undefined) return 'it is not published, or --tables leaves it out'
  // First: what is altered from here on, the first chunk notices.
  const [version] = await catalog.query(sql('table-shape', { table: String(oid) }))
  const [table] = await publishedTables(catalog, publication, oid)
  if (table === undefined) return 'it is not published any more'
  if (table.obstacle !== null) return `the role may not read all rows of ${qualifiedName(table.relation)}`
  const missing = columns.find((column) => !table.relation.columns.some(({ name }) => name === column))
  if (missing !== undefined) return `it has no column "${missing}"`
  const keyed = table.relation.columns.some(({ key }) => key)
  if (!keyed && columns.length > 0) return 'without a key nothing tells which row an update of a column is about'
  const key = keyed ? await chunkKey(catalog, table.relation) : null
  if (key === null && columns.length > 0)
    return 'its key has several columns, one of a type of an extension: only whole rows can be published'
  return { table, key, shape: version?.['shape'] ?? '' }
}

/** The next try may go well. */
export function interrupted(what: string, cause?: unknown): EvertError {
  return new EvertError('BACKFILL_INTERRUPTED', { message: `the backfill of a table without a key: ${what}`, cause })
}

export function unwritable({ relation }: PublishedTable, cause: unknown): EvertError {
  if (cause instanceof EvertError) return cause
  const message = `a row of ${qualifiedName(relation)} cannot be written: ${(cause as Error).message}`
  return new EvertError('PROTOCOL', { message, cause })
}
