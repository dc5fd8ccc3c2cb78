/**
 * Gated slot: a temporary slot with an exported snapshot, which is made when it is told to and no earlier, at once.
 *
 * The server makes a slot when the transactions have ended that it found running, and then, once more, those that it found running after
 * that (SnapBuildFindSnapshot in src/backend/replication/logical/snapbuild.c). That may take hours, and nobody knows beforehand where in the
 * WAL it will be. So it is made to wait for transactions of ours that do nothing: the first until the second is there, the second until
 * it is the only one that is still waited for. Two that are made on one server at a time would wait for each other's for ever: an advisory
 * lock, which those of other databases see, too, lets one in after the other.
 */
import type { Clock } from '../base/clock.js'
import type { Closers } from '../base/closers.js'
import type { Logger } from '../base/logger.js'
import { interrupted } from './backfill-subject.js'
import { type Connection, connect } from './connection.js'
import type { ConnectionOptions } from './connection-options.js'
import { blockingTransactions, cancelBackend, createTemporarySlot, type ExportedSlot } from './slot.js'
import { sql } from './sql.js'
import { Unseen } from './visibility.js'
import { askVisibility } from './xids.js'

export interface GatedSlotOptions {
  readonly connection: ConnectionOptions
  /** An ordinary one, for questions. */
  readonly now: Connection
  readonly clock: Clock
  readonly logger: Logger
  readonly signal: AbortSignal
}

export interface GatedSlot {
  /** Its snapshot lives until what it was made with is closed. Error: POSTGRES_CONNECTION_LOST, also where it takes too long. */
  create(): Promise<ExportedSlot>
}

const LOOK_MS = 50
const SAY_EVERY = 100
/** What is left to be done takes milliseconds; more of it, and something is waited for that nobody knows of. */
const CREATE_MS = 2000
const SAY_YIELD_EVERY = 10
/** Of who finds somebody else there: so long, and a part of it that differs from his. */
const YIELD_MS = 300

interface Gate {
  readonly xid: string
  readonly processId: number
  open(): Promise<unknown>
}

/** Comes back when nothing is waited for any more but that it is told to be made. */
export async function gatedSlot(options: GatedSlotOptions, closers: Closers): Promise<GatedSlot> {
  const { now, clock, signal } = options
  await alone(options)
  const replication = closers.add(await connect(options.connection, { kind: 'replication', signal }), (c) => c.close())
  const first = await closedGate(options, closers)
  const creating = createTemporarySlot(replication)
  let ended = false
  const end = (): boolean => (ended = true)
  creating.then(end, end)
  const cancel = (): Promise<void> => cancelBackend(now, replication.processId).catch(() => undefined)
  // The server would go on waiting, and make the slot then.
  closers.add(cancel, async () => void (ended || (await cancel())))
  const waiting = { options, gates: [first], creating, ended: () => ended }

  await until(waiting, () => waitsFor(now, replication, first))
  const second = await closedGate(options, closers)
  waiting.gates.push(second)
  await first.open()
  await until(waiting, () => waitsFor(now, replication, second))
  const { visibility, nextXid } = await askVisibility(now)
  const running = new Unseen(visibility, nextXid)
  await until(waiting, async () => {
    running.look((await askVisibility(now)).visibility)
    return [...running.copy()].every((xid) => String(xid) === second.xid)
  })
  return {
    async create() {
      const late = clock.after(CREATE_MS, () => void cancel())
      try {
        await second.open()
        return await creating
      } finally {
        late.cancel()
        await letIn(now).catch(() => undefined) // whose session has ended
      }
    },
  }
}

/** Comes back when nobody else on this server makes a gated slot; others then stay out until they are let in, or the session of `now` ends. */
async function alone({ now, clock, logger, signal }: GatedSlotOptions): Promise<void> {
  for (let looks = 1; ; looks++) {
    await now.query(sql('gate-lock'))
    const [other] = await now.query(sql('gate-holders'))
    if (other === undefined) return
    await letIn(now)
    const pid = other['pid'] ?? ''
    if (looks % SAY_YIELD_EVERY === 0)
      logger.info({ pid }, 'the backfill of a table without a key waits for that of another pipeline on this server')
    await clock.delay(YIELD_MS + (now.processId % 31) * 10, signal)
  }
}

async function letIn(now: Connection): Promise<void> {
  await now.query(sql('gate-unlock'))
}

async function closedGate({ connection: to, signal }: GatedSlotOptions, closers: Closers): Promise<Gate> {
  const connection = closers.add(await connect(to, { kind: 'ordinary', signal }), (c) => c.close())
  await connection.query('begin')
  const [row] = await connection.query(sql('own-xid'))
  return {
    xid: row?.['xid'] ?? '',
    processId: connection.processId,
    open: () => connection.query('rollback'),
  }
}

/** Errors: that of the creation; an abort. */
async function until(
  waiting: {
    readonly options: GatedSlotOptions
    readonly gates: readonly Gate[]
    readonly creating: Promise<ExportedSlot>
    readonly ended: () => boolean
  },
  is: () => Promise<boolean>,
): Promise<void> {
  const { options, gates, creating } = waiting
  const { clock, signal, logger, now } = options
  for (let looks = 1; !(await is()); looks++) {
    // Nothing is ever seen to wait then.
    if (waiting.ended()) await creating.then(() => Promise.reject(interrupted('its slot was made before its time')))
    if (looks % SAY_EVERY === 0) {
      const ours = gates.map(({ processId }) => `pid ${processId} `)
      const transactions = (await blockingTransactions(now)).filter((text) => !ours.some((pid) => text.startsWith(pid)))
      logger.info({ transactions }, 'the backfill of a table without a key waits for transactions that are running')
    }
    await clock.delay(LOOK_MS, signal)
  }
}

async function waitsFor(now: Connection, { processId }: Connection, { xid }: Gate): Promise<boolean> {
  const [row] = await now.query(sql('waits-for', { pid: String(processId), xid }))
  return row?.['waits'] === 't'
}
