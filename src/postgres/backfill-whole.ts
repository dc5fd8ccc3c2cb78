/**
 * Backfill of a whole table: all its rows at one place of the stream, for tables without a key. Of them nobody could tell which row a change
 * is about, and so which rows of a chunk are newer than it.
 *
 * The snapshot of a temporary slot sees what commits before the slot's LSN, and nothing else, in the order of the WAL. Where it will be
 * is not known beforehand, so the stream waits while it is made (a few milliseconds: see gated-slot.ts); then it goes on, and stops
 * before the first transaction that the snapshot does not see, until all rows are in the log.
 */
import { closing, type Closers } from '../base/closers.js'
import { type EndLsn, formatLsn, type Lsn } from '../event/lsn.js'
import { interrupted, type Subject } from './backfill-subject.js'
import { type BackfillTable, type BackfillTableOptions, NextBoundary, TRIES } from './backfill-table.js'
import type { Parts } from './changes.js'
import { connect } from './connection.js'
import { gatedSlot } from './gated-slot.js'
import { Snapshot } from './snapshot.js'

export interface WholeTableOptions extends BackfillTableOptions {
  readonly subject: Subject
  readonly publication: string
  /** How many connections read at a time, at most. */
  readonly readers: number
  readonly batchBytes: number
  /** Has what is to be told and remembered at the next boundary told and remembered now. */
  readonly settle: () => void
  /** There are more rows of the job. */
  readonly onRows: () => void
}

/** How often it is looked whether the job is still wanted. */
const LOOK_MS = 100
/** The stream waits for who alters the table no longer. */
const LOCK_MS = 2000

export class WholeTable implements BackfillTable {
  /** Known once the slot is made. */
  stop: Lsn | null = null
  readonly #options: WholeTableOptions
  readonly #boundary = new NextBoundary()
  #parts: Promise<Parts> | null = null
  #finish: () => void = () => undefined

  constructor(options: WholeTableOptions) {
    this.#options = options
  }

  begin(): void {}

  relation(): void {}

  wake(): void {}

  get idle(): boolean {
    return !this.#boundary.awaited
  }

  between(endLsn: EndLsn): boolean | Promise<void> {
    return this.#boundary.come(endLsn) ?? false
  }

  async stopped(): Promise<Parts | null> {
    const { job, jobs, remember } = this.#options
    this.stop = null
    // What has failed is thrown by run().
    const parts = await this.#parts?.catch(() => null)
    if (parts === undefined || parts === null || !jobs.isCurrent(job)) return null
    // In the log before the first row: a log transaction that never comes to its end is not begun for ever.
    job.attempts++
    remember()
    return parts
  }

  async run(signal: AbortSignal): Promise<void> {
    const { job, jobs, clock } = this.#options
    if (job.attempts >= TRIES) return jobs.giveUp(job, GIVEN_UP)
    // Paused or cancelled before the first row.
    const unwanted = new AbortController()
    const look = clock.every(LOOK_MS, () => {
      if (!jobs.isCurrent(job)) unwanted.abort()
    })
    try {
      const both = AbortSignal.any([signal, unwanted.signal])
      await closing((closers) => this.#publish(closers, both))
    } catch (error) {
      if (!unwanted.signal.aborted) throw error
    } finally {
      // Whoever still listens is let go of: until then Node 20 keeps a joined signal, and what hangs on it.
      unwanted.abort()
      look.cancel()
      this.stop = null
    }
  }

  async #publish(closers: Closers, signal: AbortSignal): Promise<void> {
    const options = this.#options
    const now = closers.add(await connect(options.connection, { kind: 'ordinary', signal }), (c) => c.close())
    const slot = await gatedSlot({ ...options, now, signal }, closers)
    const finished = new Promise<void>((resolve) => {
      this.#finish = resolve
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
    const placed = this.#boundary.at(async (endLsn) => {
      const { consistentPoint, snapshotName } = await slot.create()
      if (consistentPoint < endLsn) throw interrupted('the stream was ahead of its snapshot')
      const { oid, schema, table } = options.subject.table.relation
      const patterns = {
        all: false,
        matches: (ofSchema: string, name: string) => ofSchema === schema && name === table,
      }
      const opening = Snapshot.open({ ...options, now, snapshotName, patterns, lockMs: LOCK_MS, signal }, closers)
      this.#parts = opening.then((reader) => {
        if (reader.tables[0]?.relation.oid !== oid) throw interrupted('it was altered before its rows were read')
        signal.addEventListener('abort', () => reader.close(), { once: true })
        return this.#rows(reader, consistentPoint, signal)
      })
      this.#parts.catch(() => undefined)
      this.stop = consistentPoint
    }, signal)
    options.ask()
    await placed
    await this.#parts
    await finished
  }

  async *#rows(reader: Snapshot, lsn: Lsn, signal: AbortSignal): AsyncGenerator<void> {
    const { job, jobs, subject } = this.#options
    try {
      yield* reader.rows({
        ...this.#options,
        lsn,
        signal,
        cut: () => undefined,
        gone: () => [],
        onRows: (_, { rows }) => {
          job.rows = rows
          this.#options.onRows()
        },
        onTable: () => undefined,
      })
    } catch (error) {
      job.rows = 0 // nothing of them is to be seen
      throw interrupted((error as Error).message, error)
    }
    jobs.done(job, subject.table.relation, formatLsn(lsn))
    this.#options.settle()
    this.#finish()
  }
}

const GIVEN_UP = `its rows were begun ${TRIES} times, and the one log transaction that they must be in never came to its end (--transaction-timeout bounds it); evert snapshot --into copies it`
