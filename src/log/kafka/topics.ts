/** Topics: what evert creates, with the retention that its options ask for, and what it deletes. */
import { ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from '@platformatic/kafka'
import { EvertError } from '../../base/errors.js'
import type { TopicRequest } from '../../event/sink.js'
import type { Cluster } from './cluster.js'
import { answered, CODE, codeError, codesOf, isPassingCode } from './errors.js'
import type { KafkaOptions } from './options.js'
import {
  createTopics as createTopicsRequest,
  deleteTopics as deleteTopicsRequest,
  describeConfigs,
  incrementalAlterConfigs,
} from './requests.js'

const ADMIN_TIMEOUT_MS = 20_000
/** Many topics are created and looked at in requests of this many. */
const TOPICS_PER_REQUEST = 200
/** A controller with KRaft takes no more than 10,000 at once, and as many records: each topic, partition and setting is one. */
const PARTITIONS_PER_REQUEST = 5000
const FIRST_LOOK_MS = 2
/** For topics that were made, before they are asked for again. */
const LOOKS = 8
const FOREVER = [
  { name: 'cleanup.policy', value: 'delete' },
  { name: 'retention.ms', value: '-1' },
] as const

interface TopicSettings {
  readonly name: string
  readonly partitions: number
  readonly configs: readonly { readonly name: string; readonly value: string }[]
}

export function progressTopic(pipeline: string): string {
  return `${pipeline}.progress`
}

/**
 * Creates the topics that are missing, with that of a pipeline's progress where one is named: many in one request, each of which a controller
 * takes its time over. A compacted topic refuses records without a key, so such a topic is kept for ever instead.
 */
export async function createTopics(
  cluster: Cluster,
  requests: readonly TopicRequest[],
  pipeline?: string,
): Promise<void> {
  const { partitions, retention } = cluster.options.topics
  const existing = new Set((await cluster.listTopics()).map(({ name }) => name))
  const asked = requests.map(({ name, keyed, lasting = false }) => {
    return { name, partitions, configs: retentionConfigs(lasting ? 'compact' : retention, keyed) }
  })
  if (pipeline !== undefined) asked.push(progressSettings(pipeline))
  const unkeyed = requests.filter(({ name, keyed }) => !keyed && existing.has(name)).map(({ name }) => name)
  await create(
    cluster,
    asked.filter(({ name }) => !existing.has(name)),
  )
  await stopCompaction(cluster, unkeyed)
}

function retentionConfigs(retention: KafkaOptions['topics']['retention'], keyed: boolean): TopicSettings['configs'] {
  if (retention === 'compact') return keyed ? [{ name: 'cleanup.policy', value: 'compact' }] : FOREVER
  if (retention === 'forever') return FOREVER
  return [
    { name: 'cleanup.policy', value: 'delete' },
    { name: 'retention.ms', value: String(retention.ms) },
  ]
}

/** One partition, compacted, in small segments: what a start has to read back stays small. */
function progressSettings(pipeline: string): TopicSettings {
  const configs = [
    { name: 'cleanup.policy', value: 'compact' },
    { name: 'segment.bytes', value: String(16 * 1024 * 1024) },
    { name: 'min.cleanable.dirty.ratio', value: '0.1' },
    // Kafka refuses records from an hour ahead of its own clock; ours may be.
    { name: 'message.timestamp.type', value: 'LogAppendTime' },
  ]
  return { name: progressTopic(pipeline), partitions: 1, configs }
}

/**
 * A topic can be written to when every partition has a leader that the cluster knows of, which takes some milliseconds. What was refused
 * as one that exists is asked for again with each look: with ZooKeeper, a topic whose deletion is under way is no longer shown. So is, once in
 * a while, what was made: somebody may have deleted it.
 */
async function create(cluster: Cluster, topics: readonly TopicSettings[]): Promise<void> {
  for (const some of inRequests(topics)) {
    const names = some.map(({ name }) => name)
    const object = some.length === 1 ? `topic "${names[0]}"` : `${some.length} topics`
    let looks = 0
    const work = async (): Promise<void> => {
      if (looks === 0) looks = (await request(cluster, some)) ? LOOKS : 1
      looks--
      await cluster.requireLed(names)
    }
    await cluster.retry({ object }, work, { firstMs: FIRST_LOOK_MS })
  }
}

function inRequests(topics: readonly TopicSettings[]): TopicSettings[][] {
  const requests: TopicSettings[][] = []
  let partitions = Infinity
  for (const topic of topics) {
    partitions += topic.partitions
    if (partitions > PARTITIONS_PER_REQUEST || requests.at(-1)?.length === TOPICS_PER_REQUEST) {
      requests.push([])
      partitions = topic.partitions
    }
    requests.at(-1)!.push(topic)
  }
  return requests
}

/** False where some of them were there already. What else is refused is told by the name of the first. */
async function request(cluster: Cluster, topics: readonly TopicSettings[]): Promise<boolean> {
  try {
    await cluster.callController(
      createTopicsRequest,
      topics.map((topic) => creation(cluster, topic)),
      ADMIN_TIMEOUT_MS,
      false,
    )
    return true
  } catch (error) {
    if (codesOf(error).length === 0) throw error
    const refusals = refusalsOf(error).filter(({ code }) => code !== CODE.topicAlreadyExists && code !== CODE.none)
    if (refusals.length === 0) return false
    const { code, index, cause } = refusals.find((refusal) => !isPassingCode(refusal.code)) ?? refusals[0]!
    const topic = topics[index]?.name
    if (isPassingCode(code) || topic === undefined) throw answered(code)
    throw codeError(code, { object: `topic "${topic}"`, topic }, cause)
  }
}

/** Codes in the answer to a creation, and the places of their topics in the request (NaN where that is not said). */
function refusalsOf(error: unknown): { readonly code: number; readonly index: number; readonly cause: unknown }[] {
  const inner = typeof error === 'object' && error !== null && 'errors' in error ? error.errors : null
  const errors: unknown[] = Array.isArray(inner) && inner.length > 0 ? inner : [error]
  return errors.flatMap((each) => {
    const path = typeof each === 'object' && each !== null && 'path' in each ? String(each.path) : ''
    const index = Number(/^\/topics\/(\d+)/.exec(path)?.[1])
    return codesOf(each).map((code) => ({ code, index, cause: each }))
  })
}

function creation(
  cluster: Cluster,
  { name, partitions, configs }: TopicSettings,
): {
  name: string
  numPartitions: number
  replicationFactor: number
  assignments: []
  configs: { name: string; value: string }[]
} {
  const { replicationFactor } = cluster.options.topics
  return { name, numPartitions: partitions, replicationFactor, assignments: [], configs: [...configs] }
}

/** The largest batch, and so the largest record, that a topic takes. Error: LOG_PROTOCOL where the broker does not say. */
export async function maxMessageBytes(cluster: Cluster, topic: string): Promise<number> {
  const told = await topicConfig(cluster, topic, 'max.message.bytes')
  if (Number(told) > 0) return Number(told)
  throw new EvertError('LOG_PROTOCOL', {
    message: `topic "${topic}": the broker does not tell its max.message.bytes (it says "${told}")`,
    hint: '--large-values stop, which does not ask for it',
  })
}

async function topicConfig(cluster: Cluster, topic: string, name: string): Promise<string> {
  const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic, configurationKeys: [name] }
  const described = await cluster.retry({ object: `topic "${topic}"`, topic }, () =>
    cluster.callAny(describeConfigs, [resource], false, false),
  )
  return described.results[0]?.configs[0]?.value ?? ''
}

async function stopCompaction(cluster: Cluster, topics: readonly string[]): Promise<void> {
  for (const topic of topics) {
    const asked = { object: `topic "${topic}"`, topic }
    if (!(await topicConfig(cluster, topic, 'cleanup.policy')).includes('compact')) continue
    const resource = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic }
    const configs = FOREVER.map((config) => ({ ...config, configOperation: IncrementalAlterConfigOperationTypes.SET }))
    await cluster.retry(asked, () => cluster.callAny(incrementalAlterConfigs, [{ ...resource, configs }], false))
    cluster.options.logger.warn(
      { topic },
      'records without a key are to come: the topic is no longer compacted, but kept for ever',
    )
  }
}

/** Deletes what is there of them, and waits until the cluster no longer shows them. */
export async function deleteTopics(cluster: Cluster, names: readonly string[]): Promise<void> {
  for (let from = 0; from < names.length; from += TOPICS_PER_REQUEST) {
    const some = names.slice(from, from + TOPICS_PER_REQUEST).map((name) => ({ name }))
    await cluster.retry({ object: `${some.length} topics` }, async () => {
      try {
        await cluster.callController(deleteTopicsRequest, some, ADMIN_TIMEOUT_MS)
      } catch (error) {
        const refused = codesOf(error).filter((code) => code !== CODE.unknownTopicOrPartition && code !== CODE.none)
        if (refused.length > 0 || codesOf(error).length === 0) throw error
      }
    })
  }
  for (const name of names) {
    cluster.forget(name)
    await cluster.retry({ object: `topic "${name}"` }, async () => {
      if ((await cluster.refresh(name)) !== null) throw answered(CODE.coordinatorLoading)
    })
  }
}

/** The pipeline whose progress topic it is, or null. A pipeline's name has no dot; the topic of a table "progress" has two. */
export function pipelineOf(topic: string): string | null {
  return /^([^.]+)\.progress$/.exec(topic)?.[1] ?? null
}

/** Names of the pipelines that have a progress topic. */
export async function listPipelines(cluster: Cluster): Promise<string[]> {
  const names = (await cluster.listTopics()).map(({ name }) => pipelineOf(name))
  return names.filter((name) => name !== null).toSorted()
}
