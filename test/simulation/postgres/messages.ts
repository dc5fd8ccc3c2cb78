/**
 * Messages of the walsender, as bytes: pgoutput version 1 in text format inside of CopyData.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */
import type { Relation } from '../../../src/event/relation.js'

/** A column of a row as the stream says it: text, NULL, or `unchanged` for a TOAST value that was not sent. */
export type Value = string | null | typeof UNCHANGED
export const UNCHANGED = Symbol('unchanged')
export type Row = readonly Value[]

/** Microseconds between 1970-01-01 and 2000-01-01, Postgres' epoch. */
const EPOCH_US = 946_684_800_000_000n

class Bytes {
  readonly #parts: Buffer[] = []

  text(text: string): this {
    this.#parts.push(Buffer.from(`${text}\0`))
    return this
  }

  raw(bytes: Buffer | string): this {
    this.#parts.push(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes)
    return this
  }

  int(value: number, size: 1 | 2 | 4): this {
    const bytes = Buffer.alloc(size)
    bytes.writeIntBE(value | 0, 0, size)
    this.#parts.push(bytes)
    return this
  }

  long(value: bigint): this {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64BE(BigInt.asIntN(64, value))
    this.#parts.push(bytes)
    return this
  }

  tuple(row: Row): this {
    this.int(row.length, 2)
    for (const value of row) {
      if (value === null) this.raw('n')
      else if (value === UNCHANGED) this.raw('u')
      else {
        const bytes = Buffer.from(value)
        this.raw('t').int(bytes.length, 4).raw(bytes)
      }
    }
    return this
  }

  end(): Buffer {
    return Buffer.concat(this.#parts)
  }
}

const REPLICA_IDENTITY = { default: 'd', nothing: 'n', full: 'f', index: 'i' } as const

export function begin(commitLsn: bigint, timeUs: bigint, xid: number): Buffer {
  return new Bytes()
    .raw('B')
    .long(commitLsn)
    .long(timeUs - EPOCH_US)
    .int(xid, 4)
    .end()
}

export function commit(commitLsn: bigint, endLsn: bigint, timeUs: bigint): Buffer {
  return new Bytes()
    .raw('C\0')
    .long(commitLsn)
    .long(endLsn)
    .long(timeUs - EPOCH_US)
    .end()
}

export function relation(of: Relation): Buffer {
  const bytes = new Bytes().raw('R').int(of.oid, 4).text(of.schema).text(of.table)
  bytes.raw(REPLICA_IDENTITY[of.replicaIdentity]).int(of.columns.length, 2)
  for (const { name, key, typeOid, typeModifier } of of.columns) {
    const flagged = key || of.replicaIdentity === 'full'
    bytes
      .int(flagged ? 1 : 0, 1)
      .text(name)
      .int(typeOid, 4)
      .int(typeModifier, 4)
  }
  return bytes.end()
}

export function insert(oid: number, row: Row): Buffer {
  return new Bytes().raw('I').int(oid, 4).raw('N').tuple(row).end()
}

/** The old row is sent where its key changed (`K`) or where the replica identity is full (`O`). */
export function update(oid: number, row: Row, old: { readonly row: Row; readonly kind: 'K' | 'O' } | null): Buffer {
  const bytes = new Bytes().raw('U').int(oid, 4)
  if (old !== null) bytes.raw(old.kind).tuple(old.row)
  return bytes.raw('N').tuple(row).end()
}

export function remove(oid: number, old: { readonly row: Row; readonly kind: 'K' | 'O' }): Buffer {
  return new Bytes().raw('D').int(oid, 4).raw(old.kind).tuple(old.row).end()
}

export function truncate(oid: number): Buffer {
  return new Bytes().raw('T').int(1, 4).int(0, 1).int(oid, 4).end()
}

export function message(lsn: bigint, transactional: boolean, content: string): Buffer {
  return new Bytes()
    .raw('M')
    .int(transactional ? 1 : 0, 1)
    .long(lsn)
    .text('sim')
    .int(Buffer.byteLength(content), 4)
    .raw(Buffer.from(content))
    .end()
}

/** https://www.postgresql.org/docs/current/protocol-replication.html (XLogData) */
export function walData(lsn: bigint, payload: Buffer): Buffer {
  return copyData(new Bytes().raw('w').long(lsn).long(lsn).long(0n).raw(payload).end())
}

export function keepalive(walEnd: bigint, replyRequested: boolean): Buffer {
  return copyData(
    new Bytes()
      .raw('k')
      .long(walEnd)
      .long(0n)
      .int(replyRequested ? 1 : 0, 1)
      .end(),
  )
}

function copyData(body: Buffer): Buffer {
  return backend('d', body)
}

export function backend(tag: string, body: Buffer): Buffer {
  return new Bytes()
    .raw(tag)
    .int(4 + body.length, 4)
    .raw(body)
    .end()
}

export function errorResponse(code: string, text: string): Buffer {
  return backend('E', Buffer.from(`SERROR\0C${code}\0M${text}\0\0`))
}
