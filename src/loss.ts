/** Loss: going on where changes are gone for good, because the operator said so. The log says what is missing, and gets the rows anew. */
import { EvertError, EXIT } from './base/errors.js'
import { formatLsn, type Lsn, LSN_ZERO, toLsn } from './event/lsn.js'
import { parsePosition } from './event/position.js'
import type { Log, Progress, TopicDescription } from './log/log.js'
import { positionIn } from './log/position-in.js'
import type { Notification } from './notifications.js'
import { type ProgressState, readProgress } from './progress.js'

export function isLoss(error: unknown): error is EvertError {
  return error instanceof EvertError && error.exit === EXIT.loss
}

/**
 * Positions only grow, or nobody could find a place in the log by one: rows that are published again need a server whose LSNs are
 * beyond those of the log. Error: that of the loss, with what is left to do.
 */
export function requireBeyond(
  loss: EvertError,
  { last, walEnd, name }: { readonly last: Lsn; readonly walEnd: Lsn; readonly name: string },
): void {
  if (walEnd >= last) return
  throw new EvertError(loss.code, {
    message: `${loss.message}; --on-loss resnapshot cannot mend it, for the server is at ${formatLsn(walEnd)}, the log at ${formatLsn(last)}, and positions in the log never go back`,
    hint: `publish into other topics (--name), or evert drop --name ${name} --topics, then evert run, starts over`,
    cause: loss,
  })
}

/** Progress that cannot be read is part of what is lost. */
export function progressOrNull(name: string, progress: Progress): ProgressState | null {
  try {
    return readProgress(name, progress)
  } catch (error) {
    if (isLoss(error)) return null
    throw error
  }
}

/** The topics of a pipeline's tables: a name, a schema and a table. */
export async function tableTopics(log: Log, name: string): Promise<TopicDescription[]> {
  return (await log.topics(`${name}.`)).filter((topic) => topic.name.split('.').length === 3)
}

/** The end of what a pipeline has published, by its events, where its progress does not say. */
export async function lastLsn(log: Log, topics: readonly TopicDescription[], signal: AbortSignal): Promise<Lsn> {
  let last: Lsn = LSN_ZERO
  for (const topic of topics) {
    for (let partition = 0; partition < topic.partitions; partition++) {
      const found = await lastIn(log, topic.name, partition, signal)
      if (found > last) last = found
    }
  }
  return last
}

/** From ever further before the end, for the last records may be tombstones, which have no position. */
async function lastIn(log: Log, topic: string, partition: number, signal: AbortSignal): Promise<Lsn> {
  const { earliest, end } = await log.offsets(topic, partition)
  for (let back = 64n; ; back *= 16n) {
    const from = end - back > earliest ? end - back : earliest
    let last: Lsn | null = null
    for await (const record of log.read({ topic, partition, from, until: end, signal })) {
      const position = parsePosition(positionIn(record) ?? '')
      if (position !== null) last = toLsn(position.commitLsn + 1n)
    }
    signal.throwIfAborted()
    if (last !== null) return last
    if (from === earliest) return LSN_ZERO
  }
}

/** The gap as the log tells of it. */
export function gapOf(gap: {
  readonly loss: EvertError
  readonly state: ProgressState | null
  readonly lsn: Lsn
  readonly timeUs: bigint
}): Notification {
  const { loss, state, lsn, timeUs } = gap
  return {
    kind: 'gap',
    code: loss.code,
    message: loss.message,
    from: state === null ? null : { lsn: formatLsn(state.endLsn), writtenAt: state.writtenAt },
    to: { lsn: formatLsn(lsn), ts_us: Number(timeUs) },
  }
}
