/** Framer: finds backend messages in the bytes of a socket, in a buffer of its own that is read into and decoded in place. */
import { dropped } from '../base/dropped.js'
import { EvertError } from '../base/errors.js'

/** Called with the message's tag and the range of its body; the bytes are valid only during the call, unless they are given. */
export type OnMessage = (tag: number, bytes: Buffer, start: number, end: number) => void

const BUFFER_BYTES = 1024 * 1024
/** One that has grown a little, while somebody rested, is not worth two new ones each time. */
const KEPT_BYTES = 2 * BUFFER_BYTES
/** The buffer of a message that needs a larger one is given to its handler, to keep and to write over. */
const GIVEN_FROM_BYTES = 16 * 1024 * 1024
/** Such a buffer has room for what is made of the message. Memory that nobody writes to is not resident. */
const SPARE = 1.25
/** Never offer the socket less room than this: small reads cost a system call each. */
const FREE_BYTES = 64 * 1024
/** Postgres' own limit of one message (PQ_LARGE_MESSAGE_LIMIT, MaxAllocSize). */
const MESSAGE_BYTES = 1024 * 1024 * 1024

/** https://www.postgresql.org/docs/current/protocol-message-formats.html: one byte tag, then a length that counts itself. */
export class Framer {
  readonly #onMessage: OnMessage
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)
  /** All of it, made once: over TLS every row is read by itself, and there is room for it from the start. */
  #whole = new Uint8Array(this.#buffer.buffer)
  #read = 0
  #write = 0
  #held = false

  constructor(onMessage: OnMessage) {
    this.#onMessage = onMessage
  }

  /** Room for the next read. A message larger than the buffer gets one of its size, until what follows it fits into a usual one. */
  room(): Uint8Array {
    const pending = this.#write - this.#read
    if (pending === 0) this.#read = this.#write = 0
    const wanted = pending >= 5 && !this.#held ? Math.max(this.#messageBytes() - pending, FREE_BYTES) : FREE_BYTES
    const toGiveBack = this.#buffer.length > KEPT_BYTES && pending + wanted <= BUFFER_BYTES
    if (toGiveBack) this.#replace(BUFFER_BYTES)
    else if (pending + wanted > this.#buffer.length) this.#replace(sizeFor(pending + wanted))
    else if (this.#write + wanted > this.#buffer.length) {
      this.#buffer.copyWithin(0, this.#read, this.#write)
      this.#read = 0
      this.#write = pending
    }
    if (this.#write === 0) return this.#whole
    return new Uint8Array(this.#buffer.buffer, this.#write, isGiven(this.#buffer) ? wanted : undefined)
  }

  #replace(bytes: number): void {
    const other = Buffer.allocUnsafeSlow(Math.max(bytes, this.#write - this.#read))
    this.#write = this.#buffer.copy(other, 0, this.#read, this.#write)
    this.#read = 0
    dropped(this.#buffer)
    this.#buffer = other
    this.#whole = new Uint8Array(other.buffer)
  }

  /** Takes what was read into room(). */
  filled(bytes: number): void {
    this.#write += bytes
    this.#parse()
  }

  /** Takes a chunk that lies elsewhere, as a TLS socket hands it out. */
  push(chunk: Uint8Array): void {
    let offset = 0
    while (offset < chunk.length) {
      const room = this.room()
      const length = Math.min(room.length, chunk.length - offset)
      room.set(chunk.subarray(offset, offset + length))
      offset += length
      this.filled(length)
    }
  }

  /**
   * Stops before the next message; what has been read stays. Only from within a handler, or while it is held: else Node may have the room of
   * a buffer that `release` gives away.
   */
  hold(): void {
    this.#held = true
  }

  get held(): boolean {
    return this.#held
  }

  /** Goes on with the messages that wait. */
  release(): void {
    this.#held = false
    this.#parse()
  }

  #messageBytes(): number {
    const length = uint32(this.#buffer, this.#read + 1)
    if (length < 4 || length > MESSAGE_BYTES) {
      throw new EvertError('PROTOCOL', { message: `a message of Postgres claims to be ${length} bytes long` })
    }
    return length + 1
  }

  /** The loop around every message: about 20 ns each beside the handler. */
  #parse(): void {
    while (!this.#held && this.#write - this.#read >= 5) {
      const bytes = this.#messageBytes()
      if (this.#write - this.#read < bytes) break
      const start = this.#read
      const buffer = this.#buffer
      // Before the call: a handler that throws or holds must not see its message again.
      this.#read = start + bytes
      if (isGiven(buffer)) this.#replace(BUFFER_BYTES)
      this.#onMessage(buffer[start]!, buffer, start + 5, start + bytes)
    }
  }
}

function sizeFor(bytes: number): number {
  return bytes < GIVEN_FROM_BYTES ? bytes + FREE_BYTES : Math.ceil(bytes * SPARE)
}

/** Whether a message in this buffer is the only one that is read from it. */
export function isGiven(buffer: Buffer): boolean {
  return buffer.length >= GIVEN_FROM_BYTES
}

/** Four bytes, big-endian, in 2 ns: Buffer's own is looked up through its prototype, and looks whether they are there. */
export function uint32(bytes: Buffer, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
}
