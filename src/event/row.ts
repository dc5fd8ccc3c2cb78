/** Row: what the tuple of a table's row holds. */
import { assert } from '../base/assert.js'
import type { CompiledTable } from './table.js'
import { TEXT, type Tuple, UNCHANGED } from './tuple.js'
import { valueBytes } from './values.js'

/** What the old tuple of an update or delete holds: the key columns, or the whole row. */
export type OldTuple = 'key' | 'full'

/** The columns that Postgres did not send, or null. */
export function unchangedNames(table: CompiledTable | null, row: Tuple | null): readonly string[] | null {
  if (table === null || row === null) return null
  const names = table.relation.columns.filter((_, i) => row.state[i] === UNCHANGED).map(({ name }) => name)
  return names.length === 0 ? null : names
}

/** Under REPLICA IDENTITY FULL the old row carries what the new one leaves out; otherwise the old key may. */
export function takeUnchanged(table: CompiledTable, row: Tuple, old: Tuple, kind: OldTuple): void {
  for (let i = 0; i < table.columns.length; i++) {
    if (row.state[i] !== UNCHANGED || old.state[i] === UNCHANGED) continue
    if (kind === 'key' && !(table.columns[i]!.key && old.state[i] === TEXT)) continue
    assert(row.bytes === old.bytes, 'old and new row lie in one message')
    row.state[i] = old.state[i]!
    row.start[i] = old.start[i]!
    row.end[i] = old.end[i]!
  }
}

/** An upper bound of what a row's values take, written at most twice: in the row and in the key. */
export function tupleBytes(table: CompiledTable, row: Tuple): number {
  let bytes = 0
  for (let i = 0; i < table.columns.length; i++) {
    if (row.state[i] !== TEXT) continue
    const { type, key } = table.columns[i]!
    bytes += (key ? 2 : 1) * valueBytes(type, row.bytes, row.start[i]!, row.end[i]!)
  }
  return bytes
}
