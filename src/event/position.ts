/** Position: the identity of a change. Text form: 16 hex digits, `-`, 8 hex digits, so that positions sort as text. */
import { type Lsn, toLsn } from './lsn.js'

export interface Position {
  readonly commitLsn: Lsn
  /** Counts the published changes of one transaction from 0. */
  readonly ordinal: number
}

/** Ordinals have 8 hex digits: 4,294,967,296 changes in one transaction (or rows in one snapshot). */
export const ORDINAL_MAX = 0xffffffff

export function formatPosition(position: Position): string {
  return `${position.commitLsn.toString(16).padStart(16, '0')}-${position.ordinal.toString(16).padStart(8, '0')}`
}

/** Of the first change of whatever commits at or after an LSN: what comes before has an earlier one. */
export function firstPosition(lsn: Lsn): string {
  return formatPosition({ commitLsn: lsn, ordinal: 0 })
}

/** Returns null where the text is not a position. */
export function parsePosition(text: string): Position | null {
  const match = /^([0-9a-f]{16})-([0-9a-f]{8})$/.exec(text)
  if (match === null) return null
  return { commitLsn: toLsn(BigInt(`0x${match[1]}`)), ordinal: Number.parseInt(match[2] ?? '', 16) }
}

/** Negative, zero or positive, as sort functions want it. */
export function comparePositions(a: Position, b: Position): number {
  if (a.commitLsn !== b.commitLsn) return a.commitLsn < b.commitLsn ? -1 : 1
  return a.ordinal - b.ordinal
}
