/** Records without progress: a pipeline whose topics hold records, while nothing says how far they go, must not start afresh. */
import { EvertError } from '../base/errors.js'
import type { Log, Progress } from './log.js'

/** Error: PROGRESS_MISSING. */
export async function requireProgress(
  log: Pick<Log, 'topics' | 'offsets' | 'read'>,
  options: {
    readonly name: string
    readonly progress: Progress
    /** Progress as a new writer finds it: with everything that an earlier one has committed. */
    readonly settled: () => Promise<Progress>
    readonly topics: readonly string[]
    readonly signal: AbortSignal
  },
): Promise<void> {
  const { name, progress, signal } = options
  if (progress.size > 0) return
  const asked = new Set(options.topics)
  for (const topic of await log.topics(`${name}.`)) {
    if (!asked.has(topic.name)) continue
    for (let partition = 0; partition < topic.partitions; partition++) {
      const { earliest, end } = await log.offsets(topic.name, partition)
      // What an aborted start left is nothing that a consumer can see.
      for await (const _ of log.read({ topic: topic.name, partition, from: earliest, until: end, signal })) {
        // Of a commit that is just being made, the records may be seen before the progress.
        if ((await options.settled()).size > 0) return
        throw new EvertError('PROGRESS_MISSING', {
          message: `topic "${topic.name}" holds records of pipeline "${name}", and the log has no progress of it: what follows them is not known`,
          hint: 'evert run --on-loss resnapshot records the gap in the log and publishes the rows that differ; evert drop --topics, then evert run, starts over; or --name gives this pipeline topics of its own',
        })
      }
    }
  }
}
