/** Backfill state: what was asked for, and how far it is; it commits in the log with the rows that it tells of. */
import * as z from 'zod'

const name = z.object({ schema: z.string(), table: z.string() })

const job = z.object({
  id: z.string(),
  /** Patterns, as in --tables, until its tables are known. */
  wanted: z.string().nullable(),
  /** Tables that are left; the first one is under way. */
  tables: z.array(name),
  /** Of that: the key of the last row that was published, by the columns of the key and their types, and how many were. */
  after: z
    .object({ columns: z.array(z.string()), types: z.array(z.string()).default([]), values: z.array(z.string()) })
    .nullable(),
  rows: z.number(),
  /** Of that, by the planner's statistics, when it was begun. */
  estimatedRows: z.number().nullable().default(null),
  /** How often all its rows were begun to be published in one log transaction. */
  attempts: z.number().default(0),
  /** Of the tables before. */
  doneRows: z.number(),
  doneTables: z.number(),
  /** Null for whole rows; else updates that say nothing but the key and these. */
  columns: z.array(z.string()).nullable(),
  maxRowsPerSecond: z.number().nullable(),
  paused: z.boolean(),
})

const stored = z.object({
  version: z.literal(1),
  jobs: z.array(job),
  /** OIDs of the tables that are streamed, each with its rows published or in a job; null where nobody has looked yet. */
  known: z.array(z.number()).nullable(),
  /** Every table of the database was streamed from its first row on, when it was looked the last time. */
  all: z.boolean(),
  /** The position of the last row: the LSN as a decimal number. */
  at: z.object({ lsn: z.string(), ordinal: z.number() }).nullable(),
})

export type BackfillJob = z.infer<typeof job>
export type BackfillState = z.infer<typeof stored>

export function noJobs(): BackfillState {
  return { version: 1, jobs: [], known: null, all: false, at: null }
}

/** Error: a ZodError or SyntaxError where something else wrote it. */
export function parseBackfillState(entry: Buffer | undefined): BackfillState {
  return entry === undefined ? noJobs() : stored.parse(JSON.parse(entry.toString()))
}

export function newJob(
  of: Pick<BackfillJob, 'id'> & Partial<Pick<BackfillJob, 'wanted' | 'tables' | 'columns' | 'maxRowsPerSecond'>>,
): BackfillJob {
  const nothing = { after: null, rows: 0, estimatedRows: null, attempts: 0, doneRows: 0, doneTables: 0, paused: false }
  return { wanted: null, tables: [], columns: null, maxRowsPerSecond: null, ...nothing, ...of }
}

/** Slower than that, a timer would have to wait for longer than it can. */
const LEAST_ROWS_PER_SECOND = 0.001

/** They are kept in the log; and `*a*a*a…` would be matched for ever. */
const patterns = z
  .string()
  .max(2000)
  .refine((text) => text.split(',').every((pattern) => pattern.split('*').length <= 5), 'too many *')
const common = { pipeline: z.string(), id: z.string().min(1).max(200) }
const request = z.discriminatedUnion('do', [
  z.object({
    do: z.literal('snapshot'),
    ...common,
    tables: patterns.default('*'),
    columns: z.array(z.string().max(63)).min(1).max(100).nullable().default(null),
    maxRowsPerSecond: z.number().min(LEAST_ROWS_PER_SECOND).nullable().default(null),
  }),
  z.object({ do: z.enum(['pause', 'resume', 'cancel']), ...common }),
])

/** What `evert snapshot` writes into the WAL, with the prefix `evert`. */
export type BackfillRequest = z.infer<typeof request>

/** Null where it is not one that can be understood. */
export function parseRequest(content: Buffer): BackfillRequest | null {
  try {
    return request.parse(JSON.parse(content.toString()))
  } catch {
    return null
  }
}

/** What a pipeline would not understand in it, or null. */
export function objectionTo(asked: BackfillRequest): string | null {
  const { error } = request.safeParse(asked)
  return error === undefined
    ? null
    : error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
}

/** What becomes of a backfill, for machines. */
export type BackfillNews =
  | { readonly kind: 'backfill-started'; readonly id: string; readonly tables: number }
  | {
      readonly kind: 'backfill-table'
      readonly id: string
      readonly schema: string
      readonly table: string
      readonly rows: number
      /** Where they are the table as it was at one place of the stream: every change after it follows. */
      readonly lsn?: string
    }
  | {
      readonly kind: 'backfill-refused'
      readonly id: string
      readonly schema?: string
      readonly table?: string
      readonly reason: string
    }
  | { readonly kind: 'backfill-paused' | 'backfill-resumed' | 'backfill-cancelled'; readonly id: string }
  | { readonly kind: 'backfill-complete'; readonly id: string; readonly tables: number; readonly rows: number }
