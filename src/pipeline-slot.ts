/** The slot of a pipeline: waiting while another process has it, making it where there is none, and whether it still is ours. */
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import { formatLsn } from './event/lsn.js'
import type { Log } from './log/log.js'
import { type PublishedTable, requireSelect } from './postgres/catalog.js'
import type { Connection } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import type { Server } from './postgres/server.js'
import {
  blockingTransactions,
  canFailOver,
  cancelBackend,
  type CreatedSlot,
  createSlot,
  describeHolder,
  inspectSlot,
  requireSlot,
  type Slot,
} from './postgres/slot.js'
import { readProgress } from './progress.js'

export interface SlotOptions {
  /** Of the pipeline. */
  readonly name: string
  readonly slot: string
  readonly connection: ConnectionOptions
  readonly snapshot: 'initial' | 'none'
  readonly logger: Logger
  readonly signal: AbortSignal
}

/** How often a standby looks whether the slot is free. */
const STANDBY_MS = 500

export interface StandbyOptions extends SlotOptions {
  /** That another writer took the pipeline over, where that ended the attempt before. */
  readonly fenced: EvertError | null
  readonly onStandby: () => void
}

/**
 * Waits while another process has the slot. One that was fenced stands by for who fenced it; where that one does not hold the slot, two
 * pipelines share a name in the log, and would fence each other for ever: that error stands.
 */
export async function standBy(options: StandbyOptions, connection: Connection): Promise<void> {
  const { slot: name, logger, signal } = options
  let saidOf: number | null = null
  for (;;) {
    signal.throwIfAborted()
    const slot = await inspectSlot(connection, name)
    if (slot !== null) requireSlot(slot, options.connection.database)
    if (slot === null || slot.activePid === null) {
      if (options.fenced !== null && saidOf === null) throw options.fenced
      return
    }
    if (saidOf !== slot.activePid)
      logger.info({ slot: name, holder: await describeHolder(connection, slot.activePid) }, 'standing by')
    saidOf = slot.activePid
    options.onStandby()
    await delay(STANDBY_MS, undefined, { signal })
  }
}

interface CreateOptions {
  readonly connection: Connection
  readonly replication: Connection
  readonly log: Log
  readonly tables: readonly PublishedTable[]
  readonly server: Server
}

/** A pipeline without progress may make its slot; one that has progress and no slot has lost changes. Null where the slot is there. */
export async function createMissingSlot(options: SlotOptions, at: CreateOptions): Promise<CreatedSlot | null> {
  const { name, slot, signal, logger } = options
  const { connection, replication, server } = at
  if ((await inspectSlot(connection, slot)) !== null) return null
  const state = readProgress(name, await at.log.readProgress({ name, signal }))
  if (state !== null) {
    throw new EvertError('SLOT_MISSING', {
      message: `slot "${slot}" is gone, but the log of pipeline "${name}" ends at ${formatLsn(state.endLsn)}: changes after it may be lost`,
      hint: `evert drop --name ${name}, then evert run, starts over with a new snapshot`,
    })
  }
  const exportSnapshot = options.snapshot === 'initial'
  if (exportSnapshot) requireSelect(at.tables, server.role)
  const kind = { name: slot, temporary: false, exportSnapshot, failover: canFailOver(server) }
  const created = await sayWhatIsWaitedFor(options, at, createSlot(replication, kind))
  logger.info({ slot, lsn: formatLsn(created.consistentPoint) }, 'slot created')
  return created
}

/** A slot's creation waits for every running transaction: say for whom, and end it with us, or the server would make the slot later. */
export async function sayWhatIsWaitedFor<T>(
  { logger, signal }: Pick<SlotOptions, 'logger' | 'signal'>,
  at: { readonly connection: Connection; readonly replication: Connection; readonly server: Server },
  creation: Promise<T>,
): Promise<T> {
  const cancel = (): void => {
    cancelBackend(at.connection, at.replication.processId).catch(() => undefined)
  }
  signal.addEventListener('abort', cancel, { once: true })
  const say = async (): Promise<void> => {
    const transactions = await blockingTransactions(at.connection)
    if (at.server.inRecovery) {
      logger.warn(
        { transactions },
        'the slot waits for the primary to log which transactions are running: select pg_log_standby_snapshot() there makes it do so now',
      )
    } else logger.warn({ transactions }, 'the slot waits for transactions that are running')
  }
  const timer = setInterval(() => void say().catch(() => undefined), 3000)
  try {
    return await creation
  } finally {
    clearInterval(timer)
    signal.removeEventListener('abort', cancel)
  }
}

/** The slot again, now that nobody else can move it. Errors: SLOT_MISSING, SLOT_FOREIGN, SLOT_LOST. */
export async function requireOwnSlot(options: SlotOptions, connection: Connection): Promise<Slot> {
  const slot = await inspectSlot(connection, options.slot)
  if (slot === null)
    throw new EvertError('SLOT_MISSING', { message: `slot "${options.slot}" was dropped while it was in use` })
  requireSlot(slot, options.connection.database)
  return slot
}
