/** Encoded records for the tests of the log, made the slow way. */
import type { EncodedRecord, RecordHeader } from '../../src/event/sink.js'

export interface PlainRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly timestampMs: number
  readonly headers?: readonly RecordHeader[]
}

/** Key and value somewhere in the middle of a larger buffer, as the encoders hand them over. */
export function encode(record: PlainRecord): EncodedRecord {
  const key = record.key ?? Buffer.alloc(0)
  const value = record.value ?? Buffer.alloc(0)
  const keyStart = 7
  const valueStart = keyStart + key.length + 3
  return {
    bytes: Buffer.concat([Buffer.alloc(keyStart, 0xee), key, Buffer.alloc(3, 0xee), value, Buffer.alloc(5, 0xee)]),
    keyStart: record.key === null ? -1 : keyStart,
    keyEnd: keyStart + key.length,
    valueStart: record.value === null ? -1 : valueStart,
    valueEnd: valueStart + value.length,
    timestampMs: record.timestampMs,
    headers: record.headers ?? null,
    into: null,
  }
}

/** A record whose value looks like an event at that position (two numbers) or is a tombstone. */
export function event(key: string | null, value: string | null): PlainRecord {
  return {
    key: key === null ? null : Buffer.from(key),
    value: value === null ? null : Buffer.from(value),
    timestampMs: 1_772_366_400_123,
  }
}
