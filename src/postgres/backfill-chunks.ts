/**
 * Backfill by chunks: the rows of one table in the order of its key.
 *
 * A chunk is read under a snapshot, and published between two transactions of the stream, once that has passed the WAL which holds all that
 * the snapshot sees. What the stream has published meanwhile, of transactions that the snapshot does not see, is newer: those rows of the
 * chunk are left out. The WAL runs ahead of snapshots where a commit waits for a standby, so that LSNs alone cannot tell.
 */
import { isDeepStrictEqual } from 'node:util'
import { type EndLsn, toLsn } from '../event/lsn.js'
import type { Relation } from '../event/relation.js'
import type { RecordSink } from '../event/sink.js'
import type { CompiledTable } from '../event/table.js'
import { Transcoder } from '../event/transcoder.js'
import type { Tuple } from '../event/tuple.js'
import type { BackfillJob } from './backfill-state.js'
import { type Subject, unwritable } from './backfill-subject.js'
import { type BackfillTable, type BackfillTableOptions, NextBoundary, relationShape } from './backfill-table.js'
import {
  CHUNK_BYTES,
  type Chunk,
  type ChunkKey,
  type ChunkReader,
  FIRST_ROWS,
  MOST_ROWS,
  mayBeToasted,
  nextRows,
  sayOnly,
} from './chunk-reader.js'
import { halves } from './snapshot-reading.js'
import { RENEWED, Tables } from './tables.js'
import type { TouchedKeys } from './touched-keys.js'
import { Unseen } from './visibility.js'
import type { askVisibility } from './xids.js'

export interface ChunkedTableOptions extends BackfillTableOptions {
  readonly subject: Subject & { readonly key: ChunkKey }
  /** Before the sink of the stream. */
  readonly touched: TouchedKeys
  readonly unseen: Unseen
  /** Whether any value of the table is out of line. */
  readonly isToasted: () => Promise<boolean>
  /** The table for which a job has waited for whoever was under way when it came to be published. */
  readonly waitedFor: WeakMap<BackfillJob, number>
  /** What the server has under way, and what of it is over later. */
  readonly askVisibility: () => ReturnType<typeof askVisibility>
  readonly openReader: () => Promise<ChunkReader>
}

/** Chunks that are read and wait for the stream. */
const WAITING_CHUNKS = 2
const AGAIN_MS = 100
/** After five seconds, and then once a minute. */
const WAITS_BEFORE_WARNING = 50
const WAITS_A_WARNING = 600
const ASK_MS = 100
/** Before the LSN that the stream has come to, and behind everything before: the last byte is that of a message, this one is nobody's. */
const BYTES_BEFORE = 2n

export class ChunkedTable implements BackfillTable {
  readonly stop = null
  readonly #options: ChunkedTableOptions
  readonly #transcoder: Transcoder
  readonly #tables: Tables
  readonly #boundary = new NextBoundary()
  readonly #chunks: Chunk[] = []
  #table: CompiledTable | null = null
  /** Transactions that were streamed before the keys of the table were watched, and that no chunk has seen yet. */
  #earlier = new Set<number>()
  /**
   * What was read is not to be published. Rows: they are read again from behind the last one that was. Table: it is another one, or what the
   * stream changed of it is not known, and it is opened again first.
   */
  #redo: 'rows' | 'table' | null = null
  /** Of a row that could not be written. */
  #failure: unknown = null
  /** Whether the stream may leave out values of rows because they did not change; null while that was not asked. */
  #toasted: boolean | null = null
  /** The row at hand was not published. */
  #leftOut = false
  #wake: () => void = () => undefined

  constructor(options: ChunkedTableOptions) {
    const { sink, touched } = options
    this.#options = options
    const newerLeftOut: RecordSink = {
      bytes: 0,
      records: 0,
      topic: (request) => sink.topic(request),
      append: (topic, record) => sink.append(topic, record),
      open: (topic, record, valueBytes) => {
        const [chunk] = this.#chunks
        this.#leftOut = chunk !== undefined && touched.isNewer(record, chunk.visibility)
        return this.#leftOut ? null : sink.open(topic, record, valueBytes)
      },
      close: (valueEnd) => sink.close(valueEnd),
      appendToAll: (topic, record) => sink.appendToAll(topic, record),
    }
    this.#transcoder = new Transcoder(newerLeftOut, options.envelope, options.largeValues)
    this.#tables = new Tables(options, this.#transcoder)
  }

  begin(xid: number): void {
    // All that it changes is watched.
    this.#earlier.delete(xid)
  }

  relation(relation: Relation): void {
    const table = this.#table?.relation
    if (table?.oid === relation.oid && relationShape(table) !== relationShape(relation)) this.#redo = 'table'
  }

  get idle(): boolean {
    return this.#chunks.length === 0 && !this.#boundary.awaited && this.#redo === null
  }

  between(endLsn: EndLsn): boolean | Promise<void> {
    let published = false
    for (let [chunk] = this.#chunks; chunk !== undefined && chunk.lsn <= endLsn; [chunk] = this.#chunks) {
      if (this.#redo === null) this.#publish(chunk, endLsn)
      this.#chunks.shift()
      chunk.release()
      published = true
    }
    if (this.#redo !== null) this.#chunks.length = 0
    if (published || this.#redo !== null) this.#wake()
    return this.#boundary.come(endLsn) ?? published
  }

  stopped(): Promise<null> {
    return Promise.resolve(null)
  }

  wake(): void {
    this.#wake()
  }

  #publish(chunk: Chunk, endLsn: EndLsn): void {
    const { job, jobs, state, touched } = this.#options
    const table = this.#table
    if (touched.flooded && table !== null) {
      const { relation } = table
      const message = 'more keys are written than a backfill can hold against its rows: it begins again where it is'
      this.#options.logger.info({ schema: relation.schema, table: relation.table }, message)
    }
    if (touched.flooded || table === null || !jobs.isCurrent(job)) {
      this.#redo = 'table'
      return
    }
    this.#begin(endLsn)
    let rows = 0
    try {
      for (const row of chunk.rows.tuples()) {
        this.#write(table, row, chunk)
        // The change that is newer may be an update without the values that it did not change: they are not in the log yet.
        if (this.#leftOut && this.#toasted !== false && mayBeToasted(table, row)) {
          this.#redo = 'rows'
          break
        }
        rows++
      }
    } catch (error) {
      // Of an altered type; the stream must not end for it.
      this.#redo = 'table'
      this.#failure = error
    }
    job.rows += rows
    if (rows > 0) job.after = chunk.keyOf(rows - 1)
    state.at = { lsn: String(endLsn - BYTES_BEFORE), ordinal: this.#transcoder.ordinal }
    touched.forget(chunk.visibility)
    this.#options.remember()
  }

  #write(table: CompiledTable, row: Tuple, chunk: Chunk): void {
    const { columns } = this.#options.job
    const [high, low] = halves(chunk.lsn)
    if (columns === null) this.#transcoder.snapshotRow(table, high, low, row)
    else {
      sayOnly(columns, table, row)
      this.#transcoder.update(table, high, low, row, null, 'key')
    }
  }

  /** Rows come behind everything that the stream has published, and before everything that follows. */
  #begin(endLsn: EndLsn): void {
    const commitLsn = toLsn(endLsn - BYTES_BEFORE)
    const { at } = this.#options.state
    const ordinal = at?.lsn === String(commitLsn) ? at.ordinal : 0
    const timeUs = BigInt(this.#options.clock.nowMs()) * 1000n
    this.#transcoder.begin({ commitLsn, timeUs, xid: null, snapshot: true, ordinal })
  }

  async run(signal: AbortSignal): Promise<void> {
    const { job, jobs, subject, touched } = this.#options
    const stop = (): void => this.#wake()
    signal.addEventListener('abort', stop)
    try {
      await this.#settled(signal)
      if (!jobs.isCurrent(job)) return
      await this.#open(subject.table.relation, signal)
      await this.#read(signal)
    } finally {
      signal.removeEventListener('abort', stop)
      touched.watch(null)
    }
  }

  /** Between two transactions, so that what is told of its shape has its place among what the stream tells. */
  async #open(relation: Relation, signal: AbortSignal): Promise<void> {
    const { touched, unseen, ask } = this.#options
    const opened = this.#boundary.at(async (endLsn) => {
      this.#begin(endLsn)
      this.#table = await this.#tables.open(relation, RENEWED)
      touched.watch(this.#table.topic.name)
      this.#earlier = unseen.copy()
      this.#redo = null
    }, signal)
    ask()
    await opened
  }

  /** What was changed in the table before it was published is in no stream: whoever may have done that is waited for. */
  async #settled(signal: AbortSignal): Promise<void> {
    const { job, jobs, clock, waitedFor, subject } = this.#options
    const { oid } = subject.table.relation
    if (waitedFor.get(job) === oid) return
    const { visibility, nextXid } = await this.#options.askVisibility()
    const older = new Unseen(visibility, nextXid)
    for (let waits = 0; older.size > 0 && jobs.isCurrent(job); waits++) {
      if (waits % WAITS_A_WARNING === WAITS_BEFORE_WARNING) this.#warnOf(older.copy())
      if (waits > 0) await clock.delay(AGAIN_MS, signal)
      older.look((await this.#options.askVisibility()).visibility)
    }
    if (older.size === 0) waitedFor.set(job, oid)
  }

  #warnOf(waited: ReadonlySet<number>): void {
    const xids = [...waited].slice(0, 5)
    const hint = 'select pid, xact_start, query from pg_stat_activity where backend_xid is not null order by 2'
    this.#options.logger.warn(
      { transactions: waited.size, xids, hint },
      'the backfill waits for transactions that began before it, prepared ones too',
    )
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { clock, job, jobs, subject } = this.#options
    const { table, key, shape } = subject
    const reader = await this.#options.openReader()
    const behind = (): readonly string[] | null => {
      const { columns, types, values } = job.after ?? { columns: [], types: [], values: [] }
      return isDeepStrictEqual([columns, types], [key.columns, key.types]) ? values : null
    }
    let after = behind()
    let rows = FIRST_ROWS
    let waits = 0
    for (let final = false; !final;) {
      const startedMs = clock.elapsedMs()
      rows = Math.min(rows, Math.ceil(job.maxRowsPerSecond ?? MOST_ROWS))
      const waiting = this.#earlier.size > 0
      const chunk = await reader.read({ table, key, after, rows: waiting ? 0 : rows, bytes: CHUNK_BYTES })
      if (chunk.shape !== shape) return await clock.delay(AGAIN_MS, signal)
      for (const xid of this.#earlier) if (chunk.visibility.sees(xid)) this.#earlier.delete(xid)
      if (waiting) {
        chunk.release()
        if (signal.aborted || !jobs.isCurrent(job)) return
        // Something of theirs may be in the log already, and nobody knows which keys.
        if (this.#earlier.size > 0) {
          if (waits++ % WAITS_A_WARNING === WAITS_BEFORE_WARNING) this.#warnOf(this.#earlier)
          await clock.delay(AGAIN_MS, signal)
        }
        continue
      }
      // From here on, whatever comes to be out of line is streamed whole.
      this.#toasted ??= await this.#options.isToasted()
      const { count } = chunk.rows
      const readMs = clock.elapsedMs() - startedMs
      if (count > 0 && this.#redo === null) this.#chunks.push(chunk)
      this.#options.ask()
      if (count > 0) after = chunk.keyOf(count - 1).values
      final = chunk.final
      rows = nextRows(rows, count, readMs, chunk.rowBytes)
      const restMs = job.maxRowsPerSecond === null ? 0 : (count / job.maxRowsPerSecond) * 1000
      if (restMs > readMs) await clock.delay(restMs - readMs, signal)
      while (this.#chunks.length >= (final ? 1 : WAITING_CHUNKS) && jobs.isCurrent(job) && !signal.aborted)
        await this.#published()
      if (signal.aborted || !jobs.isCurrent(job)) return
      if (this.#failure !== null) throw unwritable(table, this.#failure)
      if (this.#redo !== null) await clock.delay(AGAIN_MS, signal)
      if (this.#redo === 'table') return
      if (this.#redo === 'rows') {
        this.#redo = null
        final = false
        after = behind()
        // The fewer there are, the sooner they are published.
        rows = 1
      }
    }
    jobs.done(job, table.relation)
  }

  /** WAL that is not flushed yet is not sent, and the server says only once how far it is. */
  async #published(): Promise<void> {
    const timer = this.#options.clock.every(ASK_MS, () => this.#options.ask())
    await new Promise<void>((resolve) => (this.#wake = resolve))
    timer.cancel()
  }
}
