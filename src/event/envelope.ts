/**
 * Envelopes: what stands around the rows of an event. Each format is the same few constant parts, which are compiled once per table and
 * once per kind of transaction:
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

/** What tells kinds of transactions apart: what their stamps say otherwise than by what is filled in. */
export interface TransactionKind {
  /** False for snapshot rows and messages outside a transaction. */
  readonly hasXid: boolean
  /** Name of the replication origin that it came through. */
  readonly origin: string | null
  readonly snapshot: boolean
  /** Whether it is known where what is before it in the stream ended. */
  readonly hasLast: boolean
}

/** What each transaction fills in: LSNs in decimal digits, but for that of its commit (16 hex digits); its time as a number since 1970, or RFC 3339. */
export type StampField = 'xid' | 'commitLsn' | 'lastLsn' | 'originLsn' | 'timeMs' | 'timeUs' | 'timeNs' | 'time'

export type StampParts = readonly (string | { readonly field: StampField })[]

/** The stamp of transactions of a kind: what stands around the change's LSN (once or twice, as decimal digits) and its ordinal (8 hex digits). */
export interface Stamp {
  readonly beforeLsn: StampParts
  readonly betweenLsns: StampParts | null
  readonly beforeOrdinal: StampParts
  readonly end: StampParts
}

/** Parts as a template of texts, other parts, and names of fields in an object: parts`"xid":${{ field: 'xid' }},`. */
export function parts(
  texts: TemplateStringsArray,
  ...between: readonly (string | StampParts | StampParts[number])[]
): StampParts {
  return texts.flatMap((text, i) => [text, ...[between[i] ?? []].flat()])
}

export interface Envelope {
  readonly name: FormatName
  /** Up to the value of `before`; null where the event is the row alone, and its metadata are headers. */
  head(operation: Operation, subject: Subject | null): string | null
  readonly between: string
  /** What closes the rows, and all that the table says. */
  source(subject: Subject | null): string
  stamp(kind: TransactionKind): Stamp
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
