/**
 * Row digests: what two sides say the rows of tables are, by key, on disk, so that memory does not grow with the tables. Entries go into one
 * of many files by the key's hash; then each pair of files is compared on its own.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EvertError } from './base/errors.js'
import { membersOf } from './event/members.js'

export type Side = 'log' | 'table'

/** An entry about one row of a side; the later one of a key counts. */
export interface RowEntry {
  readonly side: Side
  readonly table: number
  readonly partition: number
  /** As text; of the side `table` it is empty. */
  readonly position: string
  readonly key: Buffer
}

export interface Difference {
  readonly table: number
  readonly kind: 'missing' | 'extra' | 'different'
  readonly key: string
  /** Of the last event of the key in the log. */
  readonly position: string | null
  /** Hashes of the names of columns that differ. */
  readonly columns: readonly number[]
}

export interface Comparison {
  readonly table: number
  /** Rows of the table. */
  readonly rows: number
  /** Rows that the log folds to. */
  readonly logRows: number
  /** Values that the log does not have, because Postgres did not send them, or because the column came later. */
  readonly notCompared: number
}

const BUFFER_BYTES = 32 * 1024
const CHUNK_BYTES = 1024 * 1024
const HEAD_BYTES = 4 + 1 + 2 + 2 + 12 + 4
const COLUMN_BYTES = 12
const KIND = { row: 0, partial: 1, gone: 2, truncate: 3, later: 4, laterTruncate: 5 } as const

interface Bucket {
  readonly file: number
  readonly buffer: Buffer
  used: number
}

/** A row as it is held while a bucket is compared. */
interface Held {
  readonly position: string
  readonly partition: number
  readonly table: number
  /** Hash of the column's name, and two of its value. */
  columns: Uint32Array
}

export class RowDigests {
  readonly #folder = mkdtempSync(join(tmpdir(), 'evert-digests-'))
  readonly #sides: Readonly<Record<Side, readonly Bucket[]>>

  /** About one bucket for 50,000 rows keeps each of them small. */
  constructor(rows: number) {
    const count = Math.min(Math.max(Math.ceil(rows / 50_000), 16), 256)
    const open = (side: Side): Bucket[] =>
      Array.from({ length: count }, (_, i) => {
        return { file: openSync(join(this.#folder, `${side}-${i}`), 'w+'), buffer: Buffer.alloc(BUFFER_BYTES), used: 0 }
      })
    this.#sides = { log: open('log'), table: open('table') }
  }

  /** A row as the JSON object at `start` of the bytes says it. A partial one leaves the other columns as they were. */
  row(entry: RowEntry, bytes: Buffer, start: number, partial: boolean): void {
    const columns: number[] = []
    for (const member of membersOf(bytes, start)) {
      columns.push(hashText(member.name), ...hash(bytes, member.start, member.end))
    }
    this.#write(entry, partial ? KIND.partial : KIND.row, columns)
  }

  gone(entry: RowEntry): void {
    this.#write(entry, KIND.gone, [])
  }

  /** Every row of a table that came before in that partition is gone. */
  truncate(entry: Omit<RowEntry, 'key'>): void {
    for (const bucket of this.#sides[entry.side])
      this.#append(bucket, encode({ ...entry, key: EMPTY }, KIND.truncate, []))
  }

  /** The log goes on with that key: of what it had before, compaction may have left nothing. */
  later(entry: RowEntry): void {
    this.#write(entry, KIND.later, [])
  }

  /** The log goes on with a truncate, and an earlier one may be gone. */
  laterTruncate(entry: Omit<RowEntry, 'key'>): void {
    for (const bucket of this.#sides[entry.side])
      this.#append(bucket, encode({ ...entry, key: EMPTY }, KIND.laterTruncate, []))
  }

  /** Tells of every difference, and gives the counts of each table. */
  compare(onDifference: (difference: Difference) => void): Comparison[] {
    const counts = new Map<number, { rows: number; logRows: number; notCompared: number }>()
    const countsOf = (table: number): { rows: number; logRows: number; notCompared: number } => {
      const known = counts.get(table) ?? { rows: 0, logRows: 0, notCompared: 0 }
      counts.set(table, known)
      return known
    }
    for (const [i, bucket] of this.#sides.log.entries()) {
      const { held, later, truncated } = this.#fold(bucket)
      for (const { table } of held.values()) countsOf(table).logRows++
      for (const { entry, columns } of this.#read(this.#sides.table[i]!)) {
        countsOf(entry.table).rows++
        const id = idOf(entry)
        const found = held.get(id)
        const key = entry.key.toString()
        if (found === undefined && later.has(id)) {
          countsOf(entry.table).notCompared++
          continue
        }
        if (found === undefined) {
          onDifference({ table: entry.table, kind: 'missing', key, position: null, columns: [] })
          continue
        }
        held.delete(id)
        const { different, notCompared } = differing(found.columns, columns)
        countsOf(entry.table).notCompared += notCompared
        if (different.length > 0 && later.has(id)) countsOf(entry.table).notCompared += different.length
        else if (different.length > 0)
          onDifference({ table: entry.table, kind: 'different', key, position: found.position, columns: different })
      }
      for (const [id, { table, partition, position }] of held) {
        if (later.has(id) || truncated.has(`${table} ${partition}`)) countsOf(table).notCompared++
        else onDifference({ table, kind: 'extra', key: id.slice(id.indexOf(' ') + 1), position, columns: [] })
      }
    }
    return [...counts].map(([table, count]) => ({ table, ...count }))
  }

  close(): void {
    for (const { file } of [...this.#sides.log, ...this.#sides.table]) closeSync(file)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** The rows that the entries of a bucket leave; the keys and partitions that the log goes on with. */
  #fold(bucket: Bucket): {
    readonly held: Map<string, Held>
    readonly later: ReadonlySet<string>
    readonly truncated: ReadonlySet<string>
  } {
    const held = new Map<string, Held>()
    const later = new Set<string>()
    const truncated = new Set<string>()
    for (const { kind, entry, columns } of this.#read(bucket)) {
      const id = idOf(entry)
      if (kind === KIND.truncate) {
        for (const [other, { table, partition }] of held)
          if (table === entry.table && partition === entry.partition) held.delete(other)
      } else if (kind === KIND.later) {
        later.add(id)
      } else if (kind === KIND.laterTruncate) {
        truncated.add(`${entry.table} ${entry.partition}`)
      } else if (kind === KIND.gone) {
        held.delete(id)
      } else {
        const before = kind === KIND.partial ? held.get(id)?.columns : undefined
        const { position, partition, table } = entry
        held.set(id, { position, partition, table, columns: before === undefined ? columns : merged(before, columns) })
      }
    }
    return { held, later, truncated }
  }

  #write(entry: RowEntry, kind: number, columns: readonly number[]): void {
    const buckets = this.#sides[entry.side]
    const [first] = hash(entry.key, 0, entry.key.length)
    this.#append(buckets[first % buckets.length]!, encode(entry, kind, columns))
  }

  #append(bucket: Bucket, bytes: Buffer): void {
    if (bucket.used + bytes.length > bucket.buffer.length) this.#flush(bucket)
    if (bytes.length > bucket.buffer.length) writeAll(bucket.file, bytes)
    else bucket.used += bytes.copy(bucket.buffer, bucket.used)
  }

  #flush(bucket: Bucket): void {
    writeAll(bucket.file, bucket.buffer.subarray(0, bucket.used))
    bucket.used = 0
  }

  *#read(bucket: Bucket): Generator<Decoded> {
    this.#flush(bucket)
    let left = EMPTY
    for (let at = 0; ;) {
      const chunk = Buffer.alloc(CHUNK_BYTES)
      const count = readSync(bucket.file, chunk, 0, chunk.length, at)
      if (count === 0) return
      at += count
      const bytes = Buffer.concat([left, chunk.subarray(0, count)])
      let from = 0
      while (from + 4 <= bytes.length) {
        const length = bytes.readUInt32LE(from)
        if (from + length > bytes.length) break
        yield decode(bytes.subarray(from, from + length))
        from += length
      }
      left = bytes.subarray(from)
    }
  }
}

/** Error: OUTPUT_FAILED. */
function writeAll(file: number, bytes: Buffer): void {
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at)
  } catch (error) {
    throw new EvertError('OUTPUT_FAILED', {
      message: `the temporary folder "${tmpdir()}" cannot be written: ${(error as Error).message}`,
      hint: 'make room there, let TMPDIR be another folder, or compare a part: --sample, --tables',
      cause: error,
    })
  }
}

const EMPTY = Buffer.alloc(0)

interface Decoded {
  readonly kind: number
  readonly entry: Omit<RowEntry, 'side'>
  readonly columns: Uint32Array
}

function idOf({ table, key }: Pick<RowEntry, 'table' | 'key'>): string {
  return `${table} ${key.toString()}`
}

/** Length, kind, table, partition, position, length of the key; the key; three words a column. */
function encode({ table, partition, position, key }: RowEntry, kind: number, columns: readonly number[]): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES + key.length + columns.length * 4)
  bytes.writeUInt32LE(bytes.length, 0)
  bytes.writeUInt8(kind, 4)
  bytes.writeUInt16LE(table, 5)
  bytes.writeUInt16LE(partition, 7)
  bytes.write(position.replace('-', ''), 9, 'hex')
  bytes.writeUInt32LE(key.length, 21)
  key.copy(bytes, HEAD_BYTES)
  columns.forEach((word, i) => bytes.writeUInt32LE(word, HEAD_BYTES + key.length + 4 * i))
  return bytes
}

function decode(bytes: Buffer): Decoded {
  const keyEnd = HEAD_BYTES + bytes.readUInt32LE(21)
  const columns = new Uint32Array((bytes.length - keyEnd) / 4)
  for (let i = 0; i < columns.length; i++) columns[i] = bytes.readUInt32LE(keyEnd + 4 * i)
  const position = `${bytes.toString('hex', 9, 17)}-${bytes.toString('hex', 17, 21)}`
  const entry = {
    table: bytes.readUInt16LE(5),
    partition: bytes.readUInt16LE(7),
    position,
    key: bytes.subarray(HEAD_BYTES, keyEnd),
  }
  return { kind: bytes.readUInt8(4), entry, columns }
}

const WORDS = COLUMN_BYTES / 4

/** The columns of the later one, and those that only the earlier one has. */
function merged(earlier: Uint32Array, later: Uint32Array): Uint32Array {
  const words = [...later]
  for (let i = 0; i < earlier.length; i += WORDS)
    if (columnAt(later, earlier[i]!) === -1) words.push(earlier[i]!, earlier[i + 1]!, earlier[i + 2]!)
  return Uint32Array.from(words)
}

/** Those of the row that the log has too, with another value; and how many it does not have. */
function differing(log: Uint32Array, row: Uint32Array): { readonly different: number[]; readonly notCompared: number } {
  const different: number[] = []
  let notCompared = 0
  for (let i = 0; i < row.length; i += WORDS) {
    const at = columnAt(log, row[i]!)
    if (at === -1) notCompared++
    else if (log[at + 1] !== row[i + 1] || log[at + 2] !== row[i + 2]) different.push(row[i]!)
  }
  return { different, notCompared }
}

function columnAt(columns: Uint32Array, name: number): number {
  for (let i = 0; i < columns.length; i += WORDS) if (columns[i] === name) return i
  return -1
}

/** The hash that a difference names a column by. */
export function hashText(text: string): number {
  const bytes = Buffer.from(text)
  return hash(bytes, 0, bytes.length)[0]
}

/**
 * Two words: FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), and a product with another odd number that also shifts; about 2 ns a byte.
 * Nobody chooses rows in order to collide.
 */
function hash(bytes: Uint8Array, start: number, end: number): [number, number] {
  let first = 0x811c9dc5
  let second = end - start
  for (let i = start; i < end; i++) {
    first = Math.imul(first ^ bytes[i]!, 0x01000193)
    second = Math.imul(second ^ bytes[i]!, 0x5bd1e995)
    second ^= second >>> 15
  }
  first ^= first >>> 16
  return [first >>> 0, second >>> 0]
}
