/** Batch: a record batch as the simulated broker reads it, by code of its own. https://kafka.apache.org/documentation/#recordbatch */
import { crc32c } from '@node-rs/crc32'

export interface StoredRecord {
  readonly key: string | null
  readonly value: string | null
}

export interface StoredBatch {
  readonly producerId: bigint
  readonly epoch: number
  readonly baseSequence: number
  readonly lastSequence: number
  readonly records: readonly StoredRecord[]
  readonly control: 'abort' | 'commit' | null
  readonly bytes: Buffer
  /** Set when it is appended. */
  baseOffset: number
  /** How its transaction ended, once it has. */
  outcome: 'committed' | 'aborted' | null
}

const HEADER_BYTES = 61

export function readBatch(bytes: Buffer): StoredBatch {
  const count = bytes.readInt32BE(57)
  const baseSequence = bytes.readInt32BE(53)
  return {
    producerId: bytes.readBigInt64BE(43),
    epoch: bytes.readInt16BE(51),
    baseSequence,
    lastSequence: (baseSequence + count - 1) & 0x7fffffff,
    records: readRecords(bytes, count),
    control: null,
    bytes,
    baseOffset: -1,
    outcome: null,
  }
}

function readRecords(bytes: Buffer, count: number): StoredRecord[] {
  let at = HEADER_BYTES
  const varint = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++] ?? 0
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value % 2 === 0 ? value / 2 : -(value + 1) / 2
    }
  }
  const text = (): string | null => {
    const length = varint()
    if (length < 0) return null
    at += length
    return bytes.toString('utf8', at - length, at)
  }
  return Array.from({ length: count }, () => {
    const length = varint()
    const end = at + length
    at += 1
    varint()
    varint()
    const record = { key: text(), value: text() }
    at = end
    return record
  })
}

/** What ends a transaction in a partition. https://kafka.apache.org/documentation/#controlbatch */
export function markerBatch(producerId: bigint, epoch: number, commit: boolean): StoredBatch {
  const bytes = Buffer.alloc(HEADER_BYTES + 17)
  bytes.writeInt32BE(bytes.length - 12, 8)
  bytes[16] = 2
  bytes.writeInt16BE(0x30, 21) // transactional, control
  bytes.writeBigInt64BE(producerId, 43)
  bytes.writeInt16BE(epoch, 51)
  bytes.writeInt32BE(-1, 53)
  bytes.writeInt32BE(1, 57)
  // Length, attributes, deltas, a key of four bytes (version, type), a value of six (version, coordinator epoch), no headers.
  Buffer.from([32, 0, 0, 0, 8, 0, 0, 0, commit ? 1 : 0, 12, 0, 0, 0, 0, 0, 0, 0]).copy(bytes, HEADER_BYTES)
  bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17)
  const control = commit ? 'commit' : 'abort'
  const sequences = { baseSequence: -1, lastSequence: -1 }
  return { producerId, epoch, ...sequences, records: [], control, bytes, baseOffset: -1, outcome: null }
}

/** As it lies in the log: with its offset, which the checksum does not cover. */
export function stored(batch: StoredBatch, offset: number): StoredBatch {
  batch.baseOffset = offset
  batch.bytes.writeBigInt64BE(BigInt(offset), 0)
  return batch
}

export function nextOffset(batch: StoredBatch): number {
  return batch.baseOffset + Math.max(1, batch.records.length)
}
