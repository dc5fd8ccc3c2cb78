/** Values: from Postgres' text form to JSON bytes. Scalars as they are; arrays, composites and hstore are taken apart. */
import { assert } from '../base/assert.js'
import { JSON_NULL, stringLength, writeBytes, writeConstant, writeString } from './json.js'
import { writeScalar } from './scalars.js'
import { KIND } from './type-kinds.js'
import { TypeAltered, ValueMalformed, type ValueType } from './value-types.js'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN = 0x7b // {
const CLOSE = 0x7d // }
const OPEN_ROW = 0x28 // (
const CLOSE_ROW = 0x29 // )
const COMMA = 0x2c

/**
 * Writes one value that is not NULL. Error: TypeAltered, where a composite has other fields than its type.
 * Cost: that of the copy; the switch is about 2 ns.
 */
export function writeValue(type: ValueType, from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  switch (type.kind) {
    case KIND.array:
      return writeArray(type, from, start, end, out, at)
    case KIND.composite:
      return writeComposite(type, from, start, end, out, at)
    case KIND.hstore:
      return writeHstore(from, start, end, out, at)
    default:
      return writeScalar(type.kind, from, start, end, out, at)
  }
}

/** An upper bound of what writeValue writes. */
export function valueBytes(type: ValueType, from: Buffer, start: number, end: number): number {
  switch (type.kind) {
    case KIND.array:
    case KIND.composite:
    case KIND.hstore:
      return stringLength(from, start, end) + type.constantBytes + separators(from, start, end) * type.separatorBytes
    case KIND.text:
      return stringLength(from, start, end)
    default:
      return end - start + type.constantBytes
  }
}

function separators(from: Buffer, start: number, end: number): number {
  let count = 0
  for (let i = start; i < end; i++) {
    const byte = from[i]!
    if (byte === COMMA || byte === 0x3a || byte === 0x3b) count++ // : ;
  }
  return count
}

/**
 * An array literal becomes nested JSON arrays: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
 * Bounds in front (`[2:3]={…}`) are left out. About 3 ns a byte.
 */
function writeArray(type: ValueType, from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const { element } = type
  assert(element !== null, 'an array type has an element type')
  let i = start
  if (from[i] === 0x5b) i = from.indexOf(0x3d, i) + 1 // [ … =
  while (i < end) {
    const byte = from[i]!
    if (byte === OPEN || byte === CLOSE) {
      out[at++] = byte === OPEN ? 0x5b : 0x5d
      i++
    } else if (byte === type.delimiter) {
      out[at++] = COMMA
      i++
    } else if (byte === QUOTE) {
      const close = closingQuote(from, i + 1, end)
      at = writeUnquoted(element, from, i + 1, close, out, at)
      i = close + 1
    } else {
      const stop = elementEnd(from, i, end, type.delimiter)
      at = isNull(from, i, stop) ? writeBytes(JSON_NULL, 0, 4, out, at) : writeValue(element, from, i, stop, out, at)
      i = stop
    }
  }
  return at
}

/** The quote that is neither escaped by a backslash nor doubled. */
function closingQuote(from: Buffer, at: number, end: number): number {
  while (at < end) {
    const byte = from[at]
    if (byte === QUOTE && (at + 1 === end || from[at + 1] !== QUOTE)) return at
    at += byte === BACKSLASH || byte === QUOTE ? 2 : 1
  }
  throw new ValueMalformed('a quote is not closed')
}

function elementEnd(from: Buffer, at: number, end: number, delimiter: number): number {
  while (at < end && from[at] !== delimiter && from[at] !== CLOSE) at++
  return at
}

/** An unquoted NULL; a text element that reads NULL is always quoted. */
function isNull(from: Buffer, start: number, end: number): boolean {
  return (
    end - start === 4 &&
    (from[start]! | 0x20) === 0x6e &&
    (from[start + 1]! | 0x20) === 0x75 &&
    (from[start + 2]! | 0x20) === 0x6c &&
    (from[start + 3]! | 0x20) === 0x6c
  )
}

/** What stood in quotes: its escapes (a backslash before anything, a doubled quote) are taken out first, where it has any. */
function writeUnquoted(type: ValueType, from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  let escape = start
  while (escape < end && from[escape] !== BACKSLASH && from[escape] !== QUOTE) escape++
  if (escape === end) return writeValue(type, from, start, end, out, at)
  const plain = unescape(from, start, end)
  return writeValue(type, plain, 0, plain.length, out, at)
}

function unescape(from: Buffer, start: number, end: number): Buffer {
  const plain = Buffer.allocUnsafe(end - start)
  let length = 0
  for (let i = start; i < end; i++) {
    if (from[i] === BACKSLASH || from[i] === QUOTE) i++
    plain[length++] = from[i]!
  }
  return plain.subarray(0, length)
}

/**
 * `(1,"x y",)` becomes an object: https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX
 * Postgres prints the fields that its type had at that point of the stream: another number of them means that it was altered since.
 */
function writeComposite(type: ValueType, from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const { attributes } = type
  if (from[start] !== OPEN_ROW || from[end - 1] !== CLOSE_ROW) throw new ValueMalformed('a row is not in parentheses')
  out[at++] = OPEN
  if (attributes.length > 0 || end - start > 2) {
    let i = start + 1
    for (let field = 0; ; field++) {
      const attribute = attributes[field]
      if (attribute === undefined) throw new TypeAltered(type.oid)
      if (field > 0) out[at++] = COMMA
      at = writeConstant(attribute.label, out, at)
      const quoted = from[i] === QUOTE
      const stop = quoted ? closingQuote(from, i + 1, end) : fieldEnd(from, i, end - 1)
      if (quoted) at = writeUnquoted(attribute.type, from, i + 1, stop, out, at)
      else if (stop === i) at = writeBytes(JSON_NULL, 0, 4, out, at)
      else at = writeValue(attribute.type, from, i, stop, out, at)
      i = quoted ? stop + 1 : stop
      if (i >= end - 1) {
        if (field + 1 < attributes.length && !type.prefixes) throw new TypeAltered(type.oid)
        break
      }
      if (from[i++] !== COMMA) throw new ValueMalformed('no comma stands between two fields of a row')
    }
  }
  out[at++] = CLOSE
  return at
}

function fieldEnd(from: Buffer, at: number, end: number): number {
  while (at < end && from[at] !== COMMA) at++
  return at
}

/** `"a"=>"1", "b"=>NULL` becomes an object of strings: https://www.postgresql.org/docs/current/hstore.html */
function writeHstore(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  out[at++] = OPEN
  for (let i = start; i < end;) {
    if (from[i] !== QUOTE) throw new ValueMalformed('a key of an hstore is not in quotes')
    if (i > start) out[at++] = COMMA
    const keyEnd = closingQuote(from, i + 1, end)
    at = writeText(from, i + 1, keyEnd, out, at)
    out[at++] = 0x3a // :
    i = keyEnd + 3 // "=>
    if (from[i] === QUOTE) {
      const valueEnd = closingQuote(from, i + 1, end)
      at = writeText(from, i + 1, valueEnd, out, at)
      i = valueEnd + 1
    } else {
      at = writeBytes(JSON_NULL, 0, 4, out, at)
      i += 4
    }
    i += 2 // the comma and a space
  }
  out[at++] = CLOSE
  return at
}

function writeText(from: Buffer, start: number, end: number, out: Buffer, at: number): number {
  const plain = unescape(from, start, end)
  return writeString(plain, 0, plain.length, out, at)
}
