/** Server: the slot, connections to it, and what becomes of both when it crashes. */
import { EvertError } from '../../../src/base/errors.js'
import type { Machine } from '../machine.js'
import type { World } from '../world.js'
import { Database } from './database.js'
import { Walsender } from './walsender.js'
import { Wire } from './wire.js'

export const WAL_SENDER_TIMEOUT_MS = 6000
const TICK_MS = 500

export interface SlotState {
  confirmedLsn: bigint
  /** What is on disk: a crash goes back to it. */
  savedLsn: bigint
  sender: Walsender | null
}

export class Server {
  readonly world: World
  readonly database: Database
  readonly slot: SlotState
  readonly skipsEmpty: boolean
  /** Told of everything that evert sends to a walsender, when it is sent. */
  onSend: (machine: Machine, bytes: Buffer) => void = () => undefined
  #downUntilMs = 0
  #senders = new Set<Walsender>()

  constructor(world: World, pipeline: string) {
    this.world = world
    this.database = new Database(world, pipeline)
    const { insertLsn } = this.database
    this.slot = { confirmedLsn: insertLsn, savedLsn: insertLsn, sender: null }
    this.skipsEmpty = world.random.chance(0.5)
    world.after(TICK_MS, () => this.#tick())
  }

  #tick(): void {
    this.slot.sender?.tick(WAL_SENDER_TIMEOUT_MS)
    this.world.after(TICK_MS, () => this.#tick())
  }

  /** Something was committed. */
  wake(): void {
    const { sender } = this.slot
    if (sender !== null) this.world.after(this.world.random.next(), () => sender.pump())
  }

  /** Only ever forwards. */
  confirm(lsn: bigint): void {
    if (lsn > this.slot.confirmedLsn) this.slot.confirmedLsn = lsn
    if (this.world.random.chance(0.3)) this.slot.savedLsn = this.slot.confirmedLsn
  }

  release(sender: Walsender): void {
    this.#senders.delete(sender)
    if (this.slot.sender === sender) this.slot.sender = null
  }

  /** Whether the slot is held at the other end of this connection. */
  holds(wire: Wire): boolean {
    return this.slot.sender !== null && this.slot.sender === wire.peer
  }

  /** A replication connection. */
  async connect(machine: Machine): Promise<Wire> {
    return await this.query(machine, () => {
      const wire = new Wire(machine, (bytes) => this.onSend(machine, bytes))
      this.#senders.add(new Walsender(this, wire))
      return wire
    })
  }

  /** A question on an ordinary connection. */
  query<T>(machine: Machine, answer: () => T): Promise<T> {
    const { random } = this.world
    return new Promise((resolve, reject) => {
      if (!machine.maySend()) return
      this.world.after(random.delayMs(1, 30), () => {
        const down = this.world.nowMs < this.#downUntilMs || random.chance(0.005)
        const value = down ? null : answer()
        this.world.after(random.delayMs(1, 30), () =>
          machine.deliver(() => {
            if (value === null) reject(new EvertError('POSTGRES_CONNECTION_LOST', { message: 'simulated' }))
            else resolve(value)
          }),
        )
      })
    })
  }

  /** Some connection breaks. */
  breakWire(): void {
    for (const sender of this.#senders) if (this.world.random.chance(0.7)) sender.breakWire()
  }

  /** kill -9 and a new start: it may have forgotten what was confirmed, never what was committed. */
  crash(): void {
    this.world.say(() => `postgres crashes, and goes back to ${this.slot.savedLsn.toString(16)}`)
    for (const sender of this.#senders) sender.end()
    this.slot.confirmedLsn = this.slot.savedLsn
    this.#downUntilMs = this.world.nowMs + this.world.random.next() * 800
  }
}
