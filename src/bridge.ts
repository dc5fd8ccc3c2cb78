/**
 * The bridge: read, append, acknowledge. Everything evert promises about exactly once is in the order of these three.
 *
 * While one batch is appended, the socket goes on filling the next, up to a bound in bytes; while it commits, the next is appended. A batch
 * without an end LSN is a part of a Postgres transaction that is too large for one: the log transaction stays open until the part that ends it.
 */
import type { Clock } from './base/clock.js'
import type { EndLsn, Lsn } from './event/lsn.js'
import type { RecordSink } from './event/sink.js'
import type { FilledRecords, LogWriter } from './log/log.js'
import type { Batch, ChangesRequest } from './postgres/batch.js'
import type { ProgressKeeper, ProgressState } from './progress.js'

/** The stream's side, as the bridge needs it. */
export interface Source {
  changes(request: ChangesRequest<FilledRecords>): AsyncIterable<Batch<FilledRecords>>
  acknowledge(endLsn: EndLsn): void
}

interface Committed {
  readonly records: number
  readonly bytes: number
  readonly endLsn: EndLsn
}

/** Told of every log transaction that was committed. */
export type OnCommit = (committed: Committed) => void

/** What the log transaction at hand holds, in all of its parts. */
class Held {
  #records = 0
  #bytes = 0

  add({ records, bytes }: FilledRecords): void {
    this.#records += records
    this.#bytes += bytes
  }

  /** As it commits; the next one holds nothing yet. */
  take(endLsn: EndLsn): Committed {
    const committed = { records: this.#records, bytes: this.#bytes, endLsn }
    this.#records = this.#bytes = 0
    return committed
  }
}

export interface BridgeOptions extends Omit<ChangesRequest<FilledRecords>, 'sink' | 'cut'> {
  readonly source: Source
  readonly writer: LogWriter
  readonly progress: ProgressKeeper
  /** Default: the writer's. */
  readonly sink?: RecordSink
  readonly onCommit: OnCommit
}

/** Runs until `until` is reached or the signal is aborted. Errors: those of the source and of the writer. */
export async function bridge(options: BridgeOptions): Promise<void> {
  const { source, writer, progress, onCommit } = options
  const { sink = writer.sink } = options
  // By hand: what AbortSignal.any gives is kept for as long as somebody has listened to it, with all that hangs on it (Node 20).
  const stop = new AbortController()
  const onAbort = (): void => stop.abort()
  options.signal.addEventListener('abort', onAbort)
  if (options.signal.aborted) onAbort()
  const held = new Held()
  const append = async ({ endLsn, records: filled }: Batch<FilledRecords>, before: Promise<void>): Promise<void> => {
    held.add(filled)
    if (endLsn === null) {
      await writer.append(filled, null) // a part of the log transaction
      return await before
    }
    const told = held.take(endLsn)
    await writer.append(filled, progress.at(endLsn)) // one log transaction
    await before // nothing after one that failed
    source.acknowledge(endLsn) // only now may Postgres drop that WAL
    onCommit(told)
  }
  let committed = Promise.resolve()
  try {
    for await (const batch of source.changes({ ...options, signal: stop.signal, sink, cut: () => cutBoth(options) })) {
      committed = append(batch, committed)
      committed.catch(onAbort)
      await writer.ready()
    }
    await committed
  } finally {
    options.signal.removeEventListener('abort', onAbort)
  }
}

/** Nobody goes on from the middle of a snapshot: after its first rows, its log transactions may be larger than a batch, for commits cost. */
const APPENDS_A_COMMIT = 8
const COMMIT_MS = 1000

/** Rows of a snapshot at an LSN: as they come, in log transactions of their own; the last one says that it is complete. */
export async function copySnapshot(options: {
  readonly rows: AsyncIterable<FilledRecords>
  readonly writer: LogWriter
  readonly progress: ProgressKeeper
  readonly lsn: Lsn
  readonly clock: Clock
  readonly onCommit: OnCommit
}): Promise<void> {
  const { rows, writer, progress } = options
  // Where the stream had nothing of ours up to a later LSN, that one stands: progress never goes back.
  const endLsn = options.lsn > progress.state.endLsn ? options.lsn : progress.state.endLsn
  const { snapshot: running } = progress.state
  const held = new Held()
  const append = async (filled: FilledRecords, state: ProgressState['snapshot'], commit: boolean): Promise<void> => {
    held.add(filled)
    if (!commit) return await writer.append(filled, null)
    const committed = held.take(endLsn)
    await writer.append(filled, progress.at(endLsn, state))
    options.onCommit(committed)
  }
  const cut = (): FilledRecords => cutBoth(options)
  await appendAll(rows, { ...options, cut, append: (filled, commit) => append(filled, running, commit) })
  await append(cutBoth(options), 'complete', true)
}

/** One after the other; while one is appended, the next fills; while one commits, the next is appended. The last one may be left to commit. */
export async function appendAll(
  rows: AsyncIterable<FilledRecords>,
  to: {
    readonly append: (filled: FilledRecords, commit: boolean) => Promise<void>
    readonly writer: Pick<LogWriter, 'ready'>
    readonly cut: () => FilledRecords
    readonly clock: Clock
  },
): Promise<void> {
  const filled = rows[Symbol.asyncIterator]()
  let appends = 0
  let committed = Promise.resolve()
  for (let next = await filled.next(); next.done !== true;) {
    const commit = appends++ % APPENDS_A_COMMIT === 0
    const before = committed
    committed = to.append(next.value, commit).then(() => before)
    committed.catch(() => undefined) // told below
    const following = filled.next()
    following.catch(() => undefined) // the log's error counts first
    await to.writer.ready()
    // Rows may be long in coming, and brokers give up on a log transaction that is open for long.
    if (!commit && !(await settlesWithin(COMMIT_MS, following, to.clock))) {
      await to.append(to.cut(), true)
      appends = 1
    }
    next = await Promise.race([following, committed.then(() => following)])
  }
  await committed
}

async function settlesWithin(ms: number, promise: Promise<unknown>, clock: Clock): Promise<boolean> {
  return await new Promise((resolve) => {
    const timer = clock.after(ms, () => resolve(false))
    const settled = (): void => {
      timer.cancel()
      resolve(true)
    }
    promise.then(settled, settled)
  })
}

/** What is remembered commits with the records that were made of it. */
export function cutBoth({ writer, progress }: Pick<BridgeOptions, 'writer' | 'progress'>): FilledRecords {
  progress.cut()
  return writer.cut()
}
