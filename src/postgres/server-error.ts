/** Server errors: what an ErrorResponse means for a replication or copy connection. */
import { EvertError } from '../base/errors.js'

/** Fields of ErrorResponse: https://www.postgresql.org/docs/current/protocol-error-fields.html */
export interface ServerError {
  readonly code: string
  readonly message: string
}

export function readServerError(bytes: Buffer, start: number, end: number): ServerError {
  const fields = new Map<string, string>()
  let at = start
  while (at < end && bytes[at] !== 0) {
    const stop = bytes.indexOf(0, at + 1)
    if (stop === -1 || stop >= end) break
    fields.set(String.fromCharCode(bytes[at] ?? 0), bytes.toString('utf8', at + 1, stop))
    at = stop + 1
  }
  return { code: fields.get('C') ?? 'XX000', message: fields.get('M') ?? 'unknown error' }
}

/**
 * True for what passes by itself: connection, resources, operator intervention (shutdown, starting up), system error, a deadlock
 * that somebody had to be taken out of, on a standby a conflict with what it replays, and a transaction that took too long.
 */
export function passesByItself(sqlState: string): boolean {
  return /^(08|53|57|58|40001|40P01|25P04)/.test(sqlState)
}

/** Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export function replicationError(error: ServerError, slot: string): EvertError {
  const message = `slot "${slot}": ${error.message}`
  if (error.code === '55006') return new EvertError('SLOT_ACTIVE', { message })
  if (
    /requested WAL segment|can no longer (access|get changes from)|cannot read from logical replication slot|invalidated/.test(
      error.message,
    )
  ) {
    return new EvertError('SLOT_LOST', {
      message,
      hint: 'the server no longer has the changes since the last acknowledged one; evert run --on-loss resnapshot publishes the rows that differ',
    })
  }
  if (error.code === '42704' && /replication slot/.test(error.message)) {
    return new EvertError('SLOT_MISSING', {
      message,
      hint: 'evert run --on-loss resnapshot publishes the rows that differ',
    })
  }
  if (error.code === '42704' && /publication/.test(error.message)) {
    return new EvertError('PUBLICATION_MISSING', {
      message,
      hint: 'a publication must exist at every point of the stream that is read; evert drop --topics, then evert run, starts over',
    })
  }
  if (error.code === '42501')
    return new EvertError('REPLICATION_PERMISSION', { message, hint: 'alter role … replication' })
  if (passesByItself(error.code)) return new EvertError('POSTGRES_CONNECTION_LOST', { message })
  return new EvertError('POSTGRES_QUERY', { message: `${message} (SQLSTATE ${error.code})` })
}
