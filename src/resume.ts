/** Resume: where to go on, from the progress in the log, once it agrees with the server and its slot. */
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import { formatLsn } from './event/lsn.js'
import type { LogWriter } from './log/log.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import type { SystemIdentity } from './postgres/server.js'
import type { CreatedSlot, Slot } from './postgres/slot.js'
import { ProgressKeeper, type ProgressState, readProgress } from './progress.js'

export interface ResumeOptions {
  readonly name: string
  readonly connection: ConnectionOptions
  readonly snapshot: 'initial' | 'none'
  readonly logger: Logger
}

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
    hint: `evert drop --name …, then evert run, starts over with a new snapshot`,
  })
}

/** Where to go on: what the log says, once it agrees with the server. Errors: SERVER_FOREIGN, SERVER_BEHIND, SLOT_AHEAD, SLOT_MISSING, PROGRESS_INVALID. */
export function resume(
  options: ResumeOptions,
  found: { identity: SystemIdentity; slot: Slot; created: CreatedSlot | null; writer: LogWriter },
): ProgressKeeper {
  const { identity, slot, created, writer } = found
  const { name, logger } = options
  const { systemIdentifier, timeline } = identity
  const here = { systemIdentifier, timeline, database: options.connection.database, slot: slot.name }
  const state = readProgress(name, writer.progress)
  if (state === null) {
    const endLsn = created?.consistentPoint ?? slot.confirmedFlushLsn
    const snapshot = options.snapshot === 'initial' ? 'running' : 'none'
    return new ProgressKeeper({ ...here, endLsn, snapshot }, writer.progress)
  }
  if (state.systemIdentifier !== identity.systemIdentifier || state.database !== here.database) {
    throw new EvertError('SERVER_FOREIGN', {
      message: `the log of pipeline "${name}" was written from database "${state.database}" of the server ${state.systemIdentifier}; this is "${here.database}" of ${identity.systemIdentifier}`,
      hint: `give this one a name of its own (--name), or evert drop --name ${name} to start over`,
    })
  }
  requireSameHistory(identity, state)
  if (created !== null || slot.confirmedFlushLsn > state.endLsn) {
    throw new EvertError('SLOT_AHEAD', {
      message: `slot "${slot.name}" confirms ${formatLsn(slot.confirmedFlushLsn)}, but the log ends at ${formatLsn(state.endLsn)}: the ${slot.confirmedFlushLsn - state.endLsn} bytes of WAL between are gone`,
      hint: `evert drop --name ${name}, then evert run, starts over with a new snapshot`,
    })
  }
  const interrupted = state.snapshot === 'running'
  if (interrupted)
    logger.warn({}, 'the first snapshot was interrupted: it is published again from the start, at a new LSN')
  const snapshot = interrupted && options.snapshot === 'none' ? 'none' : state.snapshot
  return new ProgressKeeper({ ...state, ...here, snapshot }, writer.progress)
}
