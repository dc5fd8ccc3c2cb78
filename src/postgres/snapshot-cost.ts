/** Snapshot cost: about how long the tables take to copy, and how much WAL is written meanwhile; known before the first row is read. */
import type { PublishedTable } from './catalog.js'
import type { Connection } from './connection.js'
import { sql } from './sql.js'

/** Estimates, for people. */
export interface SnapshotCost {
  readonly rows: number
  /** On disk. */
  readonly bytes: number
  readonly seconds: number
  /** What is written by then: a slot that waits for the snapshot holds it back. */
  readonly walBytes: number
}

/** On the low side: two cores that Postgres, the log and evert shared copied narrow rows at 50 MB/s, wide ones at 70. */
const BYTES_A_SECOND = 40e6

export async function snapshotCost(connection: Connection, tables: readonly PublishedTable[]): Promise<SnapshotCost> {
  const [rate] = await connection.query(sql('wal-rate'))
  const sum = (of: (table: PublishedTable) => number): number => tables.reduce((total, table) => total + of(table), 0)
  const bytes = sum((table) => table.bytes)
  const seconds = Math.ceil(bytes / BYTES_A_SECOND)
  const walBytes = seconds * Number(rate?.['bytes_a_second'] ?? 0)
  return { rows: sum((table) => table.estimatedRows), bytes, seconds, walBytes }
}
