/** evert tail: committed events as a person, or with --json a program, reads them. */
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError } from '../base/errors.js'
import { nearest } from '../base/nearest.js'
import type { Config } from '../config.js'
import { messageTopic, tableTopic } from '../event/topic-name.js'
import type { Log, LogRecord, TopicDescription } from '../log/log.js'
import type { RunCommand } from './command.js'
import { Interleaved, mergedByPosition } from './merge-records.js'
import { requireLog } from './open-log.js'
import { onlyPipeline, tableNamed } from './pipeline-of-log.js'
import { jsonLine, operationOf, readableLine } from './tail-format.js'

/** How often a follower looks for new topics: those of tables that were added meanwhile. */
const TOPICS_EVERY_MS = 1000

export const tail: RunCommand = async ({ config, logger, signal }) => {
  const log = await requireLog(config, { logger, create: false })()
  try {
    const name = config.name ?? (await onlyPipeline(log))
    const partitions = await partitionsOf(log, name, config)
    const print = printer(config)
    const from = config.from ?? (config['exit-at-end'] === true ? 'beginning' : 'now')
    const spans = await Promise.all(partitions.map((partition) => spanOf(log, partition, from, signal)))
    if (from !== 'now') {
      for await (const record of mergedByPosition(spans.map((span) => read(log, span, signal)))) await print(record)
    }
    if (config['exit-at-end'] !== true) await follow(log, { name, config, spans, print, signal })
  } finally {
    await log.close()
  }
}

interface Partition {
  readonly topic: string
  readonly partition: number
}

interface Span extends Partition {
  readonly from: bigint
  readonly until: bigint
}

function topicOf(name: string, text: string): string {
  const { schema, table } = tableNamed(text)
  return tableTopic(name, schema, table)
}

/** Error: TOPIC_MISSING where --table names none. */
async function partitionsOf(log: Log, name: string, config: Config): Promise<Partition[]> {
  // Other topics with two parts tell of shapes and snapshots, or belong to one consumer.
  const isOfChanges = (topic: string): boolean => topic.split('.').length === 3 || topic === messageTopic(name)
  const topics = (await log.topics(`${name}.`)).filter((topic) => isOfChanges(topic.name))
  const wanted = config.table === undefined ? null : topicOf(name, config.table)
  const chosen = wanted === null ? topics : topics.filter((topic) => topic.name === wanted)
  if (wanted !== null && chosen.length === 0) {
    const near = nearest(
      wanted,
      topics.map((topic) => topic.name),
    )
    throw new EvertError('TOPIC_MISSING', {
      message: `table "${config.table}" has no topic "${wanted}"`,
      hint:
        near === null
          ? `pipeline "${name}" has ${topics.length} topics`
          : `did you mean ${near.slice(name.length + 1)}?`,
    })
  }
  return chosen.flatMap(partitionsIn)
}

function partitionsIn({ name, partitions }: TopicDescription): Partition[] {
  return Array.from({ length: partitions }, (_, partition) => ({ topic: name, partition }))
}

async function spanOf(log: Log, at: Partition, from: string, signal: AbortSignal): Promise<Span> {
  const { earliest, end } = await log.offsets(at.topic, at.partition)
  if (from === 'beginning') return { ...at, from: earliest, until: end }
  if (from === 'now') return { ...at, from: end, until: end }
  return { ...at, from: await log.offsetAt({ ...at, position: from, signal }), until: end }
}

function read(log: Log, { topic, partition, from, until }: Span, signal: AbortSignal): AsyncIterable<LogRecord> {
  return log.read({ topic, partition, from, until, signal })
}

interface Following {
  readonly name: string
  readonly config: Config
  /** What was shown already. */
  readonly spans: readonly Span[]
  readonly print: (record: LogRecord) => Promise<void>
  readonly signal: AbortSignal
}

async function follow(log: Log, { name, config, spans, print, signal }: Following): Promise<void> {
  const records = new Interleaved<LogRecord>()
  const followed = new Set<string>()
  const add = ({ topic, partition }: Partition, from: bigint): void => {
    const key = `${topic}/${partition}`
    if (followed.has(key)) return
    followed.add(key)
    records.add(log.read({ topic, partition, from, signal }))
  }
  for (const span of spans) add(span, span.until)
  const looking = lookForTopics(async () => {
    for (const partition of await partitionsOf(log, name, config)) add(partition, 0n)
  }, signal).then(
    () => records.end(),
    (error: unknown) => records.fail(error),
  )
  for await (const record of records) await print(record)
  await looking
}

async function lookForTopics(look: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await delay(TOPICS_EVERY_MS, undefined, { signal }).catch(() => undefined)
    if (!signal.aborted) await look()
  }
}

/** Filters, formats, and waits while whoever reads stdout does. */
function printer(config: Config): (record: LogRecord) => Promise<void> {
  const key = config.key === undefined ? null : withoutSpace(config.key)
  const operations = config.operation === undefined ? null : new Set(config.operation.split(','))
  const format = config.json === true ? jsonLine : readableLine
  return async (record) => {
    if (key !== null && record.key?.toString() !== key) return
    if (operations !== null && !operations.has(operationOf(record))) return
    const line = format(record)
    if (line !== null && !process.stdout.write(line)) await once(process.stdout, 'drain')
  }
}

/** JSON as evert writes it: without space outside strings. */
function withoutSpace(json: string): string {
  return json.replace(/("(?:[^"\\]|\\.)*")|\s+/g, '$1')
}
