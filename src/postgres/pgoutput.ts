/**
 * The pgoutput decoder, protocol version 1, text format: it reads one message in place and calls its handler, without an object
 * per row. https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */
import { EvertError } from '../base/errors.js'
import { formatLsn, type Lsn, lsnFromHalves } from '../event/lsn.js'
import type { Column, Relation, ReplicaIdentity } from '../event/relation.js'
import type { OldTuple } from '../event/row.js'
import { NULL, TEXT, Tuple, UNCHANGED } from '../event/tuple.js'
import { isGiven, uint32 } from './framer.js'

/** Microseconds between 1970-01-01 and 2000-01-01, Postgres' epoch. */
const EPOCH_US = 946_684_800_000_000n

/** What a message says. The LSN of the message comes in two unsigned halves; tuples are reused after the call. */
export interface PgoutputHandler {
  begin(commitHigh: number, commitLow: number, timeUs: bigint, xid: number): void
  /** The end LSN is the first byte after the commit record. */
  commit(commitHigh: number, commitLow: number, endHigh: number, endLow: number): void
  /** The LSN is that of the commit at the origin. */
  origin(name: string, lsn: Lsn): void
  relation(relation: Relation): void
  insert(relationOid: number, lsnHigh: number, lsnLow: number, row: Tuple): void
  update(relationOid: number, lsnHigh: number, lsnLow: number, row: Tuple, old: Tuple | null, kind: OldTuple): void
  delete(relationOid: number, lsnHigh: number, lsnLow: number, old: Tuple, kind: OldTuple): void
  truncate(relationOids: readonly number[], lsnHigh: number, lsnLow: number): void
  message(message: { transactional: boolean; lsnHigh: number; lsnLow: number; prefix: string; content: Buffer }): void
}

const NO_BYTES = Buffer.alloc(0)
const IDENTITY: Readonly<Record<string, ReplicaIdentity>> = { d: 'default', n: 'nothing', f: 'full', i: 'index' }

export class PgoutputDecoder {
  readonly #handler: PgoutputHandler
  readonly #row = new Tuple()
  readonly #old = new Tuple()
  /** The message at hand, for errors. */
  #lsnHigh = 0
  #lsnLow = 0
  #at = 0
  #end = 0

  constructor(handler: PgoutputHandler) {
    this.#handler = handler
  }

  /** Decodes the message in bytes[at, end), which the WAL position (high, low) belongs to. */
  decode(bytes: Buffer, at: number, end: number, lsnHigh: number, lsnLow: number): void {
    this.#lsnHigh = lsnHigh
    this.#lsnLow = lsnLow
    this.#end = end
    const tag = bytes[at]
    this.#at = at + 1
    switch (tag) {
      case 0x49: // I
        this.#insert(bytes)
        break
      case 0x55: // U
        this.#update(bytes)
        break
      case 0x44: // D
        this.#delete(bytes)
        break
      case 0x42: // B
        this.#begin(bytes)
        break
      case 0x43: // C
        this.#commit(bytes)
        break
      case 0x52: // R
        this.#relation(bytes)
        break
      case 0x54: // T
        this.#truncate(bytes)
        break
      case 0x4d: // M
        this.#message(bytes)
        break
      case 0x4f: // O
        this.#origin(bytes)
        break
      case 0x59: // Y: names a type; its values are text whatever it is called
        this.#at = end
        break
      default:
        throw this.#malformed(`has the unknown kind 0x${(tag ?? 0).toString(16)}`)
    }
    if (this.#at !== end)
      throw this.#malformed(`is ${Math.abs(this.#at - end)} bytes ${this.#at > end ? 'short' : 'long'}`)
  }

  #origin(bytes: Buffer): void {
    const at = this.#advance(8)
    const lsn = lsnFromHalves(uint32(bytes, at), uint32(bytes, at + 4))
    this.#handler.origin(this.#string(bytes), lsn)
  }

  #begin(bytes: Buffer): void {
    const at = this.#advance(20)
    const timeUs = bytes.readBigInt64BE(at + 8) + EPOCH_US
    this.#handler.begin(uint32(bytes, at), uint32(bytes, at + 4), timeUs, uint32(bytes, at + 16))
  }

  #commit(bytes: Buffer): void {
    const at = this.#advance(25) + 1
    // Or a huge row would be held until the next one comes.
    this.#row.bytes = this.#old.bytes = NO_BYTES
    this.#handler.commit(uint32(bytes, at), uint32(bytes, at + 4), uint32(bytes, at + 8), uint32(bytes, at + 12))
  }

  #insert(bytes: Buffer): void {
    const at = this.#advance(5)
    if (bytes[at + 4] !== 0x4e) throw this.#malformed('has no new row')
    this.#tuple(bytes, this.#row)
    this.#handler.insert(uint32(bytes, at), this.#lsnHigh, this.#lsnLow, this.#row)
  }

  #update(bytes: Buffer): void {
    const at = this.#advance(5)
    const oid = uint32(bytes, at)
    const kind = bytes[at + 4]
    let old: Tuple | null = null
    if (kind === 0x4b || kind === 0x4f) {
      this.#tuple(bytes, this.#old)
      old = this.#old
      if (bytes[this.#advance(1)] !== 0x4e) throw this.#malformed('has no new row')
    } else if (kind !== 0x4e) throw this.#malformed('has no new row')
    this.#tuple(bytes, this.#row)
    this.#handler.update(oid, this.#lsnHigh, this.#lsnLow, this.#row, old, kind === 0x4f ? 'full' : 'key')
  }

  #delete(bytes: Buffer): void {
    const at = this.#advance(5)
    const kind = bytes[at + 4]
    if (kind !== 0x4b && kind !== 0x4f) throw this.#malformed('has no old row')
    this.#tuple(bytes, this.#old)
    this.#handler.delete(uint32(bytes, at), this.#lsnHigh, this.#lsnLow, this.#old, kind === 0x4f ? 'full' : 'key')
  }

  #truncate(bytes: Buffer): void {
    const at = this.#advance(5)
    const count = uint32(bytes, at)
    if (count > (this.#end - this.#at) / 4) throw this.#malformed('names more tables than it holds')
    const oids: number[] = []
    for (let i = 0; i < count; i++) oids.push(uint32(bytes, this.#advance(4)))
    this.#handler.truncate(oids, this.#lsnHigh, this.#lsnLow)
  }

  #message(bytes: Buffer): void {
    const at = this.#advance(9)
    const prefix = this.#string(bytes)
    const length = uint32(bytes, this.#advance(4))
    const start = this.#advance(length)
    this.#handler.message({
      transactional: (bytes[at]! & 1) === 1,
      lsnHigh: uint32(bytes, at + 1),
      lsnLow: uint32(bytes, at + 5),
      prefix,
      content: Buffer.from(bytes.subarray(start, start + length)),
    })
  }

  #relation(bytes: Buffer): void {
    const oid = uint32(bytes, this.#advance(4))
    const schema = this.#string(bytes)
    const table = this.#string(bytes)
    const at = this.#advance(3)
    const replicaIdentity = IDENTITY[String.fromCharCode(bytes[at]!)]
    if (replicaIdentity === undefined) throw this.#malformed('has an unknown replica identity')
    const count = bytes.readUInt16BE(at + 1)
    const columns: Column[] = []
    for (let i = 0; i < count; i++) {
      const key = (bytes[this.#advance(1)]! & 1) === 1
      const name = this.#string(bytes)
      const type = this.#advance(8)
      columns.push({ name, key, typeOid: uint32(bytes, type), typeModifier: bytes.readInt32BE(type + 4) })
    }
    // pg_catalog is sent as the empty schema name.
    this.#handler.relation({ oid, schema: schema === '' ? 'pg_catalog' : schema, table, replicaIdentity, columns })
  }

  /** Notes where each value lies: about 3 ns a column, and the encoder needs no second walk. */
  #tuple(bytes: Buffer, tuple: Tuple): void {
    let at = this.#advance(2)
    const end = this.#end
    const count = (bytes[at]! << 8) | bytes[at + 1]!
    at += 2
    if (count > tuple.state.length) throw this.#malformed('has more columns than a table can have')
    const { state, start, end: stop } = tuple
    for (let i = 0; i < count; i++) {
      const kind = bytes[at++]!
      state[i] = kind
      if (kind === TEXT) {
        const length = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
        at += 4
        if (length < 0 || length > end - at) throw this.#malformed('has a value that is longer than it')
        start[i] = at
        at += length
        stop[i] = at
      } else if (kind !== NULL && kind !== UNCHANGED) throw this.#malformed('has a value of unknown format')
    }
    if (at > end) throw this.#malformed('ends in the middle of a row')
    tuple.bytes = bytes
    tuple.given = isGiven(bytes)
    tuple.count = count
    tuple.size = at - this.#at
    this.#at = at
  }

  #string(bytes: Buffer): string {
    const start = this.#at
    const stop = bytes.indexOf(0, start)
    if (stop === -1 || stop >= this.#end) throw this.#malformed('has a name without an end')
    this.#at = stop + 1
    return bytes.toString('utf8', start, stop)
  }

  /** Steps over a fixed part and returns where it starts. */
  #advance(length: number): number {
    const at = this.#at
    if (at + length > this.#end) throw this.#malformed('is too short')
    this.#at = at + length
    return at
  }

  #malformed(what: string): EvertError {
    const lsn = lsnFromHalves(this.#lsnHigh, this.#lsnLow)
    return new EvertError('PROTOCOL', { message: `a pgoutput message at ${formatLsn(lsn)} ${what}` })
  }
}
