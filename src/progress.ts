/** Progress: what a pipeline must remember to go on, as small entries that commit in the log together with the events. */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { EvertError } from './base/errors.js'
import { type EndLsn, formatLsn, type Lsn, parseLsn } from './event/lsn.js'
import type { Relation } from './event/relation.js'
import type { Progress } from './log/log.js'

/** The entry that every commit writes. */
const ENTRY = 'progress'
/** Entries that remember the key of a relation version under REPLICA IDENTITY FULL. */
const KEY_ENTRY = 'key/'

const lsn = z.string().transform((text, context) => {
  const parsed = parseLsn(text)
  if (parsed !== null) return parsed
  context.addIssue({ code: 'custom', message: 'not an LSN' })
  return z.NEVER
})

const schema = z.object({
  version: z.literal(1),
  systemIdentifier: z.string(),
  timeline: z.number(),
  database: z.string(),
  slot: z.string(),
  /** Everything that committed before it is in the log. */
  endLsn: lsn,
  /** A snapshot is `running` from its first row to its last; what it published is published again if it was interrupted. */
  snapshot: z.enum(['none', 'running', 'complete']),
})

/** Where a pipeline is, and in which server that means something. */
export interface ProgressState {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly database: string
  readonly slot: string
  readonly endLsn: EndLsn
  readonly snapshot: 'none' | 'running' | 'complete'
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
  const parsed = schema.safeParse(value)
  if (!parsed.success)
    throw invalid(name, parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join(', '))
  return parsed.data
}

function invalid(name: string, why: string): EvertError {
  return new EvertError('PROGRESS_INVALID', {
    message: `the progress of pipeline "${name}" in the log cannot be read: ${why}`,
    hint: `it was written by another version of evert or by another program; evert drop --name ${name} starts over, with a new snapshot`,
  })
}

/** Progress in the making: the state, and entries that the next commit takes along. */
export class ProgressKeeper {
  #state: ProgressState
  readonly #keys = new Map<string, readonly string[]>()
  readonly #added = new Map<string, Buffer>()

  constructor(state: ProgressState, remembered: Progress) {
    this.#state = state
    for (const [entry, value] of remembered) {
      if (entry.startsWith(KEY_ENTRY)) this.#keys.set(entry, JSON.parse(value.toString()) as string[])
    }
  }

  get state(): ProgressState {
    return this.#state
  }

  /** The entries of a commit that brings the log to endLsn. */
  at(endLsn: Lsn, snapshot = this.#state.snapshot): Progress {
    this.#state = { ...this.#state, endLsn, snapshot }
    const value = { version: 1, ...this.#state, endLsn: formatLsn(endLsn) }
    const entries = new Map([[ENTRY, Buffer.from(JSON.stringify(value))], ...this.#added])
    this.#added.clear()
    return entries
  }

  /**
   * The key of a relation version whose stream does not say it: asked once, and remembered in the log, so that a restart, which
   * asks a catalog that has moved on, cannot change it.
   */
  async keyOf(relation: Relation, ask: () => Promise<readonly string[]>): Promise<readonly string[]> {
    const entry = keyEntry(relation)
    const known = this.#keys.get(entry)
    if (known !== undefined) return known
    const columns = await ask()
    this.#keys.set(entry, columns)
    this.#added.set(entry, Buffer.from(JSON.stringify(columns)))
    return columns
  }
}

/** One entry a relation version: its OID and a digest of its name and columns. */
function keyEntry(relation: Relation): string {
  const shape = [relation.schema, relation.table, ...relation.columns.map((column) => [column.name, column.typeOid])]
  return `${KEY_ENTRY}${relation.oid}/${createHash('sha256').update(JSON.stringify(shape)).digest('hex').slice(0, 16)}`
}
