/**
 * Wire: a connection between evert and a walsender. Bytes arrive in order, in chunks cut anywhere, until it breaks: then each side has
 * received some prefix of what the other one sent, and finds out in its own time.
 */
import { EventEmitter } from 'node:events'
import type net from 'node:net'
import type { Machine } from '../machine.js'

const USUAL_MS = 1.5
const WORST_MS = 60
/** Of a read that does not bring everything that is there. */
const SMALL_BYTES = 250

/** The server's end. */
export interface Peer {
  onBytes(bytes: Buffer): void
  /** There is room for more. */
  onDrained(): void
  onClose(): void
}

/** Evert's end: as much of a socket as the copy socket asks for. */
class ClientSocket extends EventEmitter {
  readonly #wire: Wire

  constructor(wire: Wire) {
    super()
    this.#wire = wire
    // Until it is taken over, it is in other hands, which hear nothing before those hear it.
    this.on('newListener', (name) => name === 'close' && wire.setPaused(false))
  }

  write(bytes: Buffer): void {
    this.#wire.fromClient(bytes)
  }

  pause(): void {
    this.#wire.setPaused(true)
  }

  resume(): void {
    this.#wire.setPaused(false)
  }

  destroy(): void {
    this.#wire.closeByClient()
  }
}

export class Wire {
  readonly machine: Machine
  readonly #client = new ClientSocket(this)
  /** Asked of everything that evert sends, before it is on the wire. */
  readonly #onSend: (bytes: Buffer) => void
  peer: Peer | null = null
  #toClient: Buffer[] = []
  #toClientBytes = 0
  #paused = true
  #reading = false
  #clientOpen = true
  #serverOpen = true
  /** No more is coming from the server; what has been sent may still arrive. */
  #ended = false
  #lastArrivalMs = 0
  readonly #wholeReads: number

  constructor(machine: Machine, onSend: (bytes: Buffer) => void) {
    this.machine = machine
    this.#onSend = onSend
    this.#wholeReads = machine.world.random.pick([0.9, 0.7, 0.3])
    machine.onDeath(() => this.#finish(machine.world.random.chance(0.8)))
  }

  get socket(): net.Socket {
    return this.#client as unknown as net.Socket
  }

  get pendingBytes(): number {
    return this.#toClientBytes
  }

  fromClient(bytes: Buffer): void {
    if (!this.#clientOpen || !this.machine.maySend()) return
    this.#onSend(bytes)
    const copy = Buffer.from(bytes)
    this.#arrive(() => this.peer?.onBytes(copy))
  }

  fromServer(bytes: Buffer): void {
    if (!this.#serverOpen || this.#ended) return
    this.#toClient.push(bytes)
    this.#toClientBytes += bytes.length
    this.#read()
  }

  /** The server closes its end after what it has sent. */
  closeByServer(): void {
    this.#serverOpen = false
    this.#ended = true
    this.#read()
  }

  closeByClient(): void {
    if (!this.#clientOpen) return
    this.#clientOpen = false
    this.#finish(true)
  }

  /** Cut somewhere in the middle, with what is on its way in both directions. */
  break(): void {
    const { world } = this.machine
    if (!this.#clientOpen || this.#ended) return
    world.say(() => `the connection of ${this.machine.name} to postgres breaks`)
    this.#ended = true
    const kept = world.random.below(this.#toClientBytes + 1)
    const rest = Buffer.concat(this.#toClient).subarray(0, kept)
    this.#toClient = rest.length > 0 ? [rest] : []
    this.#toClientBytes = rest.length
    this.#read()
    this.#finish(world.random.chance(0.5))
  }

  /** The server hears of the end, after what is still on the way, or loses that and hears of it late. */
  #finish(orderly: boolean): void {
    const { world } = this.machine
    const close = (): void => {
      if (!this.#serverOpen) return
      this.#serverOpen = false
      this.peer?.onClose()
    }
    if (orderly) {
      this.#arrive(close)
      return
    }
    world.after(world.random.next() * 10, () => (this.#lastArrivalMs = Number.POSITIVE_INFINITY))
    world.after(world.random.next() * 4000, close)
  }

  #arrive(work: () => void): void {
    const { world } = this.machine
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, world.nowMs + world.random.delayMs(USUAL_MS, WORST_MS))
    if (this.#lastArrivalMs === Number.POSITIVE_INFINITY) return
    world.at(this.#lastArrivalMs, () => {
      if (this.#serverOpen && this.#lastArrivalMs < Number.POSITIVE_INFINITY) work()
    })
  }

  setPaused(paused: boolean): void {
    this.#paused = paused
    if (!paused) this.#read()
  }

  #read(): void {
    if (this.#reading || this.#paused || !this.#clientOpen || (this.#toClientBytes === 0 && !this.#ended)) return
    this.#reading = true
    const { world } = this.machine
    world.after(world.random.delayMs(USUAL_MS, WORST_MS), () =>
      this.machine.deliver(() => {
        this.#reading = false
        if (this.#paused || !this.#clientOpen) return
        this.#deliver()
        this.#read()
      }),
    )
  }

  #deliver(): void {
    const { random } = this.machine.world
    if (this.#toClientBytes === 0) {
      this.#clientOpen = false
      if (random.chance(0.3)) this.#client.emit('error', new Error('read ECONNRESET'))
      this.#client.emit('close')
      return
    }
    const all = Buffer.concat(this.#toClient)
    const length = random.chance(this.#wholeReads) ? all.length : random.between(1, Math.min(all.length, SMALL_BYTES))
    this.#toClient = length < all.length ? [all.subarray(length)] : []
    this.#toClientBytes = all.length - length
    if (this.#serverOpen) this.peer?.onDrained()
    this.#client.emit('data', all.subarray(0, length))
  }
}
