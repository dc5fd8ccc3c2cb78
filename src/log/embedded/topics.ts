/** Topics of the embedded log, and where each of their partitions ends. All functions run inside a read or write of the environment. */
import { EvertError } from '../../base/errors.js'
import type { TopicRequest } from '../../event/sink.js'
import type { TopicDescription } from '../log.js'
import type { Environment } from './environment.js'
import { NEXT_TOPIC_ID_KEY, type PartitionId, TOPIC_PREFIX, batchKey, endKey, pendingKey, topicKey } from './keys.js'

export interface Topic extends TopicDescription {
  readonly id: number
}

export function findTopic(environment: Environment, name: string): Topic | null {
  const stored = environment.get(topicKey(name))
  return stored === undefined ? null : readTopic(name, stored)
}

/** Errors: TOPIC_MISSING. */
export function findPartition(environment: Environment, name: string, partition: number): PartitionId {
  const topic = findTopic(environment, name)
  if (topic === null) {
    throw new EvertError('TOPIC_MISSING', {
      message: `the log "${environment.directory}" has no topic "${name}"`,
      hint: 'compare --name and the name of the table; evert run creates a topic when it publishes the first change',
    })
  }
  if (partition >= topic.partitions) {
    throw new EvertError('TOPIC_MISSING', {
      message: `topic "${name}" of the log "${environment.directory}" has ${topic.partitions} partitions, and no partition ${partition}`,
    })
  }
  return { topicId: topic.id, partition }
}

export function listTopics(environment: Environment, prefix: string): readonly TopicDescription[] {
  const start = topicKey(prefix)
  return environment.range({ start, end: behind(start) }).map(({ key, value }) => {
    const { name, partitions } = readTopic(key.toString('utf8', TOPIC_PREFIX.length), value)
    return { name, partitions }
  })
}

/** The topic, made where it is missing. Needs a write transaction. */
export function createTopic(environment: Environment, request: TopicRequest, partitions: number): Topic {
  const known = findTopic(environment, request.name)
  if (known !== null) return known
  const id = environment.get(NEXT_TOPIC_ID_KEY)?.readUInt32BE(0) ?? 0
  environment.put(NEXT_TOPIC_ID_KEY, uint32(id + 1))
  environment.put(topicKey(request.name), Buffer.concat([uint32(id), uint32(partitions)]))
  return { name: request.name, partitions, id }
}

/** Removes a topic with everything in it; nothing where there is none. Needs a write transaction. */
export function deleteTopic(environment: Environment, name: string): void {
  const topic = findTopic(environment, name)
  if (topic === null) return
  for (let partition = 0; partition < topic.partitions; partition++) {
    const id = { topicId: topic.id, partition }
    removeBatches(environment, id, 0n)
    environment.remove(endKey(id))
    environment.remove(pendingKey(id))
  }
  environment.remove(topicKey(name))
}

/** The offset behind the last committed record. */
export function endOffset(environment: Environment, id: PartitionId): bigint {
  return environment.get(endKey(id))?.readBigUInt64BE(0) ?? 0n
}

/** Needs a write transaction. */
export function removeBatches(environment: Environment, id: PartitionId, from: bigint): void {
  for (const key of environment.keys({ start: batchKey(id, from), end: behind(batchKey(id, 0n).subarray(0, 9)) })) {
    environment.remove(key)
  }
}

/** Sorts behind every key with that prefix: no UTF-8 byte is 0xff, and numbers that begin with it are never reached. */
export function behind(prefix: Buffer): Buffer {
  return Buffer.concat([prefix, Buffer.from([0xff])])
}

function readTopic(name: string, stored: Buffer): Topic {
  return { name, id: stored.readUInt32BE(0), partitions: stored.readUInt32BE(4) }
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
