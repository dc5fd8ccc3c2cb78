/** Ledger: what Postgres has committed, and what must be seen of it. Computed by the workload, not by evert. */

import type { Relation } from '../../src/event/relation.js'
import type { Row } from './postgres/messages.js'
import type { Fields } from './postgres/tables.js'

/** One record that a read_committed consumer must see, once; a truncate once in each partition. */
export interface Expected {
  readonly topic: string
  readonly position: string
  /** Null for the tombstone behind a delete. */
  readonly op: string | null
  readonly key: string | null
  readonly after: Readonly<Record<string, unknown>> | null
  readonly everywhere: boolean
}

/** A transaction, or a message that is one of its own: what the stream says of it and what must come of it. */
export interface Committed {
  readonly turn: number
  /** Where its commit record (or the message) starts: what the slot goes by. */
  readonly startLsn: bigint
  readonly endLsn: bigint
  /** The CopyData messages that the walsender makes of it; a table's oid stands where its relation must be known. */
  readonly stream: readonly (Buffer | RelationNeeded)[]
  readonly expected: readonly Expected[]
}

/** The walsender describes a relation before the first change of it on a connection. */
export interface RelationNeeded {
  readonly oid: number
  readonly version: number
  readonly description: Buffer
}

/** What a snapshot must publish, unless it is interrupted: then another one does. */
export interface Snapshot {
  /** Everything that committed before it, and nothing else. */
  readonly lsn: bigint
  readonly tables: readonly { readonly relation: Relation; readonly version: number; readonly rows: readonly Row[] }[]
  /** By topic and key, what an event shows of a row. */
  readonly shown: ReadonlyMap<string, Fields>
}

export class Ledger {
  readonly committed: Committed[] = []
  readonly snapshots: Snapshot[] = []
  /** By topic, position and op. */
  readonly #byName = new Map<string, { readonly entry: Committed; readonly expected: Expected }>()

  add(entry: Committed): void {
    this.committed.push(entry)
    for (const expected of entry.expected) this.#byName.set(nameOf(expected), { entry, expected })
  }

  find(name: string): { readonly entry: Committed; readonly expected: Expected } | undefined {
    return this.#byName.get(name)
  }
}

/** The snapshot that a position belongs to: the byte before its LSN. */
export function snapshotAt(ledger: Ledger, position: string): Snapshot | undefined {
  const lsn = BigInt(`0x${position.slice(0, 16)}`) + 1n
  return ledger.snapshots.find((snapshot) => snapshot.lsn === lsn)
}

export function nameOf(of: { readonly topic: string; readonly position: string; readonly op: string | null }): string {
  return `${of.topic} ${of.position} ${of.op ?? 'tombstone'}`
}
