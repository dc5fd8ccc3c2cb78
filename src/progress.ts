/** Progress: what a pipeline must remember to go on, as small entries that commit in the log together with the events. */
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { EvertError } from './base/errors.js'
import { type EndLsn, formatLsn, type Lsn, parseLsn } from './event/lsn.js'
import type { Relation, RelationDescription } from './event/relation.js'
import type { Progress } from './log/log.js'
import { type BackfillState, parseBackfillState } from './postgres/backfill-state.js'

/** The entry that every commit writes. */
const ENTRY = 'progress'
/** The entry that remembers backfills: see postgres/backfill-state.ts. */
export const BACKFILL_ENTRY = 'backfill'
/** Entries that remember what was asked of the catalog about a relation version. */
const RELATION_ENTRY = 'relation/'

const lsn = z.string().transform((text, context) => {
  const parsed = parseLsn(text)
  if (parsed !== null) return parsed
  context.addIssue({ code: 'custom', message: 'not an LSN' })
  return z.NEVER
})

const stored = z.object({
  version: z.literal(1),
  systemIdentifier: z.string(),
  timeline: z.number(),
  database: z.string(),
  slot: z.string(),
  /** Everything that committed before it is in the log. */
  endLsn: lsn,
  /**
   * A snapshot is `running` from its first row to its last; what it published is published again if it was interrupted. One that is
   * published `again` after a loss holds what differs from the log, and tells of the rows that are gone.
   */
  snapshot: z.enum(['none', 'running', 'again', 'complete']),
  writtenAt: z.string().nullable().default(null),
})

/** What to type where changes are gone. */
export const AFTER_LOSS =
  'evert run --on-loss resnapshot records the gap in the log and publishes the rows that differ, with deletes for those that are gone'

/** Where a pipeline is, and in which server that means something. */
export interface ProgressState {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly database: string
  readonly slot: string
  readonly endLsn: EndLsn
  readonly snapshot: 'none' | 'running' | 'again' | 'complete'
  /** When this was written, for people; null where an earlier version did not say. */
  readonly writtenAt: string | null
}

/** Null where the pipeline has never written. Error: PROGRESS_INVALID. */
export function readProgress(name: string, progress: Progress): ProgressState | null {
  const entry = progress.get(ENTRY)
  if (entry === undefined) {
    if (progress.size === 0) return null
    throw invalid(name, 'it has entries, but not the one that says where it is')
  }
  let value: unknown
  try {
    value = JSON.parse(entry.toString())
  } catch {
    throw invalid(name, 'it is not JSON')
  }
  const parsed = stored.safeParse(value)
  if (!parsed.success)
    throw invalid(name, parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join(', '))
  return parsed.data
}

/** What is left of backfills. Error: PROGRESS_INVALID. */
export function readBackfills(name: string, progress: Progress): BackfillState {
  try {
    return parseBackfillState(progress.get(BACKFILL_ENTRY))
  } catch (error) {
    throw invalid(name, `what it says of backfills: ${(error as Error).message}`)
  }
}

function invalid(name: string, why: string): EvertError {
  return new EvertError('PROGRESS_INVALID', {
    message: `the progress of pipeline "${name}" in the log cannot be read: ${why}`,
    hint: `it was written by another version of evert or by another program; ${AFTER_LOSS}`,
  })
}

/** Progress in the making: the state, and entries that the next commit takes along. */
export class ProgressKeeper {
  #state: ProgressState
  readonly #now: () => Date
  readonly #relations = new Map<string, RelationDescription>()
  /** Entries whose records are still in the sink. */
  readonly #added = new Map<string, Buffer>()
  /** Entries whose records have been cut out of it. */
  readonly #cut = new Map<string, Buffer>()

  constructor(state: ProgressState, remembered: Progress, now: () => Date) {
    this.#state = state
    this.#now = now
    for (const [entry, value] of remembered) {
      if (entry.startsWith(RELATION_ENTRY))
        this.#relations.set(entry, JSON.parse(value.toString()) as RelationDescription)
    }
  }

  get state(): ProgressState {
    return this.#state
  }

  /** Called together with the sink's cut: what was added until now commits with the records that were added until now. */
  cut(): void {
    for (const [entry, value] of this.#added) this.#cut.set(entry, value)
    this.#added.clear()
  }

  /** The entries of a commit that brings the log to endLsn. */
  at(endLsn: Lsn, snapshot = this.#state.snapshot): Progress {
    this.#state = { ...this.#state, endLsn, snapshot, writtenAt: this.#now().toISOString() }
    const value = { version: 1, ...this.#state, endLsn: formatLsn(endLsn) }
    const entries = new Map([[ENTRY, Buffer.from(JSON.stringify(value))], ...this.#cut])
    this.#cut.clear()
    return entries
  }

  /** Whatever else is to be known after a restart: it commits with the records that were added until now. */
  note(entry: string, value: Buffer): void {
    this.#added.set(entry, value)
  }

  /** Null where the version was never seen. */
  recall(relation: Relation): RelationDescription | null {
    return this.#relations.get(relationEntry(relation)) ?? null
  }

  /** The primary keys that versions of a table were known to have, the latest first. */
  earlierKeys(relation: Relation): readonly (readonly string[])[] {
    const versions = [...this.#relations].filter(([entry]) => entry.startsWith(`${RELATION_ENTRY}${relation.oid}/`))
    return versions.map(([, { primaryKey }]) => primaryKey ?? []).toReversed()
  }

  /** So that a restart, which would ask a catalog that has moved on, cannot change it. */
  remember(relation: Relation, description: RelationDescription): void {
    const entry = relationEntry(relation)
    this.#relations.set(entry, description)
    this.note(entry, Buffer.from(JSON.stringify(description)))
  }
}

/** One entry a relation version: its OID and a digest of what the stream says of it, which the catalog says alike. */
function relationEntry(relation: Relation): string {
  const { oid, schema, table, replicaIdentity, columns } = relation
  const full = replicaIdentity === 'full' // where the stream flags every column
  const shape = [schema, table, replicaIdentity]
  const columnShapes = columns.map(({ name, typeOid, typeModifier, key }) => [name, typeOid, typeModifier, full || key])
  const digest = createHash('sha256')
    .update(JSON.stringify([shape, columnShapes]))
    .digest('hex')
  return `${RELATION_ENTRY}${oid}/${digest.slice(0, 16)}`
}
