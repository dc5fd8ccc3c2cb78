/**
 * Remembered topics: how far each topic was written, kept in the pipeline's progress, so that a start can tell whether the cluster still
 * has all of it. An unclean election of a leader cuts a partition short without a word; a topic that somebody deleted comes back empty.
 */
import * as z from 'zod'
import { EvertError } from '../../base/errors.js'
import type { Progress } from '../log.js'
import type { Cluster } from './cluster.js'
import { ANY_RECORD, endOffsets } from './end-offsets.js'

const ENTRY = 'log/topic/'
/** Written with a commit, but no more often: what was written in the last second before a crash may be missing unnoticed. */
const PERIOD_MS = 1000

const stored = z.object({
  /** Null where the cluster gives its topics no ids. */
  id: z.string().nullable(),
  /** By partition, the offset after the last record that was written; null for one that was never written. */
  ends: z.array(z.number().nullable()),
})
type Written = z.infer<typeof stored>

/** Grows as batches are delivered. */
export class RememberedTopics {
  readonly #topics = new Map<string, Written>()
  readonly #changed = new Set<string>()
  /** The first commit takes along what there is: what was accepted after a loss is not to be lost with a process that stops at once. */
  #writtenMs = Number.NEGATIVE_INFINITY

  constructor(entries: Progress) {
    for (const [name, written] of readEntries(entries)) this.#topics.set(name, written)
  }

  delivered(topic: string, id: string | null, partition: number, end: bigint): void {
    const known = this.#topics.get(topic)
    // While a leader is looked for the id may not be known.
    const same = known !== undefined && (id === null || known.id === null || known.id === id)
    const ends = same ? known.ends : []
    while (ends.length <= partition) ends.push(null)
    ends[partition] = Number(end)
    this.#topics.set(topic, { id: id ?? (same ? known.id : null), ends })
    this.#changed.add(topic)
  }

  /** What the next commit takes along. */
  entries(nowMs: number): Progress {
    if (this.#changed.size === 0 || nowMs - this.#writtenMs < PERIOD_MS) return new Map()
    this.#writtenMs = nowMs
    const entries = [...this.#changed].map((name): [string, Buffer] => [
      `${ENTRY}${name}`,
      Buffer.from(JSON.stringify(this.#topics.get(name))),
    ])
    this.#changed.clear()
    return new Map(entries)
  }

  /** Takes what the cluster has now for all there is to know, after a loss that was told of. */
  async accept(cluster: Cluster): Promise<void> {
    const there = new Map((await cluster.listTopics()).map((topic) => [topic.name, topic]))
    const names = [...this.#topics.keys()]
    const left = names.filter((name) => there.has(name))
    const ends = await endOffsets(cluster, left, ANY_RECORD)
    for (const name of names) {
      const found = (ends.get(name) ?? []).map(Number)
      this.#topics.set(name, { id: there.get(name)?.id ?? null, ends: found })
      this.#changed.add(name)
    }
  }
}

/** What is kept for the log itself, and is nobody's else. */
export function isOfLog(entry: string): boolean {
  return entry.startsWith(ENTRY)
}

/** What cannot be read says nothing. */
function readEntries(entries: Progress): [string, Written][] {
  return [...entries]
    .filter(([entry]) => isOfLog(entry))
    .flatMap(([entry, value]): [string, Written][] => {
      const written = readEntry(value.toString())
      return written === null ? [] : [[entry.slice(ENTRY.length), written]]
    })
}

function readEntry(text: string): Written | null {
  try {
    return stored.parse(JSON.parse(text))
  } catch {
    return null
  }
}

/** Errors: TOPIC_LOST, TOPIC_REPLACED, TOPIC_TRUNCATED. */
export async function requireRemembered(
  cluster: Cluster,
  { entries, topics }: { readonly entries: Progress; readonly topics: readonly string[] },
): Promise<void> {
  const asked = new Set(topics)
  const remembered = readEntries(entries).filter(
    ([name, { ends }]) => asked.has(name) && ends.some((end) => end !== null && end > 0),
  )
  if (remembered.length === 0) return
  const there = new Map((await cluster.listTopics()).map((topic) => [topic.name, topic]))
  for (const [name, { id }] of remembered) {
    const topic = there.get(name)
    // A list leaves out what we may not see; asked by name, the cluster says so.
    if (
      topic === undefined &&
      (await cluster.retry({ object: `topic "${name}"`, topic: name }, () => cluster.refresh(name))) !== null
    )
      continue
    if (topic === undefined) throw lost('TOPIC_LOST', `topic "${name}" was written by this pipeline, and is gone`)
    if (id !== null && topic.id !== null && topic.id !== id)
      throw lost('TOPIC_REPLACED', `topic "${name}" was written by this pipeline, then deleted and created again`)
  }
  const names = remembered.map(([name]) => name)
  const ends = await endOffsets(cluster, names, ANY_RECORD)
  for (const [name, written] of remembered) {
    // The list that was asked last did not have it, which was there a moment ago.
    if (!ends.has(name)) continue
    for (const [partition, end] of written.ends.entries()) {
      const found = ends.get(name)?.[partition] ?? 0n
      if (end === null || found >= BigInt(end)) continue
      throw lost(
        'TOPIC_TRUNCATED',
        `topic "${name}" partition ${partition} was written up to offset ${end}, and ends at ${found}: the cluster has lost what was between`,
      )
    }
  }
}

function lost(code: 'TOPIC_LOST' | 'TOPIC_REPLACED' | 'TOPIC_TRUNCATED', message: string): EvertError {
  return new EvertError(code, {
    message,
    hint: 'evert run --on-loss resnapshot records the gap in the log and publishes the rows that differ; unclean.leader.election.enable=false keeps brokers from losing records',
  })
}
