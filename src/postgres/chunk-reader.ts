/** Chunk reader: some rows of a table in the order of its key, with what their snapshot sees, and the WAL that holds all of that. */
import { assert } from '../base/assert.js'
import { type Lsn, parseLsn } from '../event/lsn.js'
import type { Relation } from '../event/relation.js'
import type { CompiledTable } from '../event/table.js'
import { TEXT, Tuple, UNCHANGED } from '../event/tuple.js'
import { type PublishedTable, qualifiedName } from './catalog.js'
import { type Connection, connect } from './connection.js'
import type { ConnectionOptions } from './connection-options.js'
import { CopyRows } from './copy-rows.js'
import { quoteIdentifier, quoteLiteral, sql } from './sql.js'
import { copyStatement, lockStatement } from './table-statements.js'
import { Visibility } from './visibility.js'

export interface ChunkRequest {
  readonly table: PublishedTable
  readonly key: ChunkKey
  /** Values of the key, as Postgres writes them: rows behind it are read. Null from the first row on. */
  readonly after: readonly string[] | null
  readonly rows: number
  /** What is kept of it at most, where that is more than one row. */
  readonly bytes: number
}

/** The key columns in the order of their index, so that it gives the rows in order. */
export interface ChunkKey {
  readonly columns: readonly string[]
  /** Of each, what its order depends on: type and collation. */
  readonly types: readonly string[]
  /** What says that a value is behind another, where that is not `>`. */
  readonly operators: readonly (string | null)[]
}

export interface Chunk {
  /** What the table was meanwhile: see sql/table-shape.sql. */
  readonly shape: string
  readonly rows: KeptRows
  /** The key of one of its rows, by the columns of the key. */
  readonly keyOf: (row: number) => { columns: string[]; types: string[]; values: string[] }
  /** True where no more rows are behind it. */
  readonly final: boolean
  /** Of a row that was read, on average. */
  readonly rowBytes: number
  readonly visibility: Visibility
  /** Whatever the chunk's snapshot sees was committed before it. */
  readonly lsn: Lsn
  /** Its rows are needed no more: their room is for the next ones. */
  readonly release: () => void
}

/** Rows as copies, to be taken as tuples later: nine bytes a value, beside the values, and no object. */
export class KeptRows {
  #columns: number
  #bytes = Buffer.allocUnsafeSlow(64 * 1024)
  /** Of each value, where it begins and ends; behind those of a row, its size. */
  #bounds = new Int32Array(4096)
  #states = new Uint8Array(2048)
  count = 0
  bytes = 0

  constructor(columns: number) {
    this.#columns = columns
  }

  /** In bytes, of the values. */
  get room(): number {
    return this.#bytes.length
  }

  clear(columns: number): void {
    this.#columns = columns
    this.count = this.bytes = 0
  }

  add(row: Tuple): void {
    const columns = this.#columns
    const from = row.start[0] ?? 0
    const shift = this.bytes - from
    if (this.bytes + row.size > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, this.bytes + row.size))
      this.#bytes.copy(grown, 0, 0, this.bytes)
      this.#bytes = grown
    }
    let at = this.count * (2 * columns + 1)
    if (at + 2 * columns + 1 > this.#bounds.length) this.#bounds = grownInts(this.#bounds, at + 2 * columns + 1)
    const state = this.count * columns
    if (state + columns > this.#states.length) this.#states = grownBytes(this.#states, state + columns)
    row.bytes.copy(this.#bytes, this.bytes, from, from + row.size)
    for (let column = 0; column < columns; column++) {
      this.#bounds[at++] = row.start[column]! + shift
      this.#bounds[at++] = row.end[column]! + shift
      this.#states[state + column] = row.state[column]!
    }
    this.#bounds[at] = row.size
    this.bytes += row.size
    this.count++
  }

  /** Of one row, which has them all. */
  valuesOf(index: number, columns: readonly number[]): string[] {
    assert(index < this.count, 'a row is asked for that was not kept')
    const at = index * (2 * this.#columns + 1)
    return columns.map((column) =>
      this.#bytes.toString('utf8', this.#bounds[at + 2 * column], this.#bounds[at + 2 * column + 1]),
    )
  }

  /** Each in the same tuple. */
  *tuples(): Generator<Tuple> {
    const columns = this.#columns
    const row = new Tuple()
    row.count = columns
    row.bytes = this.#bytes
    for (let index = 0; index < this.count; index++) {
      let at = index * (2 * columns + 1)
      for (let column = 0; column < columns; column++) {
        row.start[column] = this.#bounds[at++]!
        row.end[column] = this.#bounds[at++]!
        row.state[column] = this.#states[index * columns + column]!
      }
      row.size = this.#bounds[at]!
      yield row
    }
  }
}

function grownInts(from: Int32Array, least: number): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(Math.max(2 * from.length, least))
  grown.set(from)
  return grown
}

function grownBytes(from: Uint8Array, least: number): Uint8Array<ArrayBuffer> {
  const grown = new Uint8Array(Math.max(2 * from.length, least))
  grown.set(from)
  return grown
}

/** Rows that are too many for a chunk are read to the end up to this; what is more is cheaper to break off, with a new connection. */
const UNNEEDED_BYTES = 4 * 1024 * 1024

export class ChunkReader {
  readonly #to: ConnectionOptions
  readonly #signal: AbortSignal
  readonly #spare: KeptRows[] = []
  #copy: CopyRows

  private constructor(to: ConnectionOptions, signal: AbortSignal, copy: CopyRows) {
    this.#to = to
    this.#signal = signal
    this.#copy = copy
  }

  /** With a connection of its own. */
  static async open(to: ConnectionOptions, signal: AbortSignal): Promise<ChunkReader> {
    return new ChunkReader(to, signal, await connected(to, signal))
  }

  /** Errors: those of a query; the reader is then unusable. */
  async read(request: ChunkRequest): Promise<Chunk> {
    const { table, key } = request
    const { columns } = table.relation
    const shape = sql('table-shape', { table: String(table.relation.oid) })
    const begin = [BEGIN, lockStatement(table), copied(shape), copied('select pg_current_snapshot()')]
    const [found = '', snapshot = ''] = await this.#texts(begin.join('; '), table)
    const rows = this.#spare.pop() ?? new KeptRows(columns.length)
    rows.clear(columns.length)
    let read = 0
    let unneeded = 0
    const onRow = (row: Tuple): void => {
      // What comes behind a row that was left out is left out too.
      const room = rows.count === read && (rows.count === 0 || rows.bytes + row.size <= request.bytes)
      if (room) rows.add(row)
      else unneeded += row.size
      read++
    }
    const enough = (): boolean => unneeded > UNNEEDED_BYTES
    await this.#run(statementOf(request), { table, columns: columns.length, onRow, enough })
    if (enough()) await this.#reconnect()
    const [end = ''] = await this.#texts(`commit; ${copied(sql('wal-written'))}`, table)
    const lsn = parseLsn(end)
    assert(lsn !== null, 'the server did not say where its WAL ends')
    const places = key.columns.map((name) => columns.findIndex((column) => column.name === name))
    const final = read < request.rows && rows.count === read
    const visibility = new Visibility(snapshot)
    return {
      shape: found,
      rows,
      keyOf: (row) => ({ columns: [...key.columns], types: [...key.types], values: rows.valuesOf(row, places) }),
      final,
      rowBytes: (rows.bytes + unneeded) / Math.max(read, 1),
      visibility,
      lsn,
      // A megabyte for every chunk, dropped, is collected late.
      release: () => {
        if (rows.room <= 2 * request.bytes) this.#spare.push(rows)
      },
    }
  }

  close(): void {
    this.#copy.close()
  }

  /** The values of queries that give one each. */
  async #texts(statements: string, table: PublishedTable): Promise<string[]> {
    const texts: string[] = []
    const onRow = (row: Tuple): void => {
      texts.push(row.bytes.toString('utf8', row.start[0], row.end[0]))
    }
    await this.#run(statements, { table, columns: 1, onRow, enough: () => false })
    return texts
  }

  /** To its end, or until that is enough: the connection is of no use then. */
  async #run(statement: string, { table, enough, ...rest }: RunRequest): Promise<void> {
    const request = { statement, ...rest, table: qualifiedName(table.relation), full: enough }
    for await (const _ of this.#copy.copy(request, this.#signal)) break
    this.#signal.throwIfAborted()
  }

  async #reconnect(): Promise<void> {
    this.#copy.close()
    this.#copy = await connected(this.#to, this.#signal)
  }
}

interface RunRequest {
  readonly table: PublishedTable
  readonly columns: number
  readonly onRow: (row: Tuple) => void
  readonly enough: () => boolean
}

async function connected(to: ConnectionOptions, signal: AbortSignal): Promise<CopyRows> {
  const { socket } = await connect(to, { kind: 'ordinary', signal })
  return new CopyRows(socket)
}

/**
 * What comes first. Then the table is kept as it is, by a lock that every SELECT takes, before any snapshot: one that is older than a
 * rewrite of the table would see no rows. A row-level security policy would leave rows out without a word; like this it is an error. Who
 * alters the table is not waited for longer than this. Then which transactions are seen: the rows are read a moment later, and what came to
 * be seen in between is left out, since the log has it.
 */
const BEGIN =
  "begin transaction isolation level read committed read only; set local row_security = off; set local lock_timeout = '2s'"

function copied(query: string): string {
  return `copy (${query}) to stdout`
}

function statementOf({ table, key, after, rows }: ChunkRequest): string {
  const keys = key.columns.map(quoteIdentifier).join(', ')
  const [behind] = key.operators
  const conditions = after === null ? [] : [`(${keys}) ${behind ?? '>'} (${after.map(quoteLiteral).join(', ')})`]
  return copyStatement(table, conditions, ` order by ${keys} limit ${rows}`)
}

/** Null where rows cannot be compared by several columns at once, because the operators of one are an extension's. */
export async function chunkKey(connection: Connection, relation: Relation): Promise<ChunkKey | null> {
  const keyColumns = relation.columns.filter(({ key }) => key)
  const own = keyColumns.map(({ name }) => name)
  const [row] = await connection.query(sql('key-columns', { table: String(relation.oid) }))
  const columns = JSON.parse(row?.['columns'] ?? '[]') as string[]
  const operators = JSON.parse(row?.['operators'] ?? '[]') as (string | null)[]
  const types = JSON.parse(row?.['types'] ?? '[]') as string[]
  const same = columns.length === own.length && own.every((name) => columns.includes(name))
  if (same && columns.length > 1 && operators.some((operator) => operator !== null)) return null
  if (same) return { columns, types, operators }
  return { columns: own, types: keyColumns.map(({ typeOid }) => String(typeOid)), operators: own.map(() => null) }
}

export const FIRST_ROWS = 500
export const MOST_ROWS = 10_000
/** What is kept of a chunk at most, where that is more than one row. */
export const CHUNK_BYTES = 512 * 1024
/** What a chunk should take to read, about. */
const CHUNK_MS = 100

/** Chunks that take about the same time and have room, whatever a row is: after so many that were kept, of so many bytes. */
export function nextRows(rows: number, kept: number, ms: number, rowBytes: number): number {
  if (kept < rows) return Math.max(kept, 1)
  const inTime = Math.round(rows * Math.min(CHUNK_MS / Math.max(ms, 1), 2))
  return Math.max(Math.min(inTime, Math.floor(CHUNK_BYTES / Math.max(rowBytes, 1)), MOST_ROWS), 1)
}

/** As where an update has changed only these, and Postgres had sent nothing else but the key. */
export function sayOnly(columns: readonly string[], { relation }: CompiledTable, row: Tuple): void {
  for (const [index, { name, key }] of relation.columns.entries())
    if (!key && !columns.includes(name)) row.state[index] = UNCHANGED
}

/** Types of a fixed length, which are never out of line: bool, "char", name, int and float, oid, money, dates and times, interval, uuid. */
const FIXED = new Set([16, 18, 19, 20, 21, 23, 26, 700, 701, 790, 1082, 1083, 1114, 1184, 1186, 1266, 2950])
/** A value that is shorter as text is in line: it has less than the 24 bytes which are the least that is moved out. `{1}` of bigint[] has 32. */
const TOASTED_BYTES = 3

/** Whether the stream may leave a value of the row out because it is unchanged: once it is out of line, it is so for as long as it stays the same. */
export function mayBeToasted({ relation }: CompiledTable, row: Tuple): boolean {
  return relation.columns.some(
    ({ key, typeOid }, i) =>
      !key && !FIXED.has(typeOid) && row.state[i] === TEXT && row.end[i]! - row.start[i]! >= TOASTED_BYTES,
  )
}
