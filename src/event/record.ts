/** Record: one that is not on the hot path, from its parts; and what is beside the value of any. */
import type { EncodedRecord } from './sink.js'

/** A header has two lengths. */
const HEADER_BYTES = 10

/** The most that they take; few records have headers. */
export function keyAndHeadersBytes({ keyStart, keyEnd, headers }: EncodedRecord): number {
  let bytes = keyEnd - keyStart
  if (headers !== null)
    for (const { key, value } of headers) bytes += Buffer.byteLength(key) + value.length + HEADER_BYTES
  return bytes
}

export function encodedRecord(parts: {
  readonly key: Buffer
  readonly value: Buffer
  readonly timestampMs: number
}): EncodedRecord {
  const { key, value, timestampMs } = parts
  return {
    bytes: Buffer.concat([key, value]),
    keyStart: 0,
    keyEnd: key.length,
    valueStart: key.length,
    valueEnd: key.length + value.length,
    timestampMs,
    headers: null,
    into: null,
  }
}
