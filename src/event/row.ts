/** Row: what the tuple of a table's row holds. */
import { assert } from '../base/assert.js'
import { type CompiledTable, RECORD_OVERHEAD_BYTES } from './table.js'
import { extentOf, moveTo, NULL, OMITTED, TEXT, type Tuple, UNCHANGED } from './tuple.js'
import { KIND } from './type-kinds.js'
import type { ValueType } from './value-types.js'
import { valueBytes } from './values.js'

/** What the old tuple of an update or delete holds: the key columns, or the whole row. */
export type OldTuple = 'key' | 'full'

/** The columns in that state, or null where there is none. */
export function columnsIn(state: number, table: CompiledTable, row: Tuple): readonly string[] | null {
  const names = table.relation.columns.filter((_, i) => row.state[i] === state).map(({ name }) => name)
  return names.length === 0 ? null : names
}

/** A record batch counts its bytes with 31 bits. */
export const EVENT_BYTES = 2 ** 31 - 65_536
/** More than a transaction gives to an event. */
const STAMP_BYTES = 65_536

/**
 * Leaves out the largest value that is not of the key, because the event is so many bytes too large: of the old row, where its values make up
 * for that, for the new one is what counts. False where there is none left.
 */
export function omitLargest(table: CompiledTable, row: Tuple, old: Tuple | null, excess: number): boolean {
  // Each value is looked at once, for it may be large.
  const sizesOf = (one: Tuple): number[] => table.columns.map(({ key, type }, i) => (key ? 0 : bytesOf(type, one, i)))
  const ofOld = old === null ? [] : sizesOf(old)
  const oldBytes = ofOld.reduce((sum, bytes) => sum + bytes, 0)
  const [from, sizes] = old !== null && oldBytes >= excess ? [old, ofOld] : [row, sizesOf(row)]
  const largest = Math.max(0, ...sizes)
  if (largest > 0) {
    from.state[sizes.indexOf(largest)] = OMITTED
    return true
  }
  // Nothing is left of the new row: what there is of the old one goes, too.
  return from === row && oldBytes > 0 ? omitLargest(table, old!, null, excess) : false
}

/** An upper bound of what the rows of an event take. With `omit`, without texts that no record of the table's topic can hold. */
export function rowsBytes(table: CompiledTable, row: Tuple, old: Tuple | null, omit: boolean): number {
  const bytes = tupleBytes(table, row) + (old === null ? 0 : tupleBytes(table, old))
  if (bytes <= table.maxRecordBytes || !omit) return bytes
  omitTexts(table, row)
  if (old !== null) omitTexts(table, old)
  for (;;) {
    const left = rowsBytes(table, row, old, false)
    // What may take more than can be reckoned with at all is larger than any topic takes.
    const excess = left + table.constantBytes + STAMP_BYTES - EVENT_BYTES
    if (excess <= 0 || !omitLargest(table, row, old, excess)) return left
  }
}

/** Before any is written for nothing: a text is as long as it is reckoned, while values of other kinds may turn out shorter. */
function omitTexts(table: CompiledTable, row: Tuple): void {
  for (const [i, { key, type }] of table.columns.entries()) {
    if (!key && type.kind === KIND.text && bytesOf(type, row, i) > table.maxRecordBytes) row.state[i] = OMITTED
  }
}

function bytesOf(type: ValueType, { bytes, state, start, end }: Tuple, i: number): number {
  return state[i] === TEXT ? valueBytes(type, bytes, start[i]!, end[i]!) : 0
}

/** Under REPLICA IDENTITY FULL the old row carries what the new one leaves out; otherwise the old key may. */
export function takeUnchanged(table: CompiledTable, row: Tuple, old: Tuple, kind: OldTuple): void {
  for (let i = 0; i < table.columns.length; i++) {
    if (row.state[i] !== UNCHANGED || (old.state[i] !== TEXT && old.state[i] !== NULL)) continue
    if (kind === 'key' && !(table.columns[i]!.key && old.state[i] === TEXT)) continue
    assert(row.bytes === old.bytes, 'old and new row lie in one message')
    row.state[i] = old.state[i]!
    row.start[i] = old.start[i]!
    row.end[i] = old.end[i]!
    row.size += old.end[i]! - old.start[i]!
  }
}

/** Longer values are looked at, so that one of 20 MB does not reserve 120. */
const MEASURE_FROM = 4096

/** An upper bound of what a row's values take. */
export function tupleBytes(table: CompiledTable, row: Tuple): number {
  // Most rows: no look at their columns, for 0.2 µs in a row of 20.
  if (table.growth > 0 && row.size <= MEASURE_FROM) return table.growth * row.size
  let bytes = 0
  for (let i = 0; i < table.columns.length; i++) bytes += columnBytes(table, row, i)
  return bytes
}

/**
 * Moves the values of a row to the end of their buffer, which is given, so that its record can be written into the same buffer from the front
 * on, never beyond what is still to be read: a value of 100 MB would else be there twice. The buffer, or null where there is no room for
 * that or far too much, and then nothing was moved. `rowBytes` are those of the values in `recordBytes`, both at most.
 */
export function makeRoom(
  table: CompiledTable,
  row: Tuple,
  old: Tuple | null,
  rowBytes: number,
  recordBytes: number,
): Buffer | null {
  // Of a value that is made of others nobody knows where it grows; a record that is too large is written again.
  if (table.growth === 0 || recordBytes > table.maxRecordBytes) return null
  const tuples = old === null ? [row] : [old, row]
  const { from, to } = extentOf(tuples)
  const by = row.bytes.length - to
  let at = RECORD_OVERHEAD_BYTES + recordBytes - rowBytes
  if (at > row.bytes.length) return null
  for (const tuple of tuples) {
    for (let i = 0; i < table.columns.length; i++) {
      if (tuple.state[i] !== TEXT) continue
      // One that shrinks is read ahead of what is written; of one that grows, no less is still to be written than to be read.
      if (at > tuple.start[i]! + by) return null
      at += columnBytes(table, tuple, i)
      if (at > tuple.end[i]! + by) return null
    }
  }
  // A small batch is not to hold a huge buffer that nobody counts: where values are left out, or an old row that is not written.
  if (at * 2 < row.bytes.length) return null
  row.bytes.copyWithin(from + by, from, to)
  moveTo(row.bytes, by, tuples)
  return row.bytes
}

/** The same of the values of its key. */
export function keyBytes(table: CompiledTable, row: Tuple): number {
  let bytes = 0
  for (const i of table.keyColumns) bytes += columnBytes(table, row, i)
  return bytes
}

function columnBytes(table: CompiledTable, row: Tuple, i: number): number {
  const { growth, type } = table.columns[i]!
  const length = row.end[i]! - row.start[i]!
  if (growth > 0 && length <= MEASURE_FROM && row.state[i] === TEXT) return growth * length
  return bytesOf(type, row, i)
}
