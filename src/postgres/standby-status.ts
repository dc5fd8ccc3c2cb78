/** Standby status: what we tell the walsender of our progress, on time even when nothing is read. */
import { type Clock, systemClock, type Timer } from '../base/clock.js'
import { type EndLsn, LSN_ZERO } from '../event/lsn.js'

const COPY_DATA = 0x64
const STATUS_UPDATE = 0x72 // r
/** Milliseconds between 1970-01-01 and 2000-01-01. */
const EPOCH_MS = 946_684_800_000

/**
 * Standby status update: https://www.postgresql.org/docs/current/protocol-replication.html
 * The written, flushed and applied LSN are one: what is durable in the log. Sent well within wal_sender_timeout whether or not the
 * socket is being read, the server never has to ask for it.
 */
export class StandbyStatus {
  readonly #write: (message: Buffer) => void
  readonly #clock: Clock
  #timer: Timer | null = null
  flushed: EndLsn = LSN_ZERO

  constructor(write: (message: Buffer) => void, clock = systemClock) {
    this.#write = write
    this.#clock = clock
  }

  every(periodMs: number): void {
    this.#timer = this.#clock.every(periodMs, () => this.send())
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  /** Never goes backwards. */
  acknowledge(endLsn: EndLsn): void {
    if (endLsn <= this.flushed) return
    this.flushed = endLsn
    this.send()
  }

  /** Asked for a reply, the server says at once how far it has read, which it otherwise does when it thinks fit. */
  send(replyRequested = false): void {
    const message = Buffer.alloc(39)
    message[38] = replyRequested ? 1 : 0
    message[0] = COPY_DATA
    message.writeInt32BE(38, 1)
    message[5] = STATUS_UPDATE
    for (let at = 6; at < 30; at += 8) message.writeBigUInt64BE(this.flushed, at)
    message.writeBigInt64BE(BigInt(this.#clock.nowMs() - EPOCH_MS) * 1000n, 30)
    this.#write(message)
  }
}
