/**
 * Copy socket: takes over the socket of an authenticated connection before a COPY (replication or snapshot), because the parser
 * of `pg` makes an object per message: 2.5 µs a row with nothing else done, where our framer takes 0.02.
 */
import type net from 'node:net'
import { TLSSocket } from 'node:tls'
import { EvertError } from '../base/errors.js'
import { Framer, type OnMessage } from './framer.js'
import { readInto } from './read-into.js'

/**
 * When reads of under a kilobyte follow each other within a quarter of a millisecond, the walsender wakes us for every row and
 * waits for the wake-up itself. A millisecond's pause lets the kernel gather the burst: 294k rows/s become 505k. Only inside a
 * burst, so latency does not suffer; not under TLS, where every row is a read of its own, and gathering them gains nothing.
 */
const TRICKLE_BYTES = 1024
const TRICKLE_GAP_MS = 0.25
const TRICKLE_READS = 16
const GATHER_MS = 1
/** Where what comes after the end goes. */
const NOWHERE = new Uint8Array(64 * 1024)

interface TakeOver {
  readonly onMessage: OnMessage
  /** After all messages of a read. */
  readonly onRead: () => void
  /** Once, when the connection is gone or a handler threw. */
  readonly onClose: (error: Error) => void
}

export class CopySocket {
  readonly #socket: net.Socket
  readonly #later: (work: () => void) => void
  #framer: Framer | null = null
  #handlers: TakeOver | null = null
  #gathers = false
  #paused = false
  #held = false
  #resting = false
  #closed = false
  #lastReadMs = 0
  #reads = 0
  #trickle = 0

  /** Of an authenticated connection, on which nothing is under way. `later` does something once what is under way is done. */
  constructor(socket: net.Socket, later: (work: () => void) => void = setImmediate) {
    this.#socket = socket
    this.#later = later
  }

  /** From here on every message goes to the handlers, and `pg` hears nothing any more. */
  takeOver(handlers: TakeOver): void {
    const socket = this.#socket
    const framer = new Framer(handlers.onMessage)
    this.#handlers = handlers
    this.#framer = framer
    socket.removeAllListeners('data')
    const onRead = (bytes: number): boolean => this.#onRead(() => framer.filled(bytes), bytes)
    const inPlace = readInto(socket, () => this.#room(framer), onRead)
    this.#gathers = inPlace && !(socket instanceof TLSSocket)
    if (!inPlace) socket.on('data', (chunk: Buffer) => this.#onRead(() => framer.push(chunk), chunk.length))
    socket.on('error', (error) => this.#fail(connectionLost(error)))
    const closed = (): void => this.#fail(connectionLost(new Error('the server closed the connection')))
    socket.on('close', closed)
    // One that was closed before says so to nobody any more.
    if (socket.destroyed) queueMicrotask(closed)
  }

  /** Grows with everything that is read: who sees it stand still, while the socket is not paused, hears nothing. */
  get reads(): number {
    return this.#reads
  }

  get paused(): boolean {
    return this.#paused
  }

  write(bytes: Buffer): void {
    if (!this.#closed) this.#socket.write(bytes)
  }

  /** A simple query: https://www.postgresql.org/docs/current/protocol-message-formats.html (Query). */
  query(text: string): void {
    const body = Buffer.from(`${text}\0`)
    const message = Buffer.alloc(5 + body.length)
    message.write('Q', 'latin1')
    message.writeInt32BE(4 + body.length, 1)
    body.copy(message, 5)
    this.write(message)
  }

  /** Stops reading the socket, so that Postgres feels it, and stops decoding what has been read. */
  hold(): void {
    this.#held = true
    this.#stop()
  }

  /** Goes on, unless it rests, or a message that waited asked for a hold of its own. */
  release(): void {
    this.#held = false
    if (!this.#resting) this.#goOn()
  }

  /** The same as a hold, apart from it, until `resume`. */
  rest(): void {
    this.#resting = true
    this.#stop()
  }

  /** Ends a rest, a moment later: what was read before is not to be decoded before what it made has been sent. */
  resume(): void {
    if (!this.#resting) return
    this.#later(() => {
      if (!this.#resting) return
      this.#resting = false
      if (!this.#held) this.#goOn()
    })
  }

  #stop(): void {
    this.#framer?.hold()
    if (this.#paused || this.#closed) return
    this.#paused = true
    this.#socket.pause()
  }

  #goOn(): void {
    this.#guard(() => this.#framer?.release())
    if (this.#framer?.held === true || !this.#paused || this.#closed) return
    this.#paused = false
    this.#socket.resume()
  }

  destroy(): void {
    this.#closed = true
    this.#socket.destroy()
  }

  /** Node asks outside of any guard. */
  #room(framer: Framer): Uint8Array {
    if (this.#closed) return NOWHERE
    try {
      return framer.room()
    } catch (error) {
      this.#fail(error as Error)
      return NOWHERE
    }
  }

  /** False where the socket is not to be read further now. */
  #onRead(take: () => void, bytes: number): boolean {
    this.#reads++
    this.#guard(take)
    return !this.#paused && !this.#gather(bytes)
  }

  #guard(work: () => void): void {
    if (this.#closed) return
    try {
      work()
      this.#handlers?.onRead()
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** True where the socket now rests for a millisecond. */
  #gather(bytes: number): boolean {
    if (!this.#gathers || bytes >= TRICKLE_BYTES) return false
    const now = performance.now()
    this.#trickle = now - this.#lastReadMs < TRICKLE_GAP_MS ? this.#trickle + 1 : 0
    this.#lastReadMs = now
    if (this.#trickle < TRICKLE_READS) return false
    this.#trickle = 0
    setTimeout(() => {
      if (!this.#paused && !this.#closed) this.#socket.resume()
    }, GATHER_MS)
    return true
  }

  #fail(error: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#socket.destroy()
    this.#handlers?.onClose(error)
  }
}

function connectionLost(error: Error): EvertError {
  return new EvertError('POSTGRES_CONNECTION_LOST', {
    message: `the connection to Postgres broke: ${error.message}`,
    cause: error,
  })
}
