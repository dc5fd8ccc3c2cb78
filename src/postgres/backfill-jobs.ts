/** Backfill jobs: what is asked for through the WAL, or joins the pipeline, one after the other. */
import type { Logger } from '../base/logger.js'
import { type BackfillJob, type BackfillNews, type BackfillState, newJob, parseRequest } from './backfill-state.js'
import type { PublishedName } from './backfill-subject.js'
import { tablePatterns } from './table-patterns.js'

/** They are kept in one record of the log. */
const MOST_JOBS = 100
const MOST_TABLES = 5000

export interface BackfillJobsOptions {
  readonly pipeline: string
  /** Why what is asked for through the WAL is refused; null where it is not. */
  readonly refusal: string | null
  readonly state: BackfillState
  readonly tell: (news: BackfillNews) => void
  /** The state is another one, and is to be remembered. */
  readonly onChange: () => void
  readonly logger: Logger
}

export class BackfillJobs {
  readonly #options: BackfillJobsOptions
  readonly #state: BackfillState

  constructor(options: BackfillJobsOptions) {
    this.#options = options
    this.#state = options.state
  }

  /** The one that is to be worked on, if there is one. */
  get current(): BackfillJob | undefined {
    return this.#state.jobs.find(({ paused }) => !paused)
  }

  request(content: Buffer): void {
    const request = parseRequest(content)
    if (request === null) return this.#options.logger.warn({}, 'a request in the WAL is none that is known')
    if (request.pipeline !== this.#options.pipeline) return
    const { id } = request
    const { refusal } = this.#options
    if (refusal !== null) {
      this.#options.tell({ kind: 'backfill-refused', id, reason: refusal })
    } else if (request.do === 'snapshot' && this.#state.jobs.length >= MOST_JOBS) {
      this.#options.tell({ kind: 'backfill-refused', id, reason: `${MOST_JOBS} backfills are waiting already` })
    } else if (request.do === 'snapshot') {
      this.#state.jobs.push(
        newJob({ id, wanted: request.tables, columns: request.columns, maxRowsPerSecond: request.maxRowsPerSecond }),
      )
    } else this.#direct(request.do, id)
    this.#options.onChange()
  }

  /**
   * The published tables as they are now. Of those that were not there the last time the log does not have all rows: they are
   * published, if that is wanted.
   */
  meet(tables: readonly PublishedName[], { all, wanted }: { readonly all: boolean; readonly wanted: boolean }): void {
    const { known } = this.#state
    const oids = tables.map(({ oid }) => oid)
    const streamed = (all && this.#state.all) || known === null || !wanted
    const joined = streamed ? [] : tables.filter(({ oid }) => !known.includes(oid))
    const same = known !== null && known.length === oids.length && oids.every((oid) => known.includes(oid))
    if (same && this.#state.all === all) return
    this.#state.all = all
    this.#state.known = oids
    const names = joined.map(({ schema, table }) => ({ schema, table }))
    const groups = names.length > MOST_JOBS ? [names] : names.map((name) => [name])
    for (const group of groups) {
      const [first] = group
      const id = `joined ${first?.schema}.${first?.table}${group.length > 1 ? `, and ${group.length - 1} more` : ''}`
      this.#state.jobs.push(newJob({ id, tables: group }))
      this.#options.tell({ kind: 'backfill-started', id, tables: group.length })
    }
    this.#options.onChange()
  }

  #direct(what: 'pause' | 'resume' | 'cancel', id: string): void {
    const job = this.#state.jobs.find((one) => one.id === id)
    if (job === undefined)
      return this.#options.tell({ kind: 'backfill-refused', id, reason: 'there is no backfill of that id' })
    if (what === 'cancel') this.#remove(job)
    else job.paused = what === 'pause'
    const kinds = { pause: 'backfill-paused', resume: 'backfill-resumed', cancel: 'backfill-cancelled' } as const
    this.#options.tell({ kind: kinds[what], id })
  }

  #remove(job: BackfillJob): void {
    this.#state.jobs.splice(this.#state.jobs.indexOf(job), 1)
  }

  isCurrent(job: BackfillJob): boolean {
    return this.#state.jobs.includes(job) && !job.paused
  }

  /** The table under way cannot be published. */
  giveUp(job: BackfillJob, reason: string): void {
    // It may have been cancelled meanwhile.
    if (!this.#state.jobs.includes(job)) return
    this.#options.tell({ kind: 'backfill-refused', id: job.id, ...job.tables[0], reason })
    this.#nextTable(job)
  }

  /** The table under way is published. */
  done(job: BackfillJob, { schema, table }: Pick<PublishedName, 'schema' | 'table'>, lsn?: string): void {
    const at = lsn === undefined ? {} : { lsn }
    this.#options.tell({ kind: 'backfill-table', id: job.id, schema, table, rows: job.rows, ...at })
    job.doneTables++
    this.#nextTable(job)
  }

  #nextTable(job: BackfillJob): void {
    // It may have been cancelled meanwhile.
    if (!this.#state.jobs.includes(job)) return
    job.tables.shift()
    job.after = null
    job.doneRows += job.rows
    job.rows = 0
    job.estimatedRows = null
    job.attempts = 0
    if (job.tables.length === 0) {
      this.#options.tell({ kind: 'backfill-complete', id: job.id, tables: job.doneTables, rows: job.doneRows })
      this.#remove(job)
    }
    this.#options.onChange()
  }

  /** What it wanted are these tables. */
  resolve(job: BackfillJob, tables: readonly PublishedName[]): void {
    // It may have been cancelled meanwhile.
    if (!this.#state.jobs.includes(job)) return
    const wanted = tablePatterns(job.wanted ?? '*')
    const names = tables.filter(({ schema, table }) => wanted.matches(schema, table))
    job.tables = names.map(({ schema, table }) => ({ schema, table }))
    job.wanted = null
    const { length } = names
    if (length > 0 && length <= MOST_TABLES) {
      this.#options.tell({ kind: 'backfill-started', id: job.id, tables: length })
    } else {
      const reason =
        length === 0
          ? 'none of the published tables matches'
          : `it means ${length} tables: ask for ${MOST_TABLES} at a time`
      this.#options.tell({ kind: 'backfill-refused', id: job.id, reason })
      this.#remove(job)
    }
    this.#options.onChange()
  }
}
