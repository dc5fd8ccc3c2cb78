/** The slot of a pipeline: waiting while another process has it, making it where there is none, and whether it still is ours. */
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import { formatLsn } from './event/lsn.js'
import type { Log } from './log/log.js'
import { type PublishedTable, requireSelect } from './postgres/catalog.js'
import type { Connection } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import type { Server, SystemIdentity } from './postgres/server.js'
import {
  blockingTransactions,
  canFailOver,
  cancelBackend,
  type CreatedSlot,
  createSlot,
  describeHolder,
  dropSlot,
  inspectSlot,
  requireOwn,
  requireSlot,
  type Slot,
} from './postgres/slot.js'
import { AFTER_LOSS, readProgress } from './progress.js'
import { requireSameServer, since } from './resume.js'

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
/** Who has fenced us may itself be between two attempts. */
const FENCED_MS = 30_000

export interface StandbyOptions extends SlotOptions {
  /** That another writer took the pipeline over, where that ended the attempt before. */
  readonly fenced: EvertError | null
  /** What is to be mended: the slot may be lost. */
  readonly loss: EvertError | null
  readonly onStandby: () => void
}

/**
 * Waits while another process has the slot; true where it did. One that was fenced stands by for who fenced it; where that one does not
 * take the slot for long, two pipelines share a name in the log, and would fence each other for ever: that error stands.
 */
export async function standBy(options: StandbyOptions, connection: Connection): Promise<boolean> {
  const { slot: name, logger, signal } = options
  const startedMs = performance.now()
  let saidOf: number | null = null
  for (;;) {
    signal.throwIfAborted()
    const slot = await inspectSlot(connection, name)
    if (slot !== null) (options.loss === null ? requireSlot : requireOwn)(slot, options.connection.database)
    if (slot === null || slot.activePid === null) {
      if (options.fenced === null || saidOf !== null) return saidOf !== null
      if (performance.now() - startedMs > FENCED_MS) throw options.fenced
      await delay(STANDBY_MS, undefined, { signal })
      continue
    }
    if (saidOf !== slot.activePid)
      logger.info({ slot: name, holder: await describeHolder(connection, slot.activePid) }, 'standing by')
    saidOf = slot.activePid
    options.onStandby()
    await delay(STANDBY_MS, undefined, { signal })
  }
}

export interface CreateOptions {
  readonly connection: Connection
  readonly replication: Connection
  readonly identity: SystemIdentity
  readonly log: Log
  readonly tables: readonly PublishedTable[]
  readonly server: Server
}

/** A pipeline without progress may make its slot; one that has progress and no slot has lost changes. Null where the slot is there. */
export async function createMissingSlot(options: SlotOptions, at: CreateOptions): Promise<CreatedSlot | null> {
  const { name, slot, signal } = options
  if ((await inspectSlot(at.connection, slot)) !== null) return null
  const state = readProgress(name, await at.log.readProgress({ name, signal }))
  if (state !== null) {
    requireSameServer(options, at.identity, state)
    throw new EvertError('SLOT_MISSING', {
      message: `slot "${slot}" is gone, but the log of pipeline "${name}" ends at ${formatLsn(state.endLsn)}: changes after it may be lost${since(state)}`,
      hint: AFTER_LOSS,
    })
  }
  return await create(options, at, options.snapshot === 'initial')
}

/** In place of one whose changes are gone. Everything that may stand in the way is looked at before the old one goes. */
export async function replaceSlot(options: SlotOptions, at: CreateOptions): Promise<CreatedSlot> {
  const { slot, logger, connection: to } = options
  requireSelect(at.tables, at.server.role)
  const old = await inspectSlot(at.connection, slot)
  if (old !== null) {
    requireOwn(old, to.database)
    await dropSlot(at.connection, slot)
    logger.warn({ slot, confirmed: formatLsn(old.confirmedFlushLsn) }, 'slot dropped, to be created again')
  }
  return await create(options, at, true)
}

async function create(options: SlotOptions, at: CreateOptions, exportSnapshot: boolean): Promise<CreatedSlot> {
  const { slot, logger } = options
  const { replication, server } = at
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

/**
 * The slot again, now that nobody else can move it; unless we were frozen since, and it is another's. Errors: SLOT_ACTIVE, SLOT_MISSING,
 * SLOT_FOREIGN, SLOT_LOST.
 */
export async function requireOwnSlot(
  options: SlotOptions,
  { connection, replication }: Pick<CreateOptions, 'connection' | 'replication'>,
): Promise<Slot> {
  const slot = await inspectSlot(connection, options.slot)
  if (slot === null)
    throw new EvertError('SLOT_MISSING', { message: `slot "${options.slot}" was dropped while it was in use` })
  requireSlot(slot, options.connection.database)
  if (slot.activePid !== replication.processId)
    throw new EvertError('SLOT_ACTIVE', { message: `slot "${options.slot}" was lost to another process` })
  return slot
}
