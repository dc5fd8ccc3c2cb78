/** One Kafka record batch (v2) while it is filled, and its header once it is full. https://kafka.apache.org/documentation/#recordbatch */
import { setImmediate as breathe } from 'node:timers/promises'
import { crc32c } from '@node-rs/crc32'
import { assert } from '../base/assert.js'
import { EvertError } from '../base/errors.js'
import type { EncodedRecord, RecordHeader } from '../event/sink.js'
import type { BufferPool } from './buffer-pool.js'
import type { Codec } from './compression.js'

export const BATCH_HEADER_BYTES = 61

/** The offsets of the header's fields. Everything from the attributes on is covered by the checksum. */
export const FIELD = {
  baseOffset: 0,
  length: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  count: 57,
} as const

export const ATTRIBUTE = { logAppendTime: 0x08, transactional: 0x10, control: 0x20 } as const

/** What the length field does not count: the base offset and itself. */
export const LENGTH_STARTS_AT = 12

/** Lengths inside a batch are signed 32 bit. */
const BATCH_BYTES_LIMIT = 0x7fffffff
/** Below this many bytes a loop beats the call of Buffer.copy. Not `writeBytes`: keys lie in another buffer than rows, and each would cost a view of it. */
const COPY_BY_LOOP_BELOW = 64

export interface ProducerStamp {
  readonly producerId: bigint
  readonly producerEpoch: number
  /** Sequence number of the first record of this batch. */
  readonly baseSequence: number
  readonly transactional: boolean
}

const NO_PRODUCER: ProducerStamp = { producerId: -1n, producerEpoch: -1, baseSequence: -1, transactional: false }

export class BatchBuilder {
  readonly #pool: BufferPool
  readonly #maxBytes: number
  #buffer: Buffer
  #end = BATCH_HEADER_BYTES
  #count = 0
  #baseTimestampMs = 0
  #maxTimestampMs = 0
  #compressionBits = 0
  #released = false
  /** Of the record that is open: where it begins behind its length, its value's length, and its value (-1 for null). */
  #bodyStart = 0
  #lengthAt = 0
  #valueStart = 0
  #timestampMs = 0
  #headers: readonly RecordHeader[] | null = null

  /** `startBytes` saves the doubling where a batch is expected to become large; `into` is a buffer that it begins in. */
  constructor(options: {
    readonly pool: BufferPool
    readonly maxBytes: number
    readonly startBytes?: number
    readonly into?: Buffer | null
  }) {
    this.#pool = options.pool
    this.#maxBytes = options.maxBytes
    this.#buffer = options.into ?? options.pool.take(options.startBytes ?? 0)
  }

  /** Number of records. */
  get count(): number {
    return this.#count
  }

  /** Bytes of the whole batch, header included. */
  get bytes(): number {
    return this.#end
  }

  get baseTimestampMs(): number {
    return this.#baseTimestampMs
  }

  get maxTimestampMs(): number {
    return this.#maxTimestampMs
  }

  /** Where records are written: valid until the next one is opened. */
  get buffer(): Buffer {
    return this.#buffer
  }

  /** Copies one record in; false where the batch is full, and then nothing was changed. */
  append(record: EncodedRecord): boolean {
    const { valueStart, valueEnd } = record
    const at = this.open(record, valueStart < 0 ? -1 : valueEnd - valueStart)
    if (at < 0) return false
    this.close(valueStart < 0 ? at : at + record.bytes.copy(this.#buffer, at, valueStart, valueEnd))
    return true
  }

  /**
   * Writes one record up to its value, for which it makes room, and says where that is to be written; -1 where the batch is full. A record
   * that is larger than the limit is taken by an empty batch, alone. A value of -1 bytes is null. Nothing counts before `close`. About
   * 0.1 µs, and no object; client libraries make several, at 2 to 8 µs a record.
   * https://kafka.apache.org/documentation/#record
   */
  open(record: EncodedRecord, valueBytes: number): number {
    const { bytes, keyStart, keyEnd, headers } = record
    const keyBytes = keyStart < 0 ? -1 : keyEnd - keyStart
    if (this.#count === 0) this.#baseTimestampMs = this.#maxTimestampMs = record.timestampMs
    const timestampDelta = zigzag(record.timestampMs - this.#baseTimestampMs)
    const offsetDelta = this.#count * 2
    // The length of a record counts everything behind itself; one byte is the attributes, which have no bit in use.
    const bodyBytes =
      1 +
      varintBytes(timestampDelta) +
      varintBytes(offsetDelta) +
      lengthBytes(keyBytes) +
      lengthBytes(valueBytes) +
      (headers === null ? 1 : headersBytes(headers))
    const bodyStart = this.#end + varintBytes(bodyBytes * 2)
    const end = bodyStart + bodyBytes
    if (end > this.#maxBytes && this.#count > 0) return -1
    if (end > this.#buffer.length) this.#grow(end)

    const buffer = this.#buffer
    let at = bodyStart
    buffer[at++] = 0
    at = writeVarint(buffer, at, timestampDelta)
    at = writeVarint(buffer, at, offsetDelta)
    at = writeVarint(buffer, at, zigzag(keyBytes))
    if (keyBytes > 0) at = copy(bytes, keyStart, keyEnd, buffer, at)
    this.#bodyStart = bodyStart
    this.#lengthAt = at
    this.#valueStart = valueBytes < 0 ? -1 : at + varintBytes(valueBytes * 2)
    this.#headers = headers
    this.#timestampMs = record.timestampMs
    return valueBytes < 0 ? at : this.#valueStart
  }

  /** The value that there was room for ends here: lengths that take fewer bytes than was thought move it forward. */
  close(valueEnd: number): void {
    const buffer = this.#buffer
    let at = this.#lengthAt
    if (this.#valueStart < 0) at = writeVarint(buffer, at, zigzag(-1))
    else {
      const bytes = valueEnd - this.#valueStart
      at = writeVarint(buffer, at, bytes * 2)
      if (at < this.#valueStart) buffer.copyWithin(at, this.#valueStart, valueEnd)
      at += bytes
    }
    if (this.#headers === null) buffer[at++] = 0
    else at = writeHeaders(buffer, at, this.#headers)
    const bodyBytes = at - this.#bodyStart
    const start = writeVarint(buffer, this.#end, bodyBytes * 2)
    if (start < this.#bodyStart) buffer.copyWithin(start, this.#bodyStart, at)
    if (this.#timestampMs > this.#maxTimestampMs) this.#maxTimestampMs = this.#timestampMs
    this.#end = start + bodyBytes
    this.#count += 1
  }

  /** Compresses the records section. Afterwards nothing more is appended. */
  async compress(codec: Codec): Promise<void> {
    if (codec.bits === 0) return
    assert(this.#compressionBits === 0 && !this.#released, 'a batch is compressed twice or after its release')
    const compressed = await codec.compress(this.#buffer.subarray(BATCH_HEADER_BYTES, this.#end))
    const buffer = this.#pool.take(BATCH_HEADER_BYTES + compressed.length)
    compressed.copy(buffer, BATCH_HEADER_BYTES)
    this.#pool.give(this.#buffer)
    this.#buffer = buffer
    this.#end = BATCH_HEADER_BYTES + compressed.length
    this.#compressionBits = codec.bits
    // Many of them may follow each other: whatever else is to be done, keepalives above all, does not wait for all of them.
    await breathe()
  }

  /** Writes the header with a producer's fields and the checksum, which is computed here and only here. Returns the batch, valid until release(). */
  stamp(producer: ProducerStamp): Buffer {
    assert(this.#count > 0 && !this.#released, 'a batch is stamped empty or after its release')
    const batch = this.#buffer.subarray(0, this.#end)
    batch.fill(0, FIELD.baseOffset, FIELD.length)
    batch.writeInt32BE(this.#end - LENGTH_STARTS_AT, FIELD.length)
    batch.writeInt32BE(-1, FIELD.leaderEpoch)
    batch[FIELD.magic] = 2
    batch.writeInt16BE(this.#compressionBits | (producer.transactional ? ATTRIBUTE.transactional : 0), FIELD.attributes)
    batch.writeInt32BE(this.#count - 1, FIELD.lastOffsetDelta)
    batch.writeBigInt64BE(BigInt(this.#baseTimestampMs), FIELD.baseTimestamp)
    batch.writeBigInt64BE(BigInt(this.#maxTimestampMs), FIELD.maxTimestamp)
    batch.writeBigInt64BE(producer.producerId, FIELD.producerId)
    batch.writeInt16BE(producer.producerEpoch, FIELD.producerEpoch)
    batch.writeInt32BE(producer.baseSequence, FIELD.baseSequence)
    batch.writeInt32BE(this.#count, FIELD.count)
    batch.writeUInt32BE(crc32c(batch.subarray(FIELD.attributes)), FIELD.crc)
    return batch
  }

  /** The batch without a producer, at the base offset where it is stored (which the checksum does not cover). */
  finish(baseOffset: bigint): Buffer {
    const batch = this.stamp(NO_PRODUCER)
    batch.writeBigInt64BE(baseOffset, FIELD.baseOffset)
    return batch
  }

  /** Gives the buffer back. Safe to call twice. */
  release(): void {
    if (this.#released) return
    this.#released = true
    this.#pool.give(this.#buffer)
  }

  #grow(bytes: number): void {
    if (bytes > BATCH_BYTES_LIMIT) {
      throw new EvertError('RECORD_TOO_LARGE', {
        message: `an event of ${bytes} bytes is larger than a record batch can be (${BATCH_BYTES_LIMIT} bytes)`,
        hint: 'leave the table or the column out of the publication',
      })
    }
    const doubled = Math.min(this.#buffer.length * 2, this.#maxBytes)
    const buffer = this.#pool.take(Math.max(bytes, doubled))
    this.#buffer.copy(buffer, BATCH_HEADER_BYTES, BATCH_HEADER_BYTES, this.#end)
    this.#pool.give(this.#buffer)
    this.#buffer = buffer
  }
}

/** Zigzag in doubles, not in 32 bits: timestamps may lie more than 24 days apart. */
function zigzag(value: number): number {
  return value < 0 ? value * -2 - 1 : value * 2
}

/** Bytes of a varint of an unsigned number below 2^53. */
function varintBytes(value: number): number {
  if (value < 0x80) return 1
  if (value < 0x4000) return 2
  if (value < 0x200000) return 3
  if (value < 0x10000000) return 4
  let bytes = 5
  for (let rest = value / 0x800000000; rest >= 1; rest /= 0x80) bytes += 1
  return bytes
}

/** Bytes of a length and of what it counts; -1 stands for null and counts nothing. */
function lengthBytes(length: number): number {
  return length < 0 ? 1 : varintBytes(length * 2) + length
}

function writeVarint(buffer: Buffer, start: number, value: number): number {
  let at = start
  let rest = value
  for (; rest > 0x7fffffff; rest = Math.floor(rest / 0x80)) buffer[at++] = (rest % 0x80) | 0x80
  for (; rest > 0x7f; rest >>>= 7) buffer[at++] = (rest & 0x7f) | 0x80
  buffer[at++] = rest
  return at
}

function copy(source: Buffer, start: number, end: number, target: Buffer, targetStart: number): number {
  let at = targetStart
  if (end - start >= COPY_BY_LOOP_BELOW) {
    source.copy(target, at, start, end)
    return at + end - start
  }
  for (let i = start; i < end; i++) target[at++] = source[i] as number
  return at
}

function headersBytes(headers: readonly RecordHeader[]): number {
  let bytes = varintBytes(headers.length * 2)
  for (const { key, value } of headers) bytes += lengthBytes(Buffer.byteLength(key)) + lengthBytes(value.length)
  return bytes
}

function writeHeaders(buffer: Buffer, start: number, headers: readonly RecordHeader[]): number {
  let at = writeVarint(buffer, start, headers.length * 2)
  for (const { key, value } of headers) {
    at = writeVarint(buffer, at, Buffer.byteLength(key) * 2)
    at += buffer.write(key, at)
    at = writeVarint(buffer, at, value.length * 2)
    at += value.copy(buffer, at)
  }
  return at
}
