/** Resume: where to go on, from the progress in the log, once it agrees with the server and its slot. */
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import { formatLsn } from './event/lsn.js'
import type { LogWriter } from './log/log.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import type { SystemIdentity } from './postgres/server.js'
import type { CreatedSlot, Slot } from './postgres/slot.js'
import { AFTER_LOSS, ProgressKeeper, type ProgressState, readProgress } from './progress.js'

export interface ResumeOptions {
  readonly name: string
  readonly connection: ConnectionOptions
  readonly snapshot: 'initial' | 'none'
  readonly onLoss: OnLoss
  readonly logger: Logger
}

/** Whether evert stops where changes are gone for good, or publishes what then differs. */
export type OnLoss = 'stop' | 'resnapshot'

/**
 * A server that was restored from a backup, or promoted before it had everything, writes other WAL from there on: what it commits
 * below the log's end would be taken for published. Error: SERVER_BEHIND.
 */
function requireSameHistory(identity: SystemIdentity, state: ProgressState): void {
  const shared = state.timeline === identity.timeline ? identity.walEnd : identity.ancestors.get(state.timeline)
  if (shared !== undefined && shared >= state.endLsn) return
  const where = shared === undefined ? 'does not come from there' : `shares that WAL only up to ${formatLsn(shared)}`
  throw new EvertError('SERVER_BEHIND', {
    message: `the log ends at ${formatLsn(state.endLsn)} of timeline ${state.timeline}; the server is on timeline ${identity.timeline} and ${where}: it was restored from a backup, or promoted without the newest changes, and the log holds changes that it does not have`,
    hint: AFTER_LOSS,
  })
}

/** The server that the log was written from, with all that was published of it. Errors: SERVER_FOREIGN, SERVER_BEHIND. */
export function requireSameServer(
  { name, connection: { database } }: Pick<ResumeOptions, 'name' | 'connection'>,
  identity: SystemIdentity,
  state: ProgressState,
): void {
  if (state.systemIdentifier !== identity.systemIdentifier || state.database !== database) {
    throw new EvertError('SERVER_FOREIGN', {
      message: `the log of pipeline "${name}" was written from database "${state.database}" of the server ${state.systemIdentifier}; this is "${database}" of ${identity.systemIdentifier}`,
      hint: `give this one a name of its own (--name); or, if it holds the same tables, ${AFTER_LOSS}`,
    })
  }
  requireSameHistory(identity, state)
}

/** Where to go on: what the log says, once it agrees with the server. Errors: SERVER_FOREIGN, SERVER_BEHIND, SLOT_AHEAD, SLOT_MISSING, PROGRESS_INVALID. */
export function resume(
  options: ResumeOptions,
  found: {
    readonly identity: SystemIdentity
    readonly slot: Slot
    readonly created: CreatedSlot | null
    readonly writer: LogWriter
    /** What is to be mended by publishing the rows that differ. */
    readonly loss: EvertError | null
  },
): ProgressKeeper {
  const { identity, slot, created, writer } = found
  const { name, logger } = options
  const { systemIdentifier, timeline } = identity
  const here = { systemIdentifier, timeline, database: options.connection.database, slot: slot.name, writtenAt: null }
  const keep = (kept: ProgressState): ProgressKeeper => new ProgressKeeper(kept, writer.progress, () => new Date())
  if (found.loss !== null && created !== null)
    return keep({ ...here, endLsn: created.consistentPoint, snapshot: 'again' })
  const state = readProgress(name, writer.progress)
  if (state === null) {
    const endLsn = created?.consistentPoint ?? slot.confirmedFlushLsn
    const snapshot = options.snapshot === 'initial' ? 'running' : 'none'
    return keep({ ...here, endLsn, snapshot })
  }
  requireSameServer(options, identity, state)
  if (created !== null || slot.confirmedFlushLsn > state.endLsn) {
    throw new EvertError('SLOT_AHEAD', {
      message: `slot "${slot.name}" confirms ${formatLsn(slot.confirmedFlushLsn)}, but the log ends at ${formatLsn(state.endLsn)}: the ${slot.confirmedFlushLsn - state.endLsn} bytes of WAL between are gone${since(state)}: the slot was moved, or dropped and created again`,
      hint: AFTER_LOSS,
    })
  }
  const interrupted = state.snapshot === 'running' || state.snapshot === 'again'
  if (interrupted) logger.warn({}, 'the snapshot was interrupted: it is published again from the start, at a new LSN')
  const given = state.snapshot === 'running' && options.snapshot === 'none' ? 'none' : state.snapshot
  const snapshot = found.loss === null ? given : 'again'
  return keep({ ...state, ...here, snapshot })
}

/** Of the time that a gap begins at, as far as it is known: `, of the time after 2026-03-01T12:00:00.000Z`. */
export function since({ writtenAt }: ProgressState): string {
  return writtenAt === null ? '' : `, of the time after ${writtenAt}`
}
