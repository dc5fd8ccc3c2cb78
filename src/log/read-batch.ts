/** Decodes Kafka record batches (v2), as Fetch returns them and as the embedded log stores them. https://kafka.apache.org/documentation/#recordbatch */
import { crc32c } from '@node-rs/crc32'
import { EvertError } from '../base/errors.js'
import type { RecordHeader } from '../event/sink.js'
import { compressionOf, loadCodec } from './compression.js'
import type { LogRecord } from './log.js'
import { ATTRIBUTE, BATCH_HEADER_BYTES, FIELD, LENGTH_STARTS_AT } from './record-batch.js'

/** Where bytes were read, for errors and for the records made of them. */
export interface BatchOrigin {
  readonly topic: string
  readonly partition: number
}

export interface RecordBatch extends BatchOrigin {
  readonly baseOffset: bigint
  /** The offset of the last record, also where compaction has removed that record. */
  readonly lastOffset: bigint
  /** Number of records; 0 where compaction has removed all. */
  readonly count: number
  /** -1 where no idempotent producer wrote the batch. */
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly attributes: number
  readonly isTransactional: boolean
  /** A control batch holds one marker and no record for a consumer. */
  readonly isControl: boolean
  /** How the transaction of `producerId` ended; null where this is not a control batch, or one of another kind. */
  readonly control: 'abort' | 'commit' | null
  /** The whole batch: a view, never a copy. */
  readonly bytes: Buffer
}

/**
 * The batches of a byte range, checksums verified. An incomplete batch at the end is left out: a broker cuts off at the size it
 * was asked for. The batches are views: the buffer must stay as it is while they are in use. Errors: LOG_PROTOCOL.
 */
export function* readBatches(bytes: Buffer, origin: BatchOrigin): Generator<RecordBatch, void, undefined> {
  for (let at = 0; bytes.length - at >= LENGTH_STARTS_AT;) {
    const length = bytes.readInt32BE(at + FIELD.length)
    const baseOffset = bytes.readBigInt64BE(at + FIELD.baseOffset)
    // The magic byte comes before everything that could be cut off or misread; older formats have shorter headers.
    if (bytes.length - at > FIELD.magic && bytes[at + FIELD.magic] !== 2) {
      throw malformed({ ...origin, offset: baseOffset }, `has format version ${bytes[at + FIELD.magic]} instead of 2`)
    }
    if (length < BATCH_HEADER_BYTES - LENGTH_STARTS_AT) {
      throw malformed({ ...origin, offset: baseOffset }, `claims a length of ${length} bytes`)
    }
    const end = at + LENGTH_STARTS_AT + length
    if (end > bytes.length) return
    yield readBatch(bytes.subarray(at, end), origin)
    at = end
  }
}

function readBatch(bytes: Buffer, origin: BatchOrigin): RecordBatch {
  const baseOffset = bytes.readBigInt64BE(FIELD.baseOffset)
  if (crc32c(bytes.subarray(FIELD.attributes)) !== bytes.readUInt32BE(FIELD.crc)) {
    throw malformed({ ...origin, offset: baseOffset }, 'does not match its checksum')
  }
  const attributes = bytes.readInt16BE(FIELD.attributes)
  const isControl = (attributes & ATTRIBUTE.control) !== 0
  return {
    topic: origin.topic,
    partition: origin.partition,
    baseOffset,
    lastOffset: baseOffset + BigInt(bytes.readInt32BE(FIELD.lastOffsetDelta)),
    count: bytes.readInt32BE(FIELD.count),
    producerId: bytes.readBigInt64BE(FIELD.producerId),
    producerEpoch: bytes.readInt16BE(FIELD.producerEpoch),
    attributes,
    isTransactional: (attributes & ATTRIBUTE.transactional) !== 0,
    isControl,
    control: isControl ? readControl(bytes, { ...origin, offset: baseOffset }) : null,
    bytes,
  }
}

/** The key of a control record is a version and a type, two bytes each. https://kafka.apache.org/documentation/#controlbatch */
function readControl(batch: Buffer, place: Place): 'abort' | 'commit' | null {
  try {
    const reader = new RecordReader(batch, BATCH_HEADER_BYTES)
    reader.varint() // length
    reader.at += 1 // attributes
    reader.varint() // timestamp delta
    reader.varint() // offset delta
    const type = reader.bytes()?.readInt16BE(2)
    return type === 0 ? 'abort' : type === 1 ? 'commit' : null
  } catch (cause) {
    throw malformed(place, 'is a control batch that cannot be decoded', cause)
  }
}

/**
 * The records of a batch, keys and values as views of the batch, or of what it decompresses to. A control batch has none.
 * Errors: LOG_PROTOCOL, COMPRESSION_MISSING.
 */
export async function decodeRecords(batch: RecordBatch): Promise<readonly LogRecord[]> {
  if (batch.isControl || batch.count === 0) return []
  const bytes = await decompress(batch)
  const baseTimestampMs = Number(batch.bytes.readBigInt64BE(FIELD.baseTimestamp))
  const appendTimeMs =
    (batch.attributes & ATTRIBUTE.logAppendTime) === 0 ? null : Number(batch.bytes.readBigInt64BE(FIELD.maxTimestamp))
  const reader = new RecordReader(bytes, 0)
  const records: LogRecord[] = []
  try {
    for (let i = 0; i < batch.count; i++) {
      const end = reader.varint() + reader.at
      reader.at += 1 // attributes, which have no bit in use
      const timestampDelta = reader.varint()
      const offset = batch.baseOffset + BigInt(reader.varint())
      records.push({
        topic: batch.topic,
        partition: batch.partition,
        offset,
        timestampMs: appendTimeMs ?? baseTimestampMs + timestampDelta,
        key: reader.bytes(),
        value: reader.bytes(),
        headers: reader.headers(),
      })
      if (reader.at !== end) throw new RangeError('a record does not end where its length says')
    }
    if (reader.at !== bytes.length) throw new RangeError('bytes are left after the last record')
  } catch (cause) {
    throw malformed({ ...batch, offset: batch.baseOffset }, 'cannot be decoded', cause)
  }
  return records
}

async function decompress(batch: RecordBatch): Promise<Buffer> {
  const section = batch.bytes.subarray(BATCH_HEADER_BYTES)
  const compression = compressionOf(batch.attributes)
  if (compression === 'none') return section
  const where = { ...batch, offset: batch.baseOffset }
  if (compression === null) throw malformed(where, `has a compression that does not exist (${batch.attributes & 7})`)
  const codec = await loadCodec(compression)
  try {
    return await codec.decompress(section)
  } catch (cause) {
    throw malformed(where, `cannot be decompressed (${compression})`, cause)
  }
}

const NO_HEADERS: readonly RecordHeader[] = []

/** Reads the fields of records. Throws RangeError where they lead out of the bytes. */
class RecordReader {
  at: number
  readonly #bytes: Buffer

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.at = at
  }

  /** A zigzag varint of up to 53 bits, as a number: offsets within a batch, lengths, and milliseconds all fit. */
  varint(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 8; i++) {
      const byte = this.#bytes[this.at++]
      if (byte === undefined) break
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value % 2 === 0 ? value / 2 : -(value + 1) / 2
      scale *= 0x80
    }
    throw new RangeError('a number does not end')
  }

  /** Bytes behind their length; null for a length of -1. */
  bytes(): Buffer | null {
    const length = this.varint()
    if (length === -1) return null
    const start = this.at
    if (length < 0 || start + length > this.#bytes.length) throw new RangeError('a length leads out of the batch')
    this.at += length
    return this.#bytes.subarray(start, this.at)
  }

  headers(): readonly RecordHeader[] {
    const count = this.varint()
    if (count === 0) return NO_HEADERS
    const headers: RecordHeader[] = []
    for (let i = 0; i < count; i++) {
      const key = this.bytes()
      if (key === null) throw new RangeError('a header has no key')
      headers.push({ key: key.toString(), value: this.bytes() ?? Buffer.alloc(0) })
    }
    return headers
  }
}

interface Place extends BatchOrigin {
  readonly offset: bigint
}

function malformed(place: Place, what: string, cause?: unknown): EvertError {
  return new EvertError('LOG_PROTOCOL', {
    message: `the batch at offset ${place.offset} of topic "${place.topic}" partition ${place.partition} ${what}`,
    hint: 'the log is damaged there, or another program has written into the topic; kcat -C -o shows what a Kafka client makes of it',
    cause,
  })
}
