/** Snapshot: the rows of the published tables, as they were at one LSN, into the sink as `r` events. */
import { type Lsn, toLsn } from '../event/lsn.js'
import type { CompiledTable } from '../event/table.js'
import { Transcoder } from '../event/transcoder.js'
import { type PublishedTable, publishedTables, qualifiedName } from './catalog.js'
import { connect } from './connection.js'
import type { ConnectionOptions } from './connection-options.js'
import { type CopyRequest, CopyRows } from './copy-rows.js'
import { CopySocket } from './copy-socket.js'
import { quoteIdentifier, quoteLiteral, sql } from './sql.js'
import type { TablePatterns } from './table-patterns.js'
import { Tables, type TablesOptions } from './tables.js'

export interface SnapshotRows<Records> extends TablesOptions {
  /** The stream carries every change after it. */
  readonly lsn: Lsn
  readonly cut: () => Records
  /** The sink is cut when it holds this much. */
  readonly batchBytes: number
  readonly onRows: (table: PublishedTable, rows: number) => void
  /** Once the rows of a table are published: keys whose rows are gone, by topic. */
  readonly gone: (topic: string) => Iterable<Buffer>
  readonly signal: AbortSignal
}

/** A connection that has adopted an exported snapshot: from then on nobody else need hold it. */
export class SnapshotReader {
  readonly #socket: CopySocket
  readonly #copy: CopyRows
  /** As the snapshot sees them: one that came later is in the stream from its first row on. */
  readonly tables: readonly PublishedTable[]

  /** Microseconds since 1970, by the server's clock, as commit times are. */
  readonly #timeUs: bigint

  private constructor(
    socket: CopySocket,
    copy: CopyRows,
    found: { readonly tables: readonly PublishedTable[]; readonly timeUs: bigint },
  ) {
    this.#socket = socket
    this.#copy = copy
    this.tables = found.tables
    this.#timeUs = found.timeUs
  }

  static async open(options: {
    readonly connection: ConnectionOptions
    readonly snapshotName: string
    readonly publication: string
    readonly patterns: TablePatterns
    readonly signal: AbortSignal
  }): Promise<SnapshotReader> {
    const socket = new CopySocket()
    const { signal, snapshotName, patterns } = options
    const connection = await connect(options.connection, { kind: 'ordinary', signal, rawSocket: () => socket.plain })
    try {
      await connection.query('begin transaction isolation level repeatable read read only')
      await connection.query(`set transaction snapshot ${quoteLiteral(snapshotName)}`)
      // A row-level security policy would leave rows out without a word; like this it is an error.
      await connection.query('set local row_security = off')
      const published = await publishedTables(connection, options.publication)
      const tables = published.filter(({ relation }) => patterns.matches(relation.schema, relation.table))
      const [now] = await connection.query(sql('now'))
      const found = { tables, timeUs: BigInt(now?.['us'] ?? 0) }
      return new SnapshotReader(socket, new CopyRows(socket, connection), found)
    } catch (error) {
      connection.socket.destroy()
      throw error
    }
  }

  /**
   * Rows of all tables, one table after the other. Their position is the byte before the snapshot's LSN: a transaction's commit
   * record can start at that LSN itself, and no record starts in the byte before.
   */
  async *rows<Records>(options: SnapshotRows<Records>): AsyncGenerator<Records> {
    const transcoder = new Transcoder(options.sink, options.envelope, options.largeValues)
    transcoder.begin({ commitLsn: toLsn(options.lsn - 1n), timeUs: this.#timeUs, xid: null, snapshot: true })
    const tables = new Tables(options, transcoder)
    for (const table of this.tables) {
      const compiled = await tables.open(table.relation)
      yield* this.#tableRows(options, { table, compiled, transcoder })
    }
  }

  async *#tableRows<Records>(
    options: SnapshotRows<Records>,
    of: { readonly table: PublishedTable; readonly compiled: CompiledTable; readonly transcoder: Transcoder },
  ): AsyncGenerator<Records> {
    const { sink, signal } = options
    const { table, compiled, transcoder } = of
    const high = Number(options.lsn >> 32n)
    const low = Number(options.lsn & 0xffffffffn)
    let rows = 0
    const request: CopyRequest = {
      statement: copyStatement(table),
      columns: table.relation.columns.length,
      table: qualifiedName(table.relation),
      onRow: (row) => {
        rows++
        transcoder.snapshotRow(compiled, high, low, row)
      },
      full: () => sink.bytes >= options.batchBytes,
    }
    for await (const _ of this.#copy.copy(request, signal)) {
      options.onRows(table, rows)
      yield options.cut()
    }
    signal.throwIfAborted()
    options.onRows(table, rows)
    for (const key of options.gone(compiled.topic.name)) {
      if (!isKeyOf(compiled, key)) continue
      transcoder.deleteKey(compiled, high, low, key)
      if (sink.bytes >= options.batchBytes) yield options.cut()
    }
  }

  close(): void {
    this.#socket.destroy()
  }
}

/** Keys of other columns are of a shape that the table had before: whether their rows are gone cannot be told by them. */
function isKeyOf({ relation, keyColumns }: CompiledTable, key: Buffer): boolean {
  const names = keyColumns.map((column) => relation.columns[column]?.name)
  const found = Object.keys(JSON.parse(key.toString()) as object)
  return found.length === names.length && found.every((name) => names.includes(name))
}

/** The columns and rows that the publication publishes, and no others; of a parent table only its own rows. */
function copyStatement(table: PublishedTable): string {
  const columns = table.relation.columns.map((column) => quoteIdentifier(column.name)).join(', ')
  const only = table.partitioned ? '' : 'only '
  const where = table.rowFilter === null ? '' : ` where ${table.rowFilter}`
  return `copy (select ${columns} from ${only}${qualifiedName(table.relation)}${where}) to stdout`
}
