/**
 * Backfill: publishes the rows of tables into the stream while that goes on, one table after the other: in chunks in the order of the key
 * (backfill-chunks.ts), or, without one, all of them at one place (backfill-whole.ts).
 */
import type { Clock } from '../base/clock.js'
import { EvertError, isRetriable } from '../base/errors.js'
import type { Logger } from '../base/logger.js'
import type { EndLsn, Lsn } from '../event/lsn.js'
import type { Relation } from '../event/relation.js'
import { ChunkedTable } from './backfill-chunks.js'
import { BackfillJobs } from './backfill-jobs.js'
import type { BackfillJob, BackfillNews, BackfillState } from './backfill-state.js'
import { askCatalog, publishedNames, type Subject, subjectOf } from './backfill-subject.js'
import { type BackfillTable, TRIES } from './backfill-table.js'
import { WholeTable } from './backfill-whole.js'
import type { Bystander, Parts } from './changes.js'
import { ChunkReader } from './chunk-reader.js'
import type { Connection } from './connection.js'
import type { ConnectionOptions } from './connection-options.js'
import type { BatchLimits } from './batch.js'
import type { TablePatterns } from './table-patterns.js'
import type { TablesOptions } from './tables.js'
import { sql } from './sql.js'
import { TouchedKeys } from './touched-keys.js'
import { Unseen } from './visibility.js'
import { askVisibility } from './xids.js'

export interface BackfillOptions extends Omit<TablesOptions, 'into'> {
  readonly connection: ConnectionOptions
  /** An ordinary one, for questions to the catalog. */
  readonly now: Connection
  readonly publication: string
  readonly patterns: TablePatterns
  /** Of a table without a key, at most. */
  readonly readers: number
  readonly limits: Pick<BatchLimits, 'bytes'>
  /** False refuses what is asked for through the WAL. */
  readonly requests: boolean
  /** As an earlier process has left it in the log. */
  readonly state: BackfillState
  /** Has it committed with the records of the next batch. */
  readonly remember: (state: Buffer) => void
  /** Appends a notification to the sink. */
  readonly tell: (news: BackfillNews) => void
  /** Told of what is left, whenever that changes. */
  readonly onBackfills: (jobs: readonly BackfillJob[]) => void
  /** Has the server say how far its WAL is. */
  readonly ask: () => void
  readonly clock: Clock
  readonly logger: Logger
}

const RETRY_MS = 1000

export class Backfill implements Bystander {
  readonly #options: BackfillOptions
  /** What the stream is to append to. */
  readonly sink: TouchedKeys
  readonly #state: BackfillState
  readonly #jobs: BackfillJobs
  readonly #unseen: Unseen
  /** What is to be told or done at the next boundary between transactions. */
  readonly #pending: (() => void)[] = []
  /** Under way. */
  #table: BackfillTable | null = null
  readonly #waitedFor = new WeakMap<BackfillJob, number>()
  #gaveParts = false
  #looking = false
  #wake: () => void = () => undefined
  #reader: ChunkReader | null = null
  /** A snapshot of a standby does not say what is under way. */
  readonly #standby: boolean

  private constructor(options: BackfillOptions, unseen: Unseen, standby: boolean) {
    this.#standby = standby
    this.#options = options
    this.#unseen = unseen
    this.#state = options.state
    const tell = (news: BackfillNews): void => this.#tell(news)
    const off = options.requests ? null : 'the pipeline runs with --requests off'
    const refusal = standby ? 'the pipeline reads from a standby' : off
    this.#jobs = new BackfillJobs({ ...options, refusal, tell, onChange: () => this.#dirty() })
    this.sink = new TouchedKeys(options.sink)
  }

  /** Before the stream is read. */
  static async open(options: BackfillOptions): Promise<Backfill> {
    const { visibility, nextXid, standby } = await askVisibility(options.now)
    options.onBackfills(options.state.jobs)
    return new Backfill(options, new Unseen(visibility, nextXid), standby)
  }

  begin(xid: number): void {
    this.sink.begin(xid)
    this.#table?.begin(xid)
    if (this.#unseen.streamed(xid)) this.#look()
  }

  relation(relation: Relation): void {
    this.#table?.relation(relation)
  }

  request(content: Buffer): void {
    this.#jobs.request(content)
  }

  meet(...tables: Parameters<BackfillJobs['meet']>): void {
    if (!this.#standby) this.#jobs.meet(...tables)
  }

  /** Those that a snapshot is about to publish: what is remembered commits with its first rows. */
  copies(tables: readonly Relation[], all: boolean): void {
    this.meet(tables, { all, wanted: false })
    this.#remember()
  }

  /** Nothing is to be done after most transactions. */
  between(endLsn: EndLsn): boolean | Promise<void> {
    const table = this.#table
    if (this.#pending.length === 0 && (table === null || table.idle)) return false
    const settled = this.#settle()
    const published = table?.between(endLsn) ?? false
    return published === false ? settled : published
  }

  get stop(): Lsn | null {
    return this.#table?.stop ?? null
  }

  async stopped(): Promise<Parts | null> {
    const parts = (await this.#table?.stopped()) ?? null
    if (parts !== null) this.#gaveParts = true
    return parts
  }

  /** Whether a log transaction that took too long may be of its making. */
  get gaveParts(): boolean {
    return this.#gaveParts
  }

  /** True where there was something to be told or done. */
  #settle(): boolean {
    const pending = this.#pending.splice(0)
    for (const work of pending) work()
    return pending.length > 0
  }

  #remember(): void {
    this.#options.remember(Buffer.from(JSON.stringify(this.#state)))
    this.#options.onBackfills(this.#state.jobs)
  }

  /** The state is remembered at the next boundary, which is not waited for. */
  #dirty(): void {
    this.#pending.push(() => this.#remember())
    this.#options.ask()
    this.#wake()
    this.#table?.wake()
  }

  #tell(news: BackfillNews): void {
    this.#pending.push(() => this.#options.tell(news))
    this.#options.logger.info({ ...news }, news.kind.replace('-', ' '))
  }

  #look(): void {
    if (this.#looking) return
    this.#looking = true
    askVisibility(this.#options.now)
      .then(({ visibility }) => this.#unseen.look(visibility))
      .catch(() => undefined) // the connection's error ends the attempt by itself
      .finally(() => (this.#looking = false))
  }

  /** Works until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const onAbort = (): void => {
      this.#reader?.close()
      this.#wake()
    }
    signal.addEventListener('abort', onAbort)
    let failures = 0
    try {
      while (!signal.aborted) {
        const job = this.#standby ? undefined : this.#jobs.current
        if (job === undefined) {
          await new Promise<void>((resolve) => (this.#wake = resolve))
          continue
        }
        try {
          if (await this.#work(job, signal)) failures = 0
        } catch (error) {
          this.#reader?.close()
          this.#reader = null
          if (signal.aborted) return
          if (!(error instanceof EvertError)) throw error
          this.#options.logger.warn({ code: error.code, id: job.id }, `backfill: ${error.message}`)
          if (!isRetriable(error) && ++failures >= TRIES) {
            failures = 0
            this.#jobs.giveUp(job, error.message)
          }
          await this.#options.clock.delay(RETRY_MS, signal).catch(() => undefined)
        } finally {
          this.#table = null
        }
      }
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#reader?.close()
    }
  }

  /** One table of a job, or what of it could be published. True where that was something. */
  async #work(job: BackfillJob, signal: AbortSignal): Promise<boolean> {
    const { connection, publication } = this.#options
    const found = await askCatalog(connection, signal, async (catalog) => {
      const { tables } = await publishedNames(catalog, this.#options)
      if (job.wanted !== null) this.#jobs.resolve(job, tables)
      const [next] = job.tables
      if (next === undefined) return null
      const oid = tables.find(({ schema, table }) => schema === next.schema && table === next.table)?.oid
      return await subjectOf(catalog, { oid, publication, columns: job.columns ?? [] })
    })
    if (found === null) return true
    if (typeof found === 'string') {
      this.#jobs.giveUp(job, found)
      return true
    }
    job.estimatedRows = found.table.estimatedRows
    const before = { rows: job.rows, tables: job.tables.length }
    this.#table = this.#tableOf(job, found, signal)
    await this.#table.run(signal)
    return job.rows > before.rows || job.tables.length < before.tables
  }

  #tableOf(job: BackfillJob, subject: Subject, signal: AbortSignal): BackfillTable {
    const options = this.#options
    const common = { ...options, job, jobs: this.#jobs, remember: () => this.#remember() }
    const { key } = subject
    if (key === null) {
      return new WholeTable({
        ...common,
        subject,
        batchBytes: options.limits.bytes,
        settle: () => void this.#settle(),
        onRows: () => options.onBackfills(this.#state.jobs),
      })
    }
    return new ChunkedTable({
      ...common,
      subject: { ...subject, key },
      touched: this.sink,
      unseen: this.#unseen,
      waitedFor: this.#waitedFor,
      askVisibility: () => askVisibility(options.now),
      isToasted: async () => {
        const [row] = await options.now.query(sql('toasted', { table: String(subject.table.relation.oid) }))
        return row?.['toasted'] === 't'
      },
      openReader: async () => (this.#reader ??= await ChunkReader.open(options.connection, signal)),
    })
  }
}
