/** Batch: what the stream hands on at once, and what is asked of it. */
import type { EndLsn, Lsn } from '../event/lsn.js'
import type { ChangesOptions } from './changes.js'

/** What is taken out of the stream at once: records of whole transactions, or a part of a large one. */
export interface Batch<Records> {
  readonly records: Records
  /** Where the last whole transaction ends; null for a part: the log transaction stays open. */
  readonly endLsn: EndLsn | null
  /** The last transaction that the batch holds something of. */
  readonly commitLsn: Lsn
}

export interface BatchLimits {
  /**
   * A log transaction that holds this much ends with the transaction at hand, and only one of the database that is larger by itself is cut
   * where it stands; as much again may fill meanwhile before the socket is paused.
   */
  readonly bytes: number
  /** How long a transaction may wait for others to share its log transaction; 0 publishes at once, but for a stream that is fast (linger.ts). */
  readonly ageMs: number
}

export interface ChangesRequest<Records> extends Omit<ChangesOptions, 'waitFor'> {
  readonly cut: () => Records
  readonly limits: BatchLimits
  /** Ends the iteration before the first transaction that commits at or after it. */
  readonly until?: Lsn
  readonly signal: AbortSignal
}
