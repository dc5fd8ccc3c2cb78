/** JSON primitives of the hot path: they write bytes at an offset of a buffer that is known to be large enough, and return the next offset. */

const QUOTE = 0x22
const BACKSLASH = 0x5c
export const JSON_NULL = Buffer.from('null')
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
/** Where the source is at hand: from so many on, four are read together; from so many on, a view of them is set (about 25 ns, however many). */
const WORDS_FROM = 8
const VIEW_FROM = 40

/** Taken from where it stands: to look it up through Buffer's prototype costs as much again. */
const { set } = Uint8Array.prototype

/** Copies bytes as they are. */
export function writeBytes(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const length = end - start
  if (length >= WORDS_FROM && readFrom(from)) {
    if (length >= VIEW_FROM) {
      set.call(out, new Uint8Array(memory, words.byteOffset + start, length), at)
      return at + length
    }
    for (; start + 4 <= end; start += 4, at += 4) {
      const word = words.getInt32(start, true)
      out[at] = word
      out[at + 1] = word >> 8
      out[at + 2] = word >> 16
      out[at + 3] = word >> 24
    }
  } else if (length >= COPY_FROM) {
    from.copy(out, at, start, end)
    return at + length
  }
  while (start < end) out[at++] = from[start++]!
  return at
}

/** A whole array is set in about 10 ns, however long it is. */
const SET_CONSTANT_FROM = 12

/** Copies a constant. */
export function writeConstant(constant: Buffer, out: Buffer, at: number): number {
  const { length } = constant
  if (length >= SET_CONSTANT_FROM) set.call(out, constant, at)
  else for (let i = 0; i < length; i++) out[at + i] = constant[i]!
  return at + length
}

/** Copies bytes that need no escaping, in quotes. */
export function writeQuoted(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  out[at++] = QUOTE
  at = writeBytes(from, start, end, out, at)
  out[at++] = QUOTE
  return at
}

/**
 * Writes UTF-8 text as a JSON string. About 15 ns and 0.3 ns a byte; runs without an escape are copied at once. The plain version (decode,
 * JSON.stringify, encode) cost 10 times that, and a look at each byte 5 times.
 */
export function writeString(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const large = from.length > KEPT_BYTES && end - start >= WORDS_FROM
  if (large) read(from)
  out[at++] = QUOTE
  for (let run = start; ;) {
    const stop = firstEscape(from, run, end)
    at = writeBytes(from, run, stop, out, at)
    if (stop === end) break
    at = writeEscape(from[stop]!, out, at)
    run = stop + 1
  }
  out[at++] = QUOTE
  if (large) read(NOTHING)
  return at
}

/** The first byte that does not stand for itself, or the end: four bytes are looked at together. Of a large buffer, which is read already. */
function firstEscape(from: Buffer, start: number, end: number): number {
  let at = start
  if (end - start >= WORDS_FROM && readFrom(from)) {
    for (; at + 4 <= end; at += 4) {
      const word = words.getInt32(at, true)
      // A byte below 0x20, or one that is zero where the quote or the backslash is taken off, borrows from its highest bit.
      const quote = word ^ 0x22222222
      const backslash = word ^ 0x5c5c5c5c
      const found =
        ((word - 0x20202020) & ~word) | ((quote - 0x01010101) & ~quote) | ((backslash - 0x01010101) & ~backslash)
      if ((found & 0x80808080) === 0) continue
      // The byte behind such a one may be taken for another.
      for (let i = at; i < at + 4; i++) if (ESCAPE[from[i]!] !== 0) return i
    }
  }
  while (at < end && ESCAPE[from[at]!] === 0) at++
  return at
}

/** Rows come one after the other out of the same buffer: what reads it is kept. Of a large one it is for one string, for it would hold on to it. */
const KEPT_BYTES = 2 * 1024 * 1024
const NOTHING = Buffer.alloc(0)
let source: Buffer = NOTHING
let memory: ArrayBufferLike = NOTHING.buffer
let words: DataView = new DataView(memory)

/** Has `memory` and `words` be those of a buffer; false where it is a large one that is not read already. */
function readFrom(bytes: Buffer): boolean {
  if (bytes === source) return true
  if (bytes.length > KEPT_BYTES) return false
  read(bytes)
  return true
}

function read(bytes: Buffer): void {
  source = bytes
  memory = bytes.buffer
  words = new DataView(memory, bytes.byteOffset, bytes.length)
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
  const large = from.length > KEPT_BYTES && end - start >= WORDS_FROM
  if (large) read(from)
  let length = end - start + 2
  for (let i = firstEscape(from, start, end); i < end; i = firstEscape(from, i + 1, end))
    length += ESCAPE[from[i]!] === 1 ? 5 : 1
  if (large) read(NOTHING)
  return length
}

/** Writes an unsigned 32-bit number as 8 lower-case hex digits. */
export function writeHex8(value: number, out: Buffer, at: number): number {
  for (let shift = 28; shift >= 0; shift -= 4) out[at++] = LOWER_HEX[(value >>> shift) & 15]!
  return at
}

/** Writes so many decimal digits of a number, of no more than 31 bits. */
export function writeDigits(value: number, digits: number, out: Buffer, at: number): number {
  for (let i = at + digits - 1; i >= at; i--) {
    const quotient = (value / 10) | 0
    out[i] = 0x30 + value - quotient * 10
    value = quotient
  }
  return at + digits
}

/** Writes a whole number from 0 to 2^53 - 1 as decimal digits. About 20 ns. */
export function writeWhole(value: number, out: Buffer, at: number): number {
  const top = Math.floor(value / 1e8)
  if (top === 0) return writeDigits(value, digitsOf(value), out, at)
  at = writeDigits(top, digitsOf(top), out, at)
  return writeDigits(value - top * 1e8, 8, out, at)
}

/** How many decimal digits a number below 2^31 has. */
function digitsOf(value: number): number {
  let digits = 1
  for (let rest = value; rest >= 10; rest = (rest / 10) | 0) digits++
  return digits
}

/** A JSON string literal as bytes, for what is compiled once. */
export function jsonBytes(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
