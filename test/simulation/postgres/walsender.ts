/**
 * Walsender: answers START_REPLICATION as Postgres does. It sends, in the order of their commits, all transactions whose commit record
 * starts at or after the slot's confirmed LSN, and takes standby status updates.
 */
import type { Committed } from '../ledger.js'
import { Violation } from '../world.js'
import { backend, errorResponse, keepalive } from './messages.js'
import type { Server } from './server.js'
import type { Peer, Wire } from './wire.js'

/** What may be on the way before it waits, as if the socket's buffer were full. */
const WINDOW_BYTES = 3000
const COPY_BOTH = backend('W', Buffer.from([0, 0, 0]))
const READY = backend('Z', Buffer.from('I'))

export class Walsender implements Peer {
  readonly #server: Server
  readonly #wire: Wire
  #received: Buffer = Buffer.alloc(0)
  #streaming = false
  #next = 0
  /** Messages of the transaction at hand that are not sent yet. */
  #rest: (() => void)[] = []
  #sentLsn = 0n
  #lastHeardMs: number
  readonly #described = new Map<number, number>()

  constructor(server: Server, wire: Wire) {
    this.#server = server
    this.#wire = wire
    this.#lastHeardMs = server.world.nowMs
    wire.peer = this
  }

  onBytes(bytes: Buffer): void {
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes])
    while (this.#received.length >= 5) {
      const length = 1 + this.#received.readInt32BE(1)
      if (this.#received.length < length) return
      const message = this.#received.subarray(0, length)
      this.#received = this.#received.subarray(length)
      this.#onMessage(String.fromCharCode(message[0]!), message.subarray(5))
    }
  }

  onDrained(): void {
    if (this.#streaming) this.#server.world.after(0.01, () => this.pump())
  }

  onClose(): void {
    this.#streaming = false
    this.#server.release(this)
  }

  /** The server terminates it. */
  end(): void {
    this.onClose()
    this.#wire.closeByServer()
  }

  breakWire(): void {
    this.#wire.break()
  }

  #onMessage(tag: string, body: Buffer): void {
    this.#lastHeardMs = this.#server.world.nowMs
    if (tag === 'Q') this.#start()
    else if (tag === 'd') this.#status(body)
    else if (tag === 'c') {
      this.#streaming = false
      this.#server.release(this)
      const complete = backend('C', Buffer.from('COPY 0\0'))
      this.#wire.fromServer(Buffer.concat([backend('c', Buffer.alloc(0)), complete, READY]))
    } else if (tag === 'X') this.#wire.closeByServer()
    else throw new Violation(`the walsender was sent a message ${tag}`)
  }

  #start(): void {
    const { slot, database, world } = this.#server
    if (slot.sender !== null) {
      this.#wire.fromServer(errorResponse('55006', 'replication slot "sim" is active for PID 1'))
      this.#wire.fromServer(READY)
      return
    }
    slot.sender = this
    this.#streaming = true
    const { committed } = database.ledger
    const first = committed.findIndex(({ startLsn }) => startLsn >= slot.confirmedLsn)
    this.#next = first === -1 ? committed.length : first
    this.#sentLsn = slot.confirmedLsn
    world.say(() => `${this.#wire.machine.name} streams from ${slot.confirmedLsn.toString(16)}, #${this.#next}`)
    this.#wire.fromServer(COPY_BOTH)
    this.pump()
  }

  #status(body: Buffer): void {
    if (body[0] !== 0x72) throw new Violation('the walsender was sent something else than a status')
    const flushed = body.readBigUInt64BE(9)
    if (this.#server.slot.sender === this) this.#server.confirm(flushed)
    if (body[33] === 1) this.#wire.fromServer(keepalive(this.#sentLsn, false))
  }

  /** Decodes and sends what there is, as far as the socket takes it. */
  pump(): void {
    const { database, world } = this.#server
    const { committed } = database.ledger
    while (this.#streaming && this.#wire.pendingBytes < WINDOW_BYTES) {
      const send = this.#rest.shift()
      if (send !== undefined) {
        send()
        // In the middle of a large transaction it looks whether a keepalive is due.
        if (world.random.chance(0.02)) this.#wire.fromServer(keepalive(this.#sentLsn, world.random.chance(0.5)))
        continue
      }
      const entry = committed[this.#next]
      if (entry === undefined) {
        if (this.#sentLsn === database.insertLsn) return
        this.#sentLsn = database.insertLsn
        if (world.random.chance(0.3)) this.#wire.fromServer(keepalive(this.#sentLsn, world.random.chance(0.3)))
        return
      }
      this.#next++
      // What is empty is left out by Postgres 15 and later.
      if (entry.expected.length === 0 && this.#server.skipsEmpty) this.#sentLsn = entry.endLsn
      else this.#rest = [...this.#messages(entry.stream), () => (this.#sentLsn = entry.endLsn)]
    }
  }

  #messages(stream: Committed['stream']): (() => void)[] {
    return stream.map((message) => () => {
      if (Buffer.isBuffer(message)) this.#wire.fromServer(message)
      else if (this.#described.get(message.oid) !== message.version) {
        this.#described.set(message.oid, message.version)
        this.#wire.fromServer(message.description)
      }
    })
  }

  /** From time to time: is the other side still there? */
  tick(timeoutMs: number): void {
    const silentMs = this.#server.world.nowMs - this.#lastHeardMs
    if (silentMs > timeoutMs) this.end()
    else if (silentMs > timeoutMs / 2) this.#wire.fromServer(keepalive(this.#sentLsn, true))
  }
}
