/** Slot: the replication slot of a pipeline. It keeps WAL for as long as it exists. */
import { EvertError } from '../base/errors.js'
import { formatLsn, type Lsn, LSN_ZERO, parseLsn } from '../event/lsn.js'
import type { Connection } from './connection.js'
import { sqlState } from './connection-error.js'
import { quoteIdentifier, sql } from './sql.js'

export interface Slot {
  readonly name: string
  readonly plugin: string
  readonly database: string
  readonly activePid: number | null
  readonly temporary: boolean
  readonly restartLsn: Lsn | null
  readonly confirmedFlushLsn: Lsn
  readonly walStatus: string
  /** WAL that the server has written since; null where nothing was confirmed yet. */
  readonly lagBytes: number | null
  /** Why the server has given the slot up, where it has. */
  readonly invalidationReason: string | null
}

/** https://www.postgresql.org/docs/current/view-pg-replication-slots.html; null where there is no such slot. */
export async function inspectSlot(connection: Connection, name: string): Promise<Slot | null> {
  const [row] = await connection.query(sql('slot', { slot: name }))
  if (row === undefined) return null
  const conflicting = row['conflicting'] === 'true' ? 'conflict with recovery' : null
  const lag = row['lag_bytes'] ?? null
  return {
    name,
    plugin: row['plugin'] ?? '',
    database: row['database'] ?? '',
    activePid: row['active'] === 't' ? Number(row['active_pid']) : null,
    temporary: row['temporary'] === 't',
    restartLsn: parseLsn(row['restart_lsn'] ?? ''),
    confirmedFlushLsn: parseLsn(row['confirmed_flush_lsn'] ?? '') ?? LSN_ZERO,
    walStatus: row['wal_status'] ?? '',
    lagBytes: lag === null ? null : Number(lag),
    invalidationReason: row['invalidation_reason'] ?? conflicting,
  }
}

/** Error: SLOT_FOREIGN. */
export function requireOwn(slot: Slot, database: string): void {
  if (slot.plugin !== 'pgoutput') {
    throw new EvertError('SLOT_FOREIGN', {
      message: `slot "${slot.name}" belongs to ${slot.plugin === '' ? 'physical replication' : `the plugin ${slot.plugin}`}, not to pgoutput`,
      hint: 'choose another name: --slot',
    })
  }
  if (slot.database !== database) {
    throw new EvertError('SLOT_FOREIGN', {
      message: `slot "${slot.name}" belongs to database "${slot.database}", not to "${database}"`,
      hint: 'choose another name: --slot',
    })
  }
}

/** Errors: SLOT_FOREIGN, SLOT_LOST. */
export function requireSlot(slot: Slot, database: string): void {
  requireOwn(slot, database)
  if (slot.walStatus === 'lost' || slot.invalidationReason !== null) {
    throw new EvertError('SLOT_LOST', {
      message: `slot "${slot.name}" was invalidated (${slot.invalidationReason ?? 'its WAL was removed'}): changes after ${formatLsn(slot.confirmedFlushLsn)} are gone`,
      hint: 'evert run --on-loss resnapshot records the gap in the log and publishes the rows that differ; a larger max_slot_wal_keep_size keeps WAL longer',
    })
  }
}

export interface CreatedSlot {
  /** The stream carries every transaction that commits after it. */
  readonly consistentPoint: Lsn
  /** Lives until the next command on the connection that created the slot. */
  readonly snapshotName: string | null
}

/** From 17 on a standby can keep a copy of a slot that asks for it, so that it is there after a promotion. */
export function canFailOver(server: { readonly version: number; readonly inRecovery: boolean }): boolean {
  return server.version >= 170000 && !server.inRecovery
}

/**
 * Creates a slot on a replication connection. Waits for every transaction that is running.
 * https://www.postgresql.org/docs/current/protocol-replication.html (CREATE_REPLICATION_SLOT)
 */
export async function createSlot(
  replication: Connection,
  options: {
    readonly name: string
    readonly temporary: boolean
    readonly exportSnapshot: boolean
    readonly failover: boolean
  },
): Promise<CreatedSlot> {
  const temporary = options.temporary ? ' TEMPORARY' : ''
  // The older syntax is all that 14 knows, and the newer one all that knows of failover.
  const snapshot = options.exportSnapshot ? 'EXPORT_SNAPSHOT' : 'NOEXPORT_SNAPSHOT'
  const settings = options.failover
    ? `(SNAPSHOT '${options.exportSnapshot ? 'export' : 'nothing'}', FAILOVER true)`
    : snapshot
  try {
    const [row] = await replication.query(
      `CREATE_REPLICATION_SLOT ${quoteIdentifier(options.name)}${temporary} LOGICAL pgoutput ${settings}`,
    )
    return {
      consistentPoint: parseLsn(row?.['consistent_point'] ?? '') ?? LSN_ZERO,
      snapshotName: row?.['snapshot_name'] ?? null,
    }
  } catch (error) {
    throw slotError(error, options.name)
  }
}

/** A slot that was made for its snapshot, which is there. */
export interface ExportedSlot extends CreatedSlot {
  readonly snapshotName: string
}

/** For nothing but its snapshot: it goes with its connection. */
export async function createTemporarySlot(replication: Connection): Promise<ExportedSlot> {
  const name = `evert_snapshot_${replication.processId}`
  const { consistentPoint, snapshotName } = await createSlot(replication, {
    name,
    temporary: true,
    exportSnapshot: true,
    failover: false,
  })
  if (snapshotName !== null) return { consistentPoint, snapshotName }
  throw new EvertError('PROTOCOL', { message: 'the server exported no snapshot with its temporary slot' })
}

/** Creates a slot on an ordinary connection, without a snapshot. */
export async function createPlainSlot(connection: Connection, name: string, failover: boolean): Promise<Lsn> {
  try {
    const statement = failover ? sql('slot-create-failover', { slot: name }) : sql('slot-create', { slot: name })
    const [row] = await connection.query(statement)
    return parseLsn(row?.['lsn'] ?? '') ?? LSN_ZERO
  } catch (error) {
    throw slotError(error, name)
  }
}

function slotError(error: unknown, name: string): unknown {
  const state = sqlState(error)
  if (state === '53400') {
    return new EvertError('SLOTS_EXHAUSTED', {
      message: `slot "${name}" cannot be created: the server has no free replication slot`,
      hint: 'drop one that nobody uses (select slot_name, active from pg_replication_slots), or raise max_replication_slots and restart',
      cause: error,
    })
  }
  // Somebody else was faster: the next attempt finds the slot there.
  if (state === '42710')
    return new EvertError('SLOT_ACTIVE', { message: `slot "${name}" was created by another process`, cause: error })
  return error
}

export async function dropSlot(connection: Connection, name: string): Promise<void> {
  try {
    await connection.query(sql('slot-drop', { slot: name }))
  } catch (error) {
    if (sqlState(error) === '42704') return // somebody else was faster
    if (sqlState(error) !== '55006') throw error
    throw new EvertError('SLOT_ACTIVE', { message: `slot "${name}" is in use by another process`, cause: error })
  }
}

/** `pid 123 (evert, from 10.0.0.5, since 2026-03-01 12:00:00+00)`, as far as the role may see it. */
export async function describeHolder(connection: Connection, pid: number): Promise<string> {
  const [row] = await connection.query(sql('backend', { pid: String(pid) }))
  if (row === undefined) return `pid ${pid}`
  const { application_name: name, client, since } = row
  return describe(`pid ${pid}`, [name || 'unnamed', client ? `from ${client}` : '', since ? `since ${since}` : ''])
}

/** Those a slot's creation waits for, the longest first: `pid 123 (psql, 40 s)`. */
export async function blockingTransactions(connection: Connection): Promise<string[]> {
  const rows = await connection.query(sql('blocking-transactions'))
  return rows.map(({ what, application_name: name, seconds }) =>
    describe(what ?? '', [name || 'unnamed', seconds ? `${seconds} s` : '']),
  )
}

/** Ends the statement that a backend of the same role runs. */
export async function cancelBackend(connection: Connection, pid: number): Promise<void> {
  await connection.query(sql('cancel', { pid: String(pid) }))
}

function describe(what: string, facts: readonly string[]): string {
  return `${what} (${facts.filter((fact) => fact !== '').join(', ')})`
}

/** A slot's name takes lower-case letters, digits and underscores, 63 of them. */
export function slotName(pipeline: string): string {
  const name = pipeline
    .toLowerCase()
    .replace(/[^a-z0-9_]/g, '_')
    .slice(0, 63)
  if (/[a-z0-9]/.test(name)) return name
  throw new EvertError('OPTION_INVALID', {
    message: `no slot name can be made of the pipeline name "${pipeline}"`,
    hint: 'give one: --slot',
  })
}
