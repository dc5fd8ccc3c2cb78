/**
 * Snapshot: the rows of the published tables, as they were at one LSN, into the sink as `r` events. Several readers share it, each with a
 * connection of its own.
 */
import type { Closers } from '../base/closers.js'
import { EvertError } from '../base/errors.js'
import type { Logger } from '../base/logger.js'
import { type Lsn, toLsn } from '../event/lsn.js'
import type { Relation } from '../event/relation.js'
import type { CompiledTable } from '../event/table.js'
import { Transcoder } from '../event/transcoder.js'
import { type PublishedTable, publishedTables } from './catalog.js'
import { type Connection, connect } from './connection.js'
import { sqlState } from './connection-error.js'
import type { ConnectionOptions } from './connection-options.js'
import { CopyRows } from './copy-rows.js'
import { type SnapshotCost, snapshotCost } from './snapshot-cost.js'
import { halves, type OnSnapshotRows, Reading } from './snapshot-reading.js'
import { type RowCondition, type SnapshotUnit, snapshotUnits } from './snapshot-units.js'
import { quoteLiteral, sql } from './sql.js'
import type { TablePatterns } from './table-patterns.js'
import { lockStatement } from './table-statements.js'
import { Tables, type TablesOptions } from './tables.js'

export interface SnapshotRows<Records> extends TablesOptions {
  /** The stream carries every change after it. */
  readonly lsn: Lsn
  readonly cut: () => Records
  /** The sink is cut when it holds this much. */
  readonly batchBytes: number
  /** Whether the rows of a table are read. Default: of every one. */
  readonly wanted?: (table: PublishedTable) => boolean
  readonly onRows: OnSnapshotRows
  /** When all rows of a table were read. */
  readonly onTable: (table: Relation, rows: number) => void
  /** Once the rows of a table are published: keys whose rows are gone, by topic. */
  readonly gone: (topic: string) => Iterable<Buffer>
  readonly signal: AbortSignal
}

export interface SnapshotOptions {
  readonly connection: ConnectionOptions
  /** An ordinary one, which sees the catalog as it is now. */
  readonly now: Connection
  readonly snapshotName: string
  readonly publication: string
  readonly patterns: TablePatterns
  /** How many connections read at a time, at most. */
  readonly readers: number
  /** Default: every row. */
  readonly condition?: RowCondition
  /** What is waited for a lock on a table at most. Default: as long as it takes. */
  readonly lockMs?: number
  readonly logger: Logger
  readonly signal: AbortSignal
}

/** What a snapshot is about to do. `slot` says how much WAL the slot that waits for it may hold back (null: any amount), where one waits. */
export type OnSnapshotStart = (
  snapshot: Pick<Snapshot, 'tables' | 'cost'>,
  slot: { readonly walKeepBytes: number | null } | null,
) => void

/** Who is told of a snapshot while it is read. */
export interface SnapshotObserver {
  readonly onSnapshotStart: OnSnapshotStart
  readonly onSnapshotRows: OnSnapshotRows
  readonly onSnapshotComplete: () => void
}

/** A WAL record begins at a multiple of 8, so none begins in the 7 bytes before another one. */
const BYTES_BEFORE = 7n
/** After so many rows the next of those bytes stands for the snapshot, well before an ordinal overflows. */
const ROWS_A_BYTE = 2 ** 31
/** What a further reader waits for a lock at most. */
const LOCK_MS = 1000

/** Connections that have adopted an exported snapshot: from then on nobody else need hold it. */
export class Snapshot {
  readonly #readers: readonly CopyRows[]
  readonly #units: readonly SnapshotUnit[]
  /** As the snapshot sees them: one that came later is in the stream from its first row on. */
  readonly tables: readonly PublishedTable[]
  readonly cost: SnapshotCost
  /** Microseconds since 1970, by the server's clock, as commit times are. */
  readonly #timeUs: bigint
  readonly #closed = new AbortController()

  private constructor(
    adopted: readonly Connection[],
    found: {
      readonly tables: readonly PublishedTable[]
      readonly units: readonly SnapshotUnit[]
      readonly cost: SnapshotCost
      readonly us: bigint
    },
  ) {
    this.#readers = adopted.map(({ socket }) => new CopyRows(socket))
    this.#units = found.units
    this.tables = found.tables
    this.cost = found.cost
    this.#timeUs = found.us
  }

  /** Errors: SNAPSHOT_OVERTAKEN, and those of a connection. */
  static async open(options: SnapshotOptions, closers: Closers): Promise<Snapshot> {
    const adopted = [await adopt(options, options.snapshotName)]
    // Waiting for a lock may take long.
    const abandon = (): void => adopted.forEach(({ socket }) => void socket.destroy())
    options.signal.addEventListener('abort', abandon, { once: true })
    try {
      const connection = adopted[0]!
      const tables = await sayWhoHoldsLocks(options, connection.processId, tablesHeld(options, connection))
      const units = snapshotUnits(tables, options.condition)
      const more = Math.min(options.readers, units.length) - 1
      if (more > 0) {
        const [exported] = await connection.query('select pg_export_snapshot() as name')
        await join(options, adopted, { more, tables, snapshotName: exported?.['name'] ?? '' })
      }
      const [now] = await connection.query(sql('now'))
      const cost = await snapshotCost(connection, tables)
      const found = { tables, units, cost, us: BigInt(now?.['us'] ?? 0) }
      return closers.add(new Snapshot(adopted, found), (s) => s.close())
    } catch (error) {
      abandon()
      throw error
    } finally {
      options.signal.removeEventListener('abort', abandon)
    }
  }

  /**
   * Rows of all tables, several tables and parts of tables at a time. Their position is before the snapshot's LSN, and behind whatever
   * committed before it.
   */
  async *rows<Records>(options: SnapshotRows<Records>): AsyncGenerator<Records> {
    const { sink, batchBytes } = options
    const signal = AbortSignal.any([options.signal, this.#closed.signal])
    const transcoder = new Transcoder(sink, options.envelope, options.largeValues)
    const tables = new Tables(options, transcoder)
    let commitLsn = options.lsn - BYTES_BEFORE
    const begin = (): void =>
      transcoder.begin({ commitLsn: toLsn(commitLsn++), timeUs: this.#timeUs, xid: null, snapshot: true })
    begin()
    const full = (): boolean => sink.bytes >= batchBytes
    const units = this.#units.filter(({ table }) => options.wanted?.(table) ?? true)
    const read = new Reading(this.#readers, { ...options, signal, full, units, tables, transcoder })
    try {
      for (;;) {
        const next = await read.next()
        if (next === 'done') break
        if (next !== 'full') {
          yield* this.#gone(options, next.compiled, transcoder)
          options.onTable(next.table.relation, next.rows)
        }
        if (full()) yield options.cut()
        if (transcoder.ordinal > ROWS_A_BYTE) begin()
        read.goOn()
      }
    } finally {
      read.stop()
    }
    signal.throwIfAborted()
  }

  async *#gone<Records>(
    options: SnapshotRows<Records>,
    table: CompiledTable,
    transcoder: Transcoder,
  ): AsyncGenerator<Records> {
    const [high, low] = halves(options.lsn)
    for (const key of options.gone(table.topic.name)) {
      if (!isKeyOf(table, key)) continue
      transcoder.deleteKey(table, high, low, key)
      if (options.sink.bytes >= options.batchBytes) yield options.cut()
    }
  }

  close(): void {
    this.#closed.abort(new Error('the snapshot was closed'))
    for (const reader of this.#readers) reader.close()
  }
}

async function adopt({ connection: to, signal }: SnapshotOptions, snapshotName: string): Promise<Connection> {
  const connection = await connect(to, { kind: 'ordinary', signal })
  try {
    await connection.query('begin transaction isolation level repeatable read read only')
    await connection.query(`set transaction snapshot ${quoteLiteral(snapshotName)}`)
    // A row-level security policy would leave rows out without a word; like this it is an error.
    await connection.query('set local row_security = off')
    return connection
  } catch (error) {
    connection.socket.destroy()
    throw error
  }
}

async function tablesHeld(
  { publication, patterns, now, lockMs = 0 }: SnapshotOptions,
  connection: Connection,
): Promise<PublishedTable[]> {
  await connection.query(`set local lock_timeout = ${lockMs}`)
  const published = await publishedTables(connection, publication)
  const tables = published.filter(({ relation }) => patterns.matches(relation.schema, relation.table))
  await hold(connection, now, tables)
  return tables
}

/**
 * Keeps the tables as they are until the transaction ends, and makes sure that they are still what the snapshot sees: what rewrites one
 * (ALTER TABLE, TRUNCATE) leaves no rows for a snapshot that is older, and CLUSTER and VACUUM FULL move rows to where another reader looks
 * for them. Error: SNAPSHOT_OVERTAKEN.
 */
async function hold(connection: Connection, now: Connection, tables: readonly PublishedTable[]): Promise<void> {
  await lock(connection, tables).catch((error: unknown) => {
    // Dropped or renamed meanwhile: a table, its schema, or a column; or somebody has it for himself.
    throw /^(42P01|3F000|42703|55P03)$/.test(sqlState(error)) ? overtaken(error) : error
  })
  const versions = sql('table-versions', { tables: `{${tables.map(({ relation }) => relation.oid).join()}}` })
  const [[then], [current]] = [await connection.query(versions), await now.query(versions)]
  if (then?.['versions'] !== current?.['versions']) throw overtaken()
}

async function lock(connection: Connection, tables: readonly PublishedTable[]): Promise<void> {
  for (const table of tables) await connection.query(lockStatement(table))
}

/**
 * More readers, each with all locks from the start: one that took a lock later would wait for whoever alters the table, who waits for the
 * first reader, who waits for this one. Those that cannot come (no connection left, a table that is waited for) are done without.
 */
async function join(
  options: SnapshotOptions,
  adopted: Connection[],
  { more, tables, snapshotName }: { more: number; tables: readonly PublishedTable[]; snapshotName: string },
): Promise<void> {
  const joined = await Promise.allSettled(
    Array.from({ length: more }, async () => {
      const reader = await adopt(options, snapshotName)
      try {
        await reader.query(`set local lock_timeout = ${LOCK_MS}`)
        await lock(reader, tables)
        adopted.push(reader)
      } catch (error) {
        reader.socket.destroy()
        throw error
      }
    }),
  )
  options.signal.throwIfAborted()
  const failures = joined.filter((one) => one.status === 'rejected')
  if (failures.length === 0) return
  const why = failures.map(({ reason }) => (reason as Error).message)[0]
  options.logger.warn({ readers: adopted.length, wanted: more + 1, why }, 'fewer connections read the snapshot')
}

/** Whoever alters a table has it for itself meanwhile. */
async function sayWhoHoldsLocks<T>({ now, logger }: SnapshotOptions, pid: number, holding: Promise<T>): Promise<T> {
  const say = async (): Promise<void> => {
    const rows = await now.query(sql('lock-holders', { pid: String(pid) }))
    const holders = rows.map(
      (row) => `pid ${row['pid']} (${row['application_name'] || 'unnamed'}, ${row['seconds']} s)`,
    )
    if (holders.length > 0) logger.warn({ holders }, 'the snapshot waits for a lock on a table')
  }
  const timer = setInterval(() => void say().catch(() => undefined), 3000)
  try {
    return await holding
  } finally {
    clearInterval(timer)
  }
}

function overtaken(cause?: unknown): EvertError {
  return new EvertError('SNAPSHOT_OVERTAKEN', { message: 'a table was altered since the snapshot was taken', cause })
}

/** Keys of other columns are of a shape that the table had before: whether their rows are gone cannot be told by them. */
function isKeyOf({ relation, keyColumns }: CompiledTable, key: Buffer): boolean {
  const names = keyColumns.map((column) => relation.columns[column]?.name)
  const found = namesIn(key)
  return found.length === names.length && found.every((name) => names.includes(name))
}

/** Of a record that is not ours there may be anything. */
function namesIn(key: Buffer): string[] {
  try {
    return Object.keys(JSON.parse(key.toString()) as object)
  } catch {
    return []
  }
}
