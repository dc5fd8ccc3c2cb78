/** The keys of the embedded log in LMDB: one byte says of what, numbers are big-endian with a fixed width, so that keys sort as numbers do. */

export const FORMAT_KEY = Buffer.from('f')
export const NEXT_TOPIC_ID_KEY = Buffer.from('i')
export const TOPIC_PREFIX = Buffer.from('t')
export const PENDING_PREFIX = Buffer.from('o')
export const PROGRESS_PREFIX = Buffer.from('p')

/** A partition by the number of its topic: names may be used again after a topic was deleted, numbers are not. */
export interface PartitionId {
  readonly topicId: number
  readonly partition: number
}

/** → the topic's number and its partitions, four bytes each. */
export function topicKey(name: string): Buffer {
  return Buffer.concat([TOPIC_PREFIX, Buffer.from(name)])
}

/** → a record batch. */
export function batchKey(id: PartitionId, baseOffset: bigint): Buffer {
  const key = Buffer.alloc(17, 'b')
  key.writeUInt32BE(id.topicId, 1)
  key.writeUInt32BE(id.partition, 5)
  key.writeBigUInt64BE(baseOffset, 9)
  return key
}

/** → the offset behind the last committed record, eight bytes; absent where nothing was committed. */
export function endKey(id: PartitionId): Buffer {
  return partitionKey('e', id)
}

/** → the offset behind the last stored record of an open log transaction, eight bytes, and the pipeline that has it open. */
export function pendingKey(id: PartitionId): Buffer {
  return partitionKey('o', id)
}

export function readPendingKey(key: Buffer): PartitionId {
  return { topicId: key.readUInt32BE(1), partition: key.readUInt32BE(5) }
}

/** → how often a writer of that pipeline was opened, eight bytes. The latest is the one that may append. */
export function epochKey(pipeline: string): Buffer {
  return Buffer.from(`w${pipeline}`)
}

/** → the entry's bytes. */
export function progressKey(pipeline: string, entry: string): Buffer {
  return Buffer.concat([progressPrefix(pipeline), Buffer.from(entry)])
}

/** The length in front keeps one pipeline's entries apart from those of another whose name starts alike. */
export function progressPrefix(pipeline: string): Buffer {
  const name = Buffer.from(pipeline)
  const length = Buffer.alloc(2)
  length.writeUInt16BE(name.length)
  return Buffer.concat([PROGRESS_PREFIX, length, name])
}

export function readProgressKey(key: Buffer): { readonly pipeline: string; readonly entry: string } {
  const nameEnd = 3 + key.readUInt16BE(1)
  return { pipeline: key.toString('utf8', 3, nameEnd), entry: key.toString('utf8', nameEnd) }
}

export function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

function partitionKey(kind: string, id: PartitionId): Buffer {
  const key = Buffer.alloc(9, kind)
  key.writeUInt32BE(id.topicId, 1)
  key.writeUInt32BE(id.partition, 5)
  return key
}
