/** Tuple: where the values of one row lie in a buffer, whichever way the row came (pgoutput or COPY). */

/** Column states, with pgoutput's own bytes. https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html */
export const NULL = 0x6e // n
/** An unchanged TOAST value: Postgres did not send it. */
export const UNCHANGED = 0x75 // u
export const TEXT = 0x74 // t
/** Our own: a value that is too large for the log, and left out. */
export const OMITTED = 0x6f // o

/** Postgres' limit of columns in a table is 1,600; a tuple is made once and reused for every row. */
const MAX_COLUMNS = 1664

export class Tuple {
  bytes: Buffer = Buffer.alloc(0)
  /** True where nobody else needs the buffer: whoever writes the row may keep it, and write over it. */
  given = false
  count = 0
  /** No less than all its values together. */
  size = 0
  readonly state = new Uint8Array(MAX_COLUMNS)
  /** Byte range of a TEXT value within `bytes`. */
  readonly start = new Int32Array(MAX_COLUMNS)
  readonly end = new Int32Array(MAX_COLUMNS)
}

/** Where the values of tuples that share their bytes begin and end. */
export function extentOf(tuples: readonly Tuple[]): { readonly from: number; readonly to: number } {
  let [from, to] = [tuples[0]?.bytes.length ?? 0, 0]
  for (const { count, state, start, end } of tuples) {
    for (let i = 0; i < count; i++) {
      if (state[i] !== TEXT) continue
      from = Math.min(from, start[i]!)
      to = Math.max(to, end[i]!)
    }
  }
  return { from, to }
}

/** The values of tuples lie in that buffer, so many bytes further on. */
export function moveTo(bytes: Buffer, by: number, tuples: readonly Tuple[]): void {
  for (const tuple of tuples) {
    tuple.bytes = bytes
    for (let i = 0; i < tuple.count; i++) {
      tuple.start[i] = tuple.start[i]! + by
      tuple.end[i] = tuple.end[i]! + by
    }
  }
}

/** True where two tuples hold the same value in a column, byte for byte. */
export function sameValue(a: Tuple, b: Tuple, column: number): boolean {
  if (a.state[column] !== b.state[column]) return false
  if (a.state[column] !== TEXT) return true
  return a.bytes.compare(b.bytes, b.start[column], b.end[column], a.start[column], a.end[column]) === 0
}
