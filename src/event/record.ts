/** Record: one that is not on the hot path, from its parts. */
import type { EncodedRecord } from './sink.js'

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
  }
}
