/**
 * Envelopes: what stands around the rows of an event. Each format is the same few constant parts, which are compiled once per table and
 * once per transaction:
 *
 *   head(op) BEFORE between AFTER [unchanged] source(table) stamp
 */
import type { Lsn } from './lsn.js'
import type { RecordHeader } from './sink.js'

export const FORMATS = ['evert', 'debezium', 'plain', 'cloudevents'] as const
export type FormatName = (typeof FORMATS)[number]

export type Operation = 'c' | 'u' | 'd' | 'r' | 't' | 'm'

/** Whose change it is: a table, or null for a logical message. */
export interface Subject {
  readonly schema: string
  readonly table: string
}

/** The replication origin that a transaction came through. */
export interface Origin {
  readonly name: string
  /** Of the commit there. */
  readonly lsn: Lsn
}

/** What a transaction gives to all its events. */
export interface TransactionFacts {
  /** 16 hex digits. */
  readonly commitLsn: string
  /** Microseconds since 1970. */
  readonly timeUs: bigint
  /** Unsigned; null for snapshot rows and messages outside a transaction. */
  readonly xid: number | null
  readonly origin: Origin | null
  readonly snapshot: boolean
  /** Commit LSN of the transaction before it in the stream, of the first one the LSN that the stream began at; or null. */
  readonly lastLsn: Lsn | null
}

/** The stamp of a transaction: its texts around the change's LSN (once or twice, as decimal digits) and its ordinal (8 hex digits). */
export interface Stamp {
  readonly beforeLsn: string
  readonly betweenLsns: string | null
  readonly beforeOrdinal: string
  readonly end: string
}

export interface Envelope {
  readonly name: FormatName
  /** Up to the value of `before`; null where the event is the row alone, and its metadata are headers. */
  head(operation: Operation, subject: Subject | null): string | null
  readonly between: string
  /** What closes the rows, and all that the table says. */
  source(subject: Subject | null): string
  stamp(transaction: TransactionFacts): Stamp
  /** Of the two records that a changed key becomes. */
  readonly keyHeaders: { readonly old: string; readonly new: string }
  /** On every record that has a value. */
  readonly headers: readonly RecordHeader[] | null
}

/** What a format may have to name. */
export interface Origins {
  readonly pipeline: string
  readonly database: string
  /** Of evert. */
  readonly version: string
}
