/** Backfilling: a pipeline's live backfill, beside its bridge; and the tables that join the pipeline while it runs. */
import type { Attempt, PipelineOptions } from './attempt.js'
import { systemClock } from './base/clock.js'
import { EvertError } from './base/errors.js'
import { notifier } from './notifications.js'
import { Backfill } from './postgres/backfill.js'
import { askCatalog, interrupted, publishedNames } from './postgres/backfill-subject.js'
import { inspectPublication } from './postgres/publication.js'
import { BACKFILL_ENTRY, readBackfills } from './progress.js'

/** How often it is looked for tables that have joined. */
const LOOK_MS = 10_000

/** Before the stream is read. Error: PROGRESS_INVALID. */
export async function openBackfill(started: Attempt, options: PipelineOptions): Promise<Backfill> {
  const { writer, progress, stream, connection } = started
  const tell = await notifier(writer, options.name)
  // Of a pipeline that begins anew nothing is left to be done.
  const entries = progress.state.snapshot === 'again' ? new Map<string, Buffer>() : writer.progress
  const state = readBackfills(options.name, entries)
  const backfill = await Backfill.open({
    ...options,
    pipeline: options.name,
    connection: started.at,
    now: connection,
    sink: writer.sink,
    relations: started.relations,
    state,
    remember: (entry) => progress.note(BACKFILL_ENTRY, entry),
    tell,
    ask: () => stream.ask(),
    clock: systemClock,
  })
  if (started.snapshot !== null) {
    const all = options.patterns.all && (await inspectPublication(connection, options.publication))?.allTables === true
    backfill.copies(
      started.snapshot.reader.tables.map(({ relation }) => relation),
      all,
    )
  }
  return backfill
}

/** Works beside the bridge, and ends with it. Errors: the bridge's, and those of the connection to the catalog. */
export async function fillBeside(
  backfill: Backfill,
  started: Attempt,
  options: PipelineOptions,
  bridge: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  let failure: unknown = null
  // The bridge comes to the end of its log transaction before anything is closed.
  const failed = (error: unknown): void => {
    if (!signal.aborted) failure ??= error
    stop.abort()
  }
  backfill.run(signal).catch(failed)
  meetTables(backfill, started, options, signal).catch(failed)
  try {
    await bridge(signal)
  } catch (error) {
    // The next attempt counts it, and gives the table up in the end: the stream goes on.
    const late = backfill.gaveParts && error instanceof EvertError && error.code === 'TRANSACTION_TOO_LONG'
    throw late ? interrupted(error.message, error) : error
  } finally {
    stop.abort()
  }
  if (failure !== null) throw failure
}

/** A publication of every table has those that come while it is streamed from their first row on. */
async function meetTables(
  backfill: Backfill,
  { at }: Attempt,
  options: PipelineOptions,
  signal: AbortSignal,
): Promise<void> {
  for (let first = true; !signal.aborted;) {
    try {
      const found = await askCatalog(at, signal, (catalog) => publishedNames(catalog, options))
      const all = found.all && options.patterns.all
      // While it runs, --tables is what it was.
      backfill.meet(found.tables, { all, wanted: options.newTables === 'backfill' && (first || !found.all) })
      first = false
    } catch (error) {
      const { message } = error as Error
      if (!signal.aborted) options.logger.warn({}, `it cannot be told whether tables have joined: ${message}`)
    }
    await systemClock.delay(LOOK_MS, signal).catch(() => undefined)
  }
}
