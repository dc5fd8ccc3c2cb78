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
  count = 0
  /** No less than all its values together. */
  size = 0
  readonly state = new Uint8Array(MAX_COLUMNS)
  /** Byte range of a TEXT value within `bytes`. */
  readonly start = new Int32Array(MAX_COLUMNS)
  readonly end = new Int32Array(MAX_COLUMNS)
}

/** True where two tuples hold the same value in a column, byte for byte. */
export function sameValue(a: Tuple, b: Tuple, column: number): boolean {
  if (a.state[column] !== b.state[column]) return false
  if (a.state[column] !== TEXT) return true
  return a.bytes.compare(b.bytes, b.start[column], b.end[column], a.start[column], a.end[column]) === 0
}
