/** Server: what evert must know of a Postgres server before it replicates from it. */
import { assert } from '../base/assert.js'
import { EvertError } from '../base/errors.js'
import { type Lsn, parseLsn } from '../event/lsn.js'
import type { Connection } from './connection.js'
import { type ConnectionOptions, describeServer } from './connection-options.js'
import { quoteIdentifier, sql } from './sql.js'

/** How many of the places that the server was started with are taken. */
export interface Places {
  readonly used: number
  readonly max: number
}

export interface Server {
  /** As server_version_num: 180004 is 18.4. */
  readonly version: number
  readonly walLevel: string
  /** 0 for none. */
  readonly walSenderTimeoutMs: number
  /** A slot that holds back more WAL than this is given up; null where it may hold any amount. */
  readonly slotWalKeepBytes: number | null
  readonly slots: Places
  readonly walSenders: Places
  /** Of the database, such as UTF8. */
  readonly encoding: string
  readonly inRecovery: boolean
  readonly superuser: boolean
  /** By the role's attribute, or, on RDS, by membership. */
  readonly replication: boolean
  readonly role: string
}

export async function inspectServer(connection: Connection): Promise<Server> {
  const [row] = await connection.query(sql('server'))
  const kept = row?.['slot_wal_keep_bytes'] ?? null
  return {
    version: Number(row?.['version']),
    walLevel: row?.['wal_level'] ?? '',
    walSenderTimeoutMs: Number(row?.['wal_sender_timeout_ms']),
    slotWalKeepBytes: kept === null ? null : Number(kept),
    slots: { used: Number(row?.['slots_used']), max: Number(row?.['slots_max']) },
    walSenders: { used: Number(row?.['wal_senders_used']), max: Number(row?.['wal_senders_max']) },
    encoding: row?.['encoding'] ?? '',
    inRecovery: row?.['in_recovery'] === 't',
    superuser: row?.['superuser'] === 't',
    replication: row?.['replication'] === 't',
    role: row?.['role'] ?? '',
  }
}

/** Errors: POSTGRES_VERSION, POSTGRES_STANDBY, POSTGRES_ENCODING, WAL_LEVEL, REPLICATION_PERMISSION. */
export function requireServer(server: Server, options: ConnectionOptions): void {
  const name = describeServer(options)
  if (server.version < 140000) {
    throw new EvertError('POSTGRES_VERSION', {
      message: `${name} is Postgres ${Math.floor(server.version / 10000)}; evert needs 14 or later`,
    })
  }
  if (server.inRecovery && server.version < 160000) {
    throw new EvertError('POSTGRES_STANDBY', {
      message: `${name} is a standby of Postgres ${Math.floor(server.version / 10000)}; a standby can be read from 16 on`,
      hint: 'name the primary in --source; of several hosts there, evert takes the primary',
    })
  }
  if (server.encoding === 'SQL_ASCII') {
    throw new EvertError('POSTGRES_ENCODING', {
      message: `${name} has the encoding SQL_ASCII: nobody knows what its text means, and events are UTF-8`,
      hint: 'dump it, and restore it into a database with encoding UTF8',
    })
  }
  if (server.walLevel !== 'logical') {
    throw new EvertError('WAL_LEVEL', {
      message: `${name} runs with wal_level=${server.walLevel}; its WAL does not hold row changes`,
      hint: `alter system set wal_level = 'logical'; then restart the server (on a managed one: set its logical replication parameter)`,
    })
  }
  if (!server.superuser && !server.replication) {
    const role = quoteIdentifier(server.role)
    throw new EvertError('REPLICATION_PERMISSION', {
      message: `role "${server.role}" may not replicate from ${name}`,
      hint: `alter role ${role} replication; on RDS: grant rds_replication to ${role}`,
    })
  }
}

export interface SystemIdentity {
  /** Unsigned 64 bit, as text: one per initdb. */
  readonly systemIdentifier: string
  readonly timeline: number
  /** Up to which LSN the server's WAL is that of an earlier timeline. */
  readonly ancestors: ReadonlyMap<number, Lsn>
  /** The end of the WAL that the server has. */
  readonly walEnd: Lsn
}

/** On a replication connection: https://www.postgresql.org/docs/current/protocol-replication.html (IDENTIFY_SYSTEM, TIMELINE_HISTORY) */
export async function identifySystem(replication: Connection): Promise<SystemIdentity> {
  const [row] = await replication.query('IDENTIFY_SYSTEM')
  const walEnd = parseLsn(row?.['xlogpos'] ?? '')
  assert(walEnd !== null, 'IDENTIFY_SYSTEM answers with an LSN')
  const timeline = Number(row?.['timeline'])
  const ancestors = timeline === 1 ? new Map<number, Lsn>() : await timelineHistory(replication, timeline)
  return { systemIdentifier: row?.['systemid'] ?? '', timeline, ancestors, walEnd }
}

/** A line per ancestor: timeline, the LSN at which it was left, the reason. */
async function timelineHistory(replication: Connection, timeline: number): Promise<Map<number, Lsn>> {
  const [row] = await replication.query(`TIMELINE_HISTORY ${timeline}`)
  const ancestors = new Map<number, Lsn>()
  for (const line of (row?.['content'] ?? '').split('\n')) {
    const [ancestor = '', text = ''] = line.trim().split(/\s+/)
    const lsn = parseLsn(text)
    if (lsn !== null) ancestors.set(Number(ancestor), lsn)
  }
  return ancestors
}
