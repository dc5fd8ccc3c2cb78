/** Scalars: from Postgres' text form to JSON bytes, one writer per kind. The session settings that fix the text form are in postgres/. */
import { writeBytes, writeQuoted, writeString } from './json.js'
import { KIND, type Kind } from './type-kinds.js'

const QUOTE = 0x22
const TRUE = Buffer.from('true')
const FALSE = Buffer.from('false')

/** Writes one scalar value that is not NULL. Cost: that of the copy; the switch is about 2 ns. */
export function writeScalar(kind: Kind, from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  switch (kind) {
    case KIND.integer:
      return writeBytes(from, start, end, out, at)
    case KIND.float:
      return writeFloat(from, start, end, out, at)
    case KIND.boolean:
      return from[start] === 0x74 ? writeBytes(TRUE, 0, 4, out, at) : writeBytes(FALSE, 0, 5, out, at)
    case KIND.ascii:
      return writeQuoted(from, start, end, out, at)
    case KIND.date:
      return isPlainDate(from, start, end) && end - start === 10
        ? writeQuoted(from, start, end, out, at)
        : writeRareDate(from, start, end, out, at)
    case KIND.timestamp:
    case KIND.timestamptz:
      return writeTimestamp(kind, from, start, end, out, at)
    case KIND.bytea:
      return writeBytea(from, start, end, out, at)
    case KIND.money:
      return writeMoney(from, start, end, out, at)
    case KIND.nested:
      return writeBytes(from, start, end, out, at)
    case KIND.hex:
      return writeQuoted(from, start + 2, end, out, at)
    case KIND.epochUs:
      return writeEpoch(from, start, end, out, at)
    default:
      return writeString(from, start, end, out, at)
  }
}

/** NaN, Infinity and -Infinity are not JSON numbers: strings. Their last letter tells them from every number. */
function writeFloat(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const last = from[end - 1]
  if (last === 0x4e || last === 0x79) return writeQuoted(from, start, end, out, at)
  return writeBytes(from, start, end, out, at)
}

/** True for a year of four digits that is not BC: `2026-03-01…`. */
function isPlainDate(from: Buffer, start: number, end: number): boolean {
  return end - start >= 10 && from[start + 4] === 0x2d && from[start + 7] === 0x2d && from[end - 1] !== 0x43
}

/** `2026-03-01 12:00:00.123456+00` becomes `"2026-03-01T12:00:00.123456Z"`: the session's time zone is UTC. */
function writeTimestamp(kind: Kind, from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  if (!isPlainDate(from, start, end) || from[start + 10] !== 0x20) return writeRareDate(from, start, end, out, at)
  const zoned = kind === KIND.timestamptz
  if (zoned && !(from[end - 3] === 0x2b && from[end - 2] === 0x30 && from[end - 1] === 0x30)) {
    return writeRareDate(from, start, end, out, at)
  }
  out[at++] = QUOTE
  const day = at
  at = writeBytes(from, start, zoned ? end - 3 : end, out, at)
  out[day + 10] = 0x54 // T
  if (zoned) out[at++] = 0x5a // Z
  out[at++] = QUOTE
  return at
}

/**
 * Infinity stays as it is; years beyond 9999 and BC take ISO 8601's expanded form, signed with at least six digits, where
 * 1 BC is year 0.
 */
function writeRareDate(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  return at + out.write(JSON.stringify(isoDate(from.toString('latin1', start, end))), at, 'latin1')
}

function isoDate(text: string): string {
  const match = /^(\d+)(-\d\d-\d\d)(?: (\d\d:\d\d:\d\d(?:\.\d+)?))?(\+00)?( BC)?$/.exec(text)
  if (match === null) return text
  const [, digits = '', day, time, zone, bc] = match
  const year = bc === undefined ? Number(digits) : 1 - Number(digits)
  const plain = year >= 0 && year <= 9999
  const isoYear = plain
    ? String(year).padStart(4, '0')
    : `${year < 0 ? '-' : '+'}${String(Math.abs(year)).padStart(6, '0')}`
  return `${isoYear}${day}${time === undefined ? '' : `T${time}`}${zone === undefined ? '' : 'Z'}`
}

const TIMESTAMP = /^(\d+)-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:\+00)?( BC)?$/

/** Microseconds since 1970-01-01 in UTC, proleptic Gregorian, as Postgres counts; the infinities are strings. About 0.5 µs. */
function writeEpoch(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const text = from.toString('latin1', start, end)
  const match = TIMESTAMP.exec(text)
  if (match === null) return at + out.write(JSON.stringify(text), at, 'latin1')
  const [, digits = '', month = '', day = '', hour = '', minute = '', second = '', fraction = '', bc] = match
  const year = bc === undefined ? Number(digits) : 1 - Number(digits)
  const days = daysFromCivil(year, Number(month), Number(day))
  const seconds = days * 86_400 + Number(hour) * 3600 + Number(minute) * 60 + Number(second)
  const microseconds = BigInt(seconds) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
  return at + out.write(microseconds.toString(), at, 'latin1')
}

/** Days since 1970-01-01 of the proleptic Gregorian calendar; a year begins in March, so that the leap day is its last. */
function daysFromCivil(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146_097 + dayOfEra - 719_468
}

const BASE64 = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')
const NIBBLE = new Uint8Array(256)
for (let i = 0; i < 16; i++) NIBBLE['0123456789abcdef'.charCodeAt(i)] = i

/** `\x` and hexadecimal digits become base64: three bytes are six digits in and four letters out. */
function writeBytea(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  out[at++] = QUOTE
  let i = start + 2
  for (; i + 6 <= end; i += 6) {
    const bits = (byteAt(from, i) << 16) | (byteAt(from, i + 2) << 8) | byteAt(from, i + 4)
    out[at++] = BASE64[bits >> 18]!
    out[at++] = BASE64[(bits >> 12) & 63]!
    out[at++] = BASE64[(bits >> 6) & 63]!
    out[at++] = BASE64[bits & 63]!
  }
  if (i < end) {
    const two = i + 4 <= end
    const bits = (byteAt(from, i) << 16) | (two ? byteAt(from, i + 2) << 8 : 0)
    out[at++] = BASE64[bits >> 18]!
    out[at++] = BASE64[(bits >> 12) & 63]!
    out[at++] = two ? BASE64[(bits >> 6) & 63]! : 0x3d
    out[at++] = 0x3d // =
  }
  out[at++] = QUOTE
  return at
}

function byteAt(hex: Buffer, at: number): number {
  return (NIBBLE[hex[at]!]! << 4) | NIBBLE[hex[at + 1]!]!
}

/** `-$1,234.50` (lc_monetary C) becomes `"-1234.50"`. */
function writeMoney(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  out[at++] = QUOTE
  for (let i = start; i < end; i++) {
    const byte = from[i]!
    if (byte !== 0x24 && byte !== 0x2c) out[at++] = byte
  }
  out[at++] = QUOTE
  return at
}
