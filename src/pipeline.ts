/**
 * Pipeline: one running bridge. Every start is the same: take the slot, fence earlier writers, read the progress back, compare it
 * with the server, publish a snapshot where one is due, stream. Recovery is doing all of that again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError, isRetriable } from './base/errors.js'
import type { Logger } from './base/logger.js'
import { type Attempt, type AttemptOptions, startAttempt } from './attempt.js'
import { fillBeside, openBackfill } from './backfilling.js'
import { bridge, type OnCommit } from './bridge.js'
import { formatLsn } from './event/lsn.js'
import { isLoss } from './loss.js'
import { publishSnapshot } from './publish-snapshot.js'
import type { PipelineOptions } from './attempt.js'

const BACKOFF_FIRST_MS = 200
const BACKOFF_LAST_MS = 10_000
/** How often in a row it is tried to mend a loss. */
const MENDS = 3
/** A pipeline that has never worked gives up after this; one that has worked tries for ever. */
const GIVE_UP_MS = 30_000

/** Runs until the signal is aborted. Errors: whatever trying again cannot mend. */
export async function runPipeline(options: PipelineOptions): Promise<void> {
  const { signal, logger } = options
  const startedMs = performance.now()
  let worked = false
  let failures = 0
  let fenced: EvertError | null = null
  let loss: EvertError | null = null
  /** Since the last snapshot that came to its end. */
  let mends = 0
  const onWorking = (): void => {
    worked = true
  }
  const onCommit: OnCommit = (committed) => {
    failures = 0
    options.onCommit(committed)
  }
  const onSnapshotComplete = (): void => {
    mends = 0
    options.onSnapshotComplete()
  }
  while (!signal.aborted) {
    try {
      options.onState('starting', null)
      await attempt({ ...options, onCommit, onSnapshotComplete }, { fenced, loss, onWorking })
    } catch (error) {
      options.onState(signal.aborted ? 'stopped' : 'retrying', null)
      if (signal.aborted) return
      if (error !== fenced && error instanceof EvertError && error.code === 'LOG_FENCED') {
        logger.warn({ code: error.code }, `${error.message}; standing by for it`)
        fenced = error
        loss = null
        continue
      }
      fenced = null
      const mendable = isLoss(error) && options.onLoss === 'resnapshot' && (loss === null || error.cause !== loss)
      // Where it does not come to its end before the next loss, it would go on for ever, and fill the log.
      if (mendable && mends++ < MENDS) {
        await backOff(error, mends, { logger, signal })
        loss = error
        continue
      }
      loss = null
      const hopeless = !worked && performance.now() - startedMs > GIVE_UP_MS
      if (!isRetriable(error) || hopeless) throw error
      await backOff(error as EvertError, failures++, { logger, signal })
    }
  }
}

/** Exponential, with jitter, so that pipelines that failed together do not come back together. */
async function backOff(
  error: EvertError,
  failures: number,
  options: { logger: Logger; signal: AbortSignal },
): Promise<void> {
  const ceilingMs = Math.min(BACKOFF_FIRST_MS * 2 ** failures, BACKOFF_LAST_MS)
  const waitMs = Math.round(ceilingMs * (0.5 + Math.random() / 2))
  options.logger.warn({ code: error.code, waitMs }, `${error.message}; trying again`)
  await delay(waitMs, undefined, { signal: options.signal }).catch(() => undefined)
}

async function attempt(
  options: PipelineOptions,
  { onWorking, ...found }: Pick<AttemptOptions, 'fenced' | 'loss'> & { readonly onWorking: () => void },
): Promise<void> {
  const onStandby = (): void => {
    onWorking()
    options.onState('standby', null)
  }
  const started = await startAttempt({ ...options, ...found, onStandby })
  onWorking()
  try {
    await publish(started, options)
  } catch (error) {
    await started.close().catch(() => undefined) // what went wrong first counts
    throw error
  }
  await started.close()
  options.onState('stopped', null)
}

async function publish(started: Attempt, options: PipelineOptions): Promise<void> {
  const { stream, writer, progress, snapshot } = started
  const { logger, signal, limits, name, patterns } = options
  const backfill = await openBackfill(started, options)
  const common = {
    sink: backfill.sink,
    bystander: backfill,
    source: stream,
    writer,
    progress,
    limits,
    signal,
    matches: (schema: string, table: string) => patterns.matches(schema, table),
    pipeline: name,
    relations: started.relations,
    values: options.values,
    envelope: options.envelope,
    largeValues: options.largeValues,
    skipsOrigin: options.skipsOrigin,
    nowUs: () => BigInt(Date.now()) * 1000n,
    from: progress.state.endLsn,
    onCommit: options.onCommit,
  }
  if (snapshot !== null) {
    // Changes before the snapshot's LSN come first, so that no row travels back in time; a new slot has none.
    if (progress.state.endLsn < snapshot.lsn) await bridge({ ...common, until: snapshot.lsn })
    if (signal.aborted) return
    options.onState('snapshot', progress.state.endLsn)
    await publishSnapshot(started, snapshot, options)
  }
  logger.info({ from: formatLsn(progress.state.endLsn) }, 'streaming')
  options.onState('streaming', progress.state.endLsn)
  await fillBeside(backfill, started, options, (until) => bridge({ ...common, signal: until }))
}
