/** Members of a JSON object, where they stand in its bytes: values keep every digit that a parse into numbers would round. */

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

export interface Member {
  /** As it stands between the quotes, escapes and all. */
  readonly name: string
  readonly start: number
  readonly end: number
}

/** Of an object that evert has written: without space outside of values. Where there is none at `start`, nothing. */
export function* membersOf(bytes: Buffer, start: number): Generator<Member> {
  if (bytes[start] !== OPEN_BRACE) return
  let at = start + 1
  while (bytes[at] === QUOTE) {
    const nameEnd = stringEnd(bytes, at)
    const valueStart = nameEnd + 1 // behind the colon
    const end = bytes[nameEnd] === COLON ? valueEnd(bytes, valueStart) : valueStart
    yield { name: bytes.toString('utf8', at + 1, nameEnd - 1), start: valueStart, end }
    at = bytes[end] === COMMA ? end + 1 : end
  }
}

/** Behind the closing quote. */
function stringEnd(bytes: Buffer, start: number): number {
  let at = start + 1
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1
  return at + 1
}

function valueEnd(bytes: Buffer, start: number): number {
  let depth = 0
  let at = start
  while (at < bytes.length) {
    const byte = bytes[at]
    if (byte === QUOTE) {
      at = stringEnd(bytes, at)
      continue
    }
    if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 0) return at
      depth--
    } else if (byte === COMMA && depth === 0) return at
    at++
  }
  return at
}
