/** The readers of a snapshot at work: they share its units and the sink, and rest while that is full. */
import { EvertError } from '../base/errors.js'
import type { Lsn } from '../event/lsn.js'
import type { CompiledTable } from '../event/table.js'
import type { Transcoder } from '../event/transcoder.js'
import { TypeAltered, ValueMalformed } from '../event/value-types.js'
import { type PublishedTable, qualifiedName } from './catalog.js'
import type { CopyRows } from './copy-rows.js'
import type { SnapshotUnit } from './snapshot-units.js'
import { RENEWED, type Tables } from './tables.js'

/** A table while its rows are read. */
interface OpenTable {
  readonly table: PublishedTable
  /** Null until the first of its units is begun. */
  compiled: CompiledTable | null
  units: number
  rows: number
  bytes: number
}

/** How much of a table was read. */
export interface TableProgress {
  readonly rows: number
  /** On disk, about: of the parts that were read to their end. */
  readonly bytes: number
}

export type OnSnapshotRows = (table: PublishedTable, progress: TableProgress) => void

export interface FinishedTable {
  readonly table: PublishedTable
  readonly compiled: CompiledTable
  readonly rows: number
}

export interface ReadingOptions {
  readonly lsn: Lsn
  readonly signal: AbortSignal
  readonly onRows: OnSnapshotRows
  readonly units: readonly SnapshotUnit[]
  readonly tables: Tables
  readonly transcoder: Transcoder
  /** While the sink is, every reader rests. */
  readonly full: () => boolean
}

/** Each reader takes the next unit when it is through with one. */
export class Reading {
  readonly #options: ReadingOptions
  readonly #left: SnapshotUnit[]
  readonly #open = new Map<PublishedTable, OpenTable>()
  readonly #finished: FinishedTable[] = []
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  #opening: Promise<unknown> = Promise.resolve()
  #working: number
  #error: unknown = null
  /** Of who waits for something to happen. */
  #wake: () => void = () => undefined
  /** Of readers that wait until the sink has room. */
  #waiting: (() => void)[] = []

  constructor(readers: readonly CopyRows[], options: ReadingOptions) {
    this.#options = options
    this.#left = [...options.units]
    for (const { table } of options.units) {
      const open = this.#open.get(table)
      if (open !== undefined) open.units++
      else this.#open.set(table, { table, compiled: null, units: 1, rows: 0, bytes: 0 })
    }
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#working = readers.length
    for (const reader of readers) void this.#work(reader)
  }

  /** That the sink is full, a table that was read to its end, or that all were. */
  async next(): Promise<'full' | 'done' | FinishedTable> {
    for (;;) {
      if (this.#error !== null) throw this.#error
      if (this.#options.full()) return 'full'
      const table = this.#finished.shift()
      if (table !== undefined) return table
      if (this.#working === 0) return 'done'
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  /** The sink has room again. */
  goOn(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  stop(): void {
    this.#stop.abort()
    this.goOn()
  }

  async #work(reader: CopyRows): Promise<void> {
    try {
      for (let unit = this.#left.shift(); unit !== undefined && !this.#signal.aborted; unit = this.#left.shift())
        await this.#read(reader, unit)
    } catch (error) {
      this.#error ??= error
      this.stop()
    }
    this.#working--
    this.#wake()
  }

  async #read(reader: CopyRows, { table, statement, bytes }: SnapshotUnit): Promise<void> {
    const { lsn, transcoder, full, onRows } = this.#options
    const open = this.#open.get(table)!
    const compiled = await this.#compiled(open)
    const [high, low] = halves(lsn)
    const request = {
      statement,
      columns: table.relation.columns.length,
      table: qualifiedName(table.relation),
      onRow: (row: Parameters<Transcoder['snapshotRow']>[3]): void => {
        open.rows++
        try {
          transcoder.snapshotRow(compiled, high, low, row)
        } catch (error) {
          throw unreadable(error, request.table)
        }
      },
      full,
    }
    for await (const _ of reader.copy(request, this.#signal)) {
      onRows(table, open)
      this.#wake()
      if (full() && !this.#signal.aborted) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    if (this.#signal.aborted) return
    open.bytes += bytes
    onRows(table, open)
    if (--open.units === 0) this.#finished.push({ ...open, compiled })
    this.#wake()
  }

  /** One table after the other: the catalog is asked on one connection. Tables are locked, but no composite types: they are asked for again. */
  async #compiled(open: OpenTable): Promise<CompiledTable> {
    const opening = this.#opening.then(async () => {
      if (open.compiled === null || open.compiled.composite)
        open.compiled = await this.#options.tables.open(open.table.relation, RENEWED)
      return open.compiled
    })
    this.#opening = opening.catch(() => undefined)
    return await opening
  }
}

/** What a row that cannot be written means: in a snapshot nobody can say what the type was that it was written with. */
function unreadable(error: unknown, table: string): unknown {
  if (error instanceof TypeAltered) {
    const message = `a composite type of ${table} was altered while its rows were read`
    return new EvertError('SNAPSHOT_OVERTAKEN', { message, cause: error })
  }
  if (!(error instanceof ValueMalformed)) return error
  return new EvertError('PROTOCOL', { message: `a row of ${table} cannot be read: ${error.message}` })
}

/** High and low 32 bits. */
export function halves(lsn: Lsn): [number, number] {
  return [Number(lsn >> 32n), Number(lsn & 0xffffffffn)]
}
