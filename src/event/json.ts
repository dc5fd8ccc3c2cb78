/** JSON primitives of the hot path: they write bytes at an offset of a buffer that is known to be large enough, and return the next offset. */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const LOWER_HEX = Buffer.from('0123456789abcdef')

/** Per byte: 0 stands for itself, 1 needs \u00XX, anything else is the letter after the backslash. RFC 8259, section 7. */
const ESCAPE = new Uint8Array(256)
ESCAPE.fill(1, 0, 0x20)
for (const [byte, letter] of [
  [0x08, 'b'],
  [0x09, 't'],
  [0x0a, 'n'],
  [0x0c, 'f'],
  [0x0d, 'r'],
  [QUOTE, '"'],
  [BACKSLASH, '\\'],
] as const) {
  ESCAPE[byte] = letter.charCodeAt(0)
}

/** Below this many bytes a loop in JavaScript is cheaper than a call into Buffer.copy (about 60 ns). */
const COPY_FROM = 64

/** Copies bytes as they are. */
export function writeBytes(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  if (end - start >= COPY_FROM) {
    from.copy(out, at, start, end)
    return at + end - start
  }
  for (let i = start; i < end; i++) out[at++] = from[i]!
  return at
}

/** Copies a constant. */
export function writeConstant(constant: Buffer, out: Buffer, at: number): number {
  return writeBytes(constant, 0, constant.length, out, at)
}

/** Copies bytes that need no escaping, in quotes. */
export function writeQuoted(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  out[at++] = QUOTE
  at = writeBytes(from, start, end, out, at)
  out[at++] = QUOTE
  return at
}

/**
 * Writes UTF-8 text as a JSON string. About 1 ns a byte; long runs without an escape are copied at once. The plain version
 * (decode, JSON.stringify, encode) cost 10 times that.
 */
export function writeString(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  out[at++] = QUOTE
  if (end - start < COPY_FROM) {
    for (let i = start; i < end; i++) {
      const byte = from[i]!
      if (ESCAPE[byte] === 0) out[at++] = byte
      else at = writeEscape(byte, out, at)
    }
  } else {
    let run = start
    for (let i = start; i < end; i++) {
      if (ESCAPE[from[i]!] === 0) continue
      at = writeBytes(from, run, i, out, at)
      at = writeEscape(from[i]!, out, at)
      run = i + 1
    }
    at = writeBytes(from, run, end, out, at)
  }
  out[at++] = QUOTE
  return at
}

function writeEscape(byte: number, out: Buffer, at: number): number {
  const letter = ESCAPE[byte]!
  out[at++] = BACKSLASH
  if (letter !== 1) {
    out[at++] = letter
    return at
  }
  out[at++] = 0x75 // u
  out[at++] = 0x30
  out[at++] = 0x30
  out[at++] = LOWER_HEX[byte >> 4]!
  out[at++] = LOWER_HEX[byte & 15]!
  return at
}

/** How many bytes writeString makes of a range, quotes included. Asked only for long values, to size the buffer exactly. */
export function stringLength(from: Buffer, start: number, end: number): number {
  let length = end - start + 2
  for (let i = start; i < end; i++) {
    const letter = ESCAPE[from[i]!]!
    if (letter !== 0) length += letter === 1 ? 5 : 1
  }
  return length
}

/** Writes an unsigned 32-bit number as 8 lower-case hex digits. */
export function writeHex8(value: number, out: Buffer, at: number): number {
  for (let shift = 28; shift >= 0; shift -= 4) out[at++] = LOWER_HEX[(value >>> shift) & 15]!
  return at
}

/** Writes exactly 8 decimal digits of a number below 100,000,000. */
export function writeDigits8(value: number, out: Buffer, at: number): number {
  for (let i = at + 7; i >= at; i--) {
    const quotient = (value / 10) | 0
    out[i] = 0x30 + value - quotient * 10
    value = quotient
  }
  return at + 8
}

/** A JSON string literal as bytes, for what is compiled once. */
export function jsonBytes(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
