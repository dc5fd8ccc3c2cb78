/**
 * Transaction stamp: the part of `source` that a transaction gives to all its events, with their ordinals:
 * `"txId":755,"lsn":23876424,"ts_us":1772366400123456,"position":"00000000016c5348-00000002"}}`
 */
import { assert } from '../base/assert.js'
import { writeBytes, writeConstant, writeDigits8, writeHex8 } from './json.js'
import { type Lsn, LSN_ZERO, lsnFromHalves } from './lsn.js'
import { ORDINAL_MAX } from './position.js'

const COMMA = 0x2c
const OPEN = 0x7b
const END = Buffer.from('"}}')

export interface TransactionStart {
  /** Orders the transaction: its commit LSN, or what stands for it. */
  readonly commitLsn: Lsn
  /** Microseconds since 1970. */
  readonly timeUs: bigint
  /** Unsigned; null for snapshot rows and messages outside a transaction. */
  readonly xid: number | null
}

export class TransactionStamp {
  /** Of the next change: how many changes the transaction has published. */
  ordinal = 0
  /** Milliseconds since 1970. */
  timestampMs = 0
  commitLsn = LSN_ZERO
  #xid: number | null = null
  /** `"txId":755,"lsn":` */
  #beforeLsn: Buffer = Buffer.alloc(0)
  /** `,"ts_us":…,"position":"…-` */
  #afterLsn: Buffer = Buffer.alloc(0)
  /** Of an LSN below 2^53, the digits above the last eight, which seldom change. */
  #lsnTop = -1
  #lsnTopDigits: Buffer = Buffer.alloc(0)

  begin(transaction: TransactionStart): void {
    this.ordinal = 0
    this.commitLsn = transaction.commitLsn
    this.timestampMs = Number(transaction.timeUs / 1000n)
    this.#xid = transaction.xid
    const commitLsn = transaction.commitLsn.toString(16).padStart(16, '0')
    this.#afterLsn = Buffer.from(`,"ts_us":${transaction.timeUs},"position":"${commitLsn}-`, 'latin1')
    this.origin(null)
  }

  /** Names the replication origin that the transaction came through. */
  origin(name: string | null): void {
    const xid = this.#xid === null ? '' : `"txId":${this.#xid},`
    const origin = name === null ? '' : `"origin":${JSON.stringify(name)},`
    this.#beforeLsn = Buffer.from(`${xid}${origin}"lsn":`)
  }

  /** Writes it with the next ordinal, after a comma unless `source` begins here; closes `source` and the event. */
  write(lsnHigh: number, lsnLow: number, out: Buffer, at: number): number {
    if (out[at - 1] !== OPEN) out[at++] = COMMA
    at = writeBytes(this.#beforeLsn, 0, this.#beforeLsn.length, out, at)
    at = this.#writeLsn(lsnHigh, lsnLow, out, at)
    at = writeConstant(this.#afterLsn, out, at)
    assert(this.ordinal <= ORDINAL_MAX, 'a transaction has more changes than a position can count')
    at = writeHex8(this.ordinal++, out, at)
    return writeConstant(END, out, at)
  }

  /** An LSN as decimal digits: its low eight by integer arithmetic, those above from the last time. About 15 ns. */
  #writeLsn(high: number, low: number, out: Buffer, at: number): number {
    if (high >>> 0 > 0x1fffff) return at + out.write(lsnFromHalves(high, low).toString(), at, 'latin1')
    const lsn = (high >>> 0) * 4294967296 + (low >>> 0)
    const top = Math.floor(lsn / 1e8)
    if (top === 0) return at + out.write(String(lsn), at, 'latin1')
    if (top !== this.#lsnTop) {
      this.#lsnTop = top
      this.#lsnTopDigits = Buffer.from(String(top), 'latin1')
    }
    at = writeConstant(this.#lsnTopDigits, out, at)
    return writeDigits8(lsn - top * 1e8, out, at)
  }
}
