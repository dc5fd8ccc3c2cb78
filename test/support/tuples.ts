/** Rows without a server: tuples as they come out of a message, and the relation that they are of. */
import type { Relation } from '../../src/event/relation.js'
import { type NULL, type OMITTED, TEXT, Tuple, type UNCHANGED } from '../../src/event/tuple.js'

/** A value in its state: text, or without any. */
export type Cell = string | typeof NULL | typeof UNCHANGED | typeof OMITTED

export function tupleOf(cells: readonly Cell[]): Tuple {
  const tuple = new Tuple()
  const texts = cells.map((cell) => (typeof cell === 'string' ? Buffer.from(cell) : Buffer.alloc(0)))
  let end = 0
  for (const [i, bytes] of texts.entries()) {
    tuple.start[i] = end
    tuple.end[i] = end += bytes.length
    tuple.state[i] = typeof cells[i] === 'string' ? TEXT : (cells[i] as number)
  }
  tuple.bytes = Buffer.concat(texts)
  tuple.count = cells.length
  // As little as it may be: the bounds are reckoned from it.
  tuple.size = end
  return tuple
}

/** Of a table with REPLICA IDENTITY FULL. */
export function relationOf(
  columns: readonly { readonly name: string; readonly typeOid: number; readonly key: boolean }[],
): Relation {
  return {
    oid: 1,
    schema: 'public',
    table: 't',
    replicaIdentity: 'full',
    columns: columns.map((column) => ({ ...column, typeModifier: -1 })),
  }
}
