/** LSN: a byte position in Postgres' write-ahead log, unsigned 64 bit. https://www.postgresql.org/docs/current/datatype-pg-lsn.html */

declare const lsnBrand: unique symbol

/** Made only by this file; `bigint` inside, `0/16B3748` for people. */
export type Lsn = bigint & { readonly [lsnBrand]: true }

/**
 * The first byte after a transaction's commit record. START_REPLICATION with this LSN sends every transaction that commits
 * after it and none before it: one byte more and a transaction whose commit record starts right here is skipped for good.
 */
export type EndLsn = Lsn

export const LSN_ZERO = 0n as Lsn

/** Parses Postgres' text form, two hexadecimal halves with a slash. Returns null where it is not one. */
export function parseLsn(text: string): Lsn | null {
  const match = /^([0-9a-f]{1,8})\/([0-9a-f]{1,8})$/i.exec(text)
  if (match === null) return null
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn
}

export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
}

/** Reads 8 bytes, big-endian. */
export function readLsn(bytes: Buffer, offset: number): Lsn {
  return bytes.readBigUInt64BE(offset) as Lsn
}

/** An LSN from its unsigned halves, as the replication stream is read without making a bigint per message. */
export function lsnFromHalves(high: number, low: number): Lsn {
  return ((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) as Lsn
}

/** An LSN from a number that is known to be one (a byte distance added to another, a decimal text of ours). */
export function toLsn(value: bigint): Lsn {
  return BigInt.asUintN(64, value) as Lsn
}
