/**
 * Row digests: what two sides say the rows of tables are, by key, on disk, so that memory does not grow with the tables. Entries go into one
 * of many files by the key's hash; then each pair of files is compared on its own, in parts where it is large.
 */
import { setImmediate as breathe } from 'node:timers/promises'
import { membersOf } from './event/members.js'
import { SpillFile } from './spill-file.js'

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
  /** `unknown` where what the log has of the row is the same, and that is not all of it. */
  readonly kind: 'missing' | 'extra' | 'different' | 'unknown'
  readonly key: Buffer
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

/** What is compared at a time: its rows are in memory. */
const BUCKET_BYTES = 8 * 1024 ** 2
const PARTS = 16
/** A key with more events than a bucket should have stays in one, however often that is split. */
const SPLITS = 4
const COLUMN_BYTES = 12
const KIND = { row: 0, partial: 1, gone: 2, later: 3 } as const

type Buckets = Readonly<Record<Side, readonly SpillFile[]>>
type Counts = Omit<Comparison, 'table'>

interface CompareTo {
  readonly onDifference: (difference: Difference) => void
  readonly countsOf: (table: number) => { -readonly [Name in keyof Counts]: Counts[Name] }
  readonly signal: AbortSignal
}

export class RowDigests {
  readonly #buckets: Buckets
  readonly #bucketBytes: number
  /** The entry that is being written: an object for each would cost more than all the rest. */
  #entry = Buffer.alloc(4096)
  /** By name. */
  readonly #names = new Map<string, number>()
  /** By partition, the place of the last one: the rows before it are gone. */
  readonly #truncates = new Map<string, string>()
  /** Partitions in which the log goes on with one. */
  readonly #laterTruncates = new Set<string>()

  /** Of about so many rows and bytes of them. One bucket for 50,000 rows keeps each of them small. */
  constructor(
    of: { readonly rows: number; readonly bytes: number },
    { share = 1, bucketBytes = BUCKET_BYTES }: { readonly share?: number; readonly bucketBytes?: number } = {},
  ) {
    this.#bucketBytes = bucketBytes
    // Of a table that was never analyzed only the bytes are known.
    const rows = Math.max(of.rows, of.bytes / 200) * share
    const count = Math.min(Math.max(Math.ceil(rows / 50_000), 16), 128)
    this.#buckets = { log: opened(count), table: opened(count) }
  }

  /** A row as the JSON object at `start` of the bytes says it. A partial one leaves the other columns as they were. */
  row(entry: RowEntry, bytes: Buffer, start: number, partial: boolean): void {
    let at = this.#begin(entry, partial ? KIND.partial : KIND.row)
    for (const member of membersOf(bytes, start)) {
      this.#reserve(at + COLUMN_BYTES)
      const [first, second] = hash(bytes, member.start, member.end)
      this.#entry.writeUInt32LE(this.#nameHash(member.name), at)
      this.#entry.writeUInt32LE(first, at + 4)
      this.#entry.writeUInt32LE(second, at + 8)
      at += COLUMN_BYTES
    }
    this.#end(entry, at)
  }

  gone(entry: RowEntry): void {
    this.#end(entry, this.#begin(entry, KIND.gone))
  }

  /** Every row of a table that came before in that partition of the log is gone. */
  truncate(entry: Omit<RowEntry, 'key'>): void {
    const { partition, place } = this.#placeOf(entry)
    if (place > (this.#truncates.get(partition) ?? '')) this.#truncates.set(partition, place)
  }

  /** The log goes on with that key: of what it had before, compaction may have left nothing. */
  later(entry: RowEntry): void {
    this.#end(entry, this.#begin(entry, KIND.later))
  }

  /** The log goes on with a truncate, and an earlier one may be gone. */
  laterTruncate(entry: Omit<RowEntry, 'key'>): void {
    this.#laterTruncates.add(this.#placeOf(entry).partition)
  }

  /** Tells of every difference, and gives the counts of each table. */
  async compare(onDifference: (difference: Difference) => void, signal: AbortSignal): Promise<Comparison[]> {
    const counts = new Map<number, ReturnType<CompareTo['countsOf']>>()
    const countsOf: CompareTo['countsOf'] = (table) => {
      const known = counts.get(table) ?? { rows: 0, logRows: 0, notCompared: 0 }
      counts.set(table, known)
      return known
    }
    await this.#compareBuckets(this.#buckets, { onDifference, countsOf, signal }, 0)
    return [...counts].map(([table, count]) => ({ table, ...count }))
  }

  close(): void {
    for (const bucket of [...this.#buckets.log, ...this.#buckets.table]) bucket.close()
  }

  async #compareBuckets(buckets: Buckets, to: CompareTo, split: number): Promise<void> {
    for (const [i, log] of buckets.log.entries()) {
      const table = buckets.table[i]!
      if (split === SPLITS || Math.max(log.bytes, table.bytes) <= this.#bucketBytes) {
        await breathe() // a server that waits for an answer does not wait for all of them
        to.signal.throwIfAborted()
        this.#compareBucket(log, table, to)
        continue
      }
      const parts = { log: this.#split(log, split), table: this.#split(table, split) }
      try {
        await this.#compareBuckets(parts, to, split + 1)
      } finally {
        for (const part of [...parts.log, ...parts.table]) part.close()
      }
    }
  }

  /** By another hash of the key, which the first one says nothing about. */
  #split(bucket: SpillFile, split: number): SpillFile[] {
    const parts = opened(PARTS)
    for (const bytes of bucket.entries()) {
      const [, second] = hash(bytes, KEY_START, decode(bytes).keyEnd)
      parts[(second >>> (4 * split)) % PARTS]!.append(bytes, bytes.length)
    }
    return parts
  }

  #compareBucket(log: SpillFile, table: SpillFile, { onDifference, countsOf }: CompareTo): void {
    const { held, later } = this.#fold(log)
    for (const id of held.keys()) countsOf(tableIn(id)).logRows++
    for (const bytes of table.entries()) {
      const { id, keyEnd } = decode(bytes)
      const counts = countsOf(tableIn(id))
      counts.rows++
      const found = held.get(id)
      if (found === undefined) {
        if (later.has(id)) counts.notCompared++
        else onDifference({ ...rowIn(id), kind: 'missing', position: null, columns: [] })
        continue
      }
      held.delete(id)
      const row = bytes.toString('latin1', keyEnd + PLACE_BYTES)
      if (found.length === PLACE_BYTES + row.length && found.endsWith(row)) continue
      const { different, notCompared } = differing(columnsIn(found), columnsIn(row, 0))
      counts.notCompared += notCompared
      if (later.has(id)) {
        counts.notCompared += different.length
      } else if (different.length > 0 || notCompared > 0) {
        const kind = different.length > 0 ? 'different' : 'unknown'
        onDifference({ ...rowIn(id), kind, position: positionIn(found), columns: different })
      }
    }
    for (const [id, found] of held) {
      if (later.has(id) || this.#laterTruncates.has(partitionIn(id, found))) countsOf(tableIn(id)).notCompared++
      else onDifference({ ...rowIn(id), kind: 'extra', position: positionIn(found), columns: [] })
    }
  }

  /** The rows that the entries of a bucket leave, by id; the keys that the log goes on with. */
  #fold(bucket: SpillFile): { readonly held: Map<string, string>; readonly later: ReadonlySet<string> } {
    const held = new Map<string, string>()
    const later = new Set<string>()
    const gone = new Map<string, string>()
    for (const bytes of bucket.entries()) {
      const { kind, id, keyEnd } = decode(bytes)
      const row = bytes.toString('latin1', keyEnd)
      if (kind === KIND.later) {
        later.add(id)
      } else if (this.#truncates.size > 0 && placeIn(row) < (this.#truncates.get(partitionIn(id, row)) ?? '')) {
        continue
      } else if (hasMoved(id, row, held.get(id) ?? gone.get(id) ?? row)) {
        continue
      } else if (kind === KIND.gone) {
        held.delete(id)
        gone.set(id, row.slice(0, PLACE_BYTES))
      } else {
        gone.delete(id)
        const before = kind === KIND.partial ? held.get(id) : undefined
        held.set(id, before === undefined ? row : row + onlyIn(before, columnsIn(row)))
      }
    }
    return { held, later }
  }

  /** Writes what an entry begins with, and gives where its columns come. */
  #begin({ table, partition, position, key }: RowEntry, kind: number): number {
    const keyEnd = KEY_START + key.length
    const out = this.#reserve(keyEnd + PLACE_BYTES)
    out.writeUInt8(kind, 4)
    out.writeUInt32LE(key.length, 5)
    out.writeUInt16LE(table, 9)
    key.copy(out, KEY_START)
    out.writeUInt16LE(partition, keyEnd)
    out.fill(0, keyEnd + 2, keyEnd + PLACE_BYTES)
    out.write(position.replace('-', ''), keyEnd + 2, 'hex')
    return keyEnd + PLACE_BYTES
  }

  #end({ side, key }: RowEntry, length: number): void {
    this.#entry.writeUInt32LE(length, 0)
    const buckets = this.#buckets[side]
    const [first] = hash(key, 0, key.length)
    buckets[first % buckets.length]!.append(this.#entry, length)
  }

  #placeOf(entry: Omit<RowEntry, 'key'>): { readonly partition: string; readonly place: string } {
    const length = this.#begin({ ...entry, key: EMPTY }, KIND.row)
    const { id, keyEnd } = decode(this.#entry)
    const row = this.#entry.toString('latin1', keyEnd, length)
    return { partition: partitionIn(id, row), place: placeIn(row) }
  }

  /** Room for so many bytes of the entry. */
  #reserve(bytes: number): Buffer {
    if (bytes > this.#entry.length) this.#entry = Buffer.concat([this.#entry], 2 * bytes)
    return this.#entry
  }

  #nameHash(name: string): number {
    const known = this.#names.get(name) ?? hashText(name)
    this.#names.set(name, known)
    return known
  }
}

function opened(count: number): SpillFile[] {
  return Array.from({ length: count }, () => new SpillFile())
}

const EMPTY = Buffer.alloc(0)

/** Behind length, kind, length of the key, and table. */
const KEY_START = 4 + 1 + 4 + 2
/** Behind the key: partition, position; then three words a column, the hash of its name and two of its value. */
const PLACE_BYTES = 2 + 12

/** The bytes of table and key, and those behind them, are also held as strings of one byte a character, which take little memory. */
interface Entry {
  readonly kind: number
  readonly id: string
  readonly keyEnd: number
}

function decode(bytes: Buffer): Entry {
  const keyEnd = KEY_START + bytes.readUInt32LE(5)
  const id = bytes.toString('latin1', KEY_START - 2, keyEnd)
  return { kind: bytes.readUInt8(4), id, keyEnd }
}

function tableIn(id: string): number {
  return id.charCodeAt(0) + 256 * id.charCodeAt(1)
}

function rowIn(id: string): { readonly table: number; readonly key: Buffer } {
  return { table: tableIn(id), key: Buffer.from(id.slice(2), 'latin1') }
}

/** With its table. */
function partitionIn(id: string, row: string): string {
  return id.slice(0, 2) + row.slice(0, 2)
}

/** Of a topic that was given more partitions: whether the key has moved since, into one that was read before. */
function hasMoved(id: string, row: string, last: string): boolean {
  return partitionIn(id, row) !== partitionIn(id, last) && placeIn(row) < placeIn(last)
}

/** Its position, in characters that are ordered as positions are. */
function placeIn(row: string): string {
  return row.slice(2, PLACE_BYTES)
}

function positionIn(row: string): string {
  const digits = Buffer.from(placeIn(row), 'latin1').toString('hex')
  return `${digits.slice(0, 16)}-${digits.slice(16)}`
}

/** Values by name, as hashes. */
function columnsIn(row: string, start = PLACE_BYTES): ReadonlyMap<string, string> {
  const columns = new Map<string, string>()
  for (let at = start; at < row.length; at += COLUMN_BYTES)
    columns.set(row.slice(at, at + 4), row.slice(at + 4, at + COLUMN_BYTES))
  return columns
}

/** The columns of a row that are not among those. */
function onlyIn(row: string, columns: ReadonlyMap<string, string>): string {
  return [...columnsIn(row)].map(([name, value]) => (columns.has(name) ? '' : name + value)).join('')
}

/** Those of the row that the log has too, with another value; and how many it does not have. */
function differing(
  log: ReadonlyMap<string, string>,
  row: ReadonlyMap<string, string>,
): { readonly different: number[]; readonly notCompared: number } {
  const shared = [...row].filter(([name]) => log.has(name))
  const different = shared.filter(([name, value]) => log.get(name) !== value)
  return {
    different: different.map(([name]) => Buffer.from(name, 'latin1').readUInt32LE(0)),
    notCompared: row.size - shared.length,
  }
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
