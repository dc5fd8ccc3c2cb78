/** Publishing a snapshot: its rows in log transactions of their own, and what machines are told of it. */
import type { Attempt, PipelineOptions } from './attempt.js'
import { systemClock } from './base/clock.js'
import { copySnapshot, cutBoth, type OnCommit } from './bridge.js'
import { formatLsn } from './event/lsn.js'
import type { FilledRecords } from './log/log.js'
import { progressOrNull } from './loss.js'
import { notifier } from './notifications.js'

export async function publishSnapshot(
  started: Attempt,
  { reader, lsn }: NonNullable<Attempt['snapshot']>,
  options: PipelineOptions & { readonly onCommit: OnCommit },
): Promise<void> {
  const { writer, progress } = started
  const { name, logger } = options
  const at = formatLsn(lsn)
  const keys = await started.keysInLog()
  const tell = await notifier(writer, name)
  const earlier = progressOrNull(name, writer.progress)
  if (earlier?.snapshot === 'running' || earlier?.snapshot === 'again')
    tell({ kind: 'snapshot-interrupted', lsn: formatLsn(earlier.endLsn) })
  const { tables, cost } = reader
  tell({ kind: 'snapshot-started', lsn: at, tables: tables.length, estimatedRows: cost.rows, bytes: cost.bytes })
  let rows = 0
  const filled = reader.rows({
    lsn,
    pipeline: name,
    relations: started.relations,
    values: options.values,
    envelope: options.envelope,
    largeValues: options.largeValues,
    sink: keys === null ? writer.sink : keys.seenBy(writer.sink),
    gone: (topic) => keys?.left(topic) ?? [],
    cut: () => cutBoth(started),
    batchBytes: options.limits.bytes,
    onRows: options.onSnapshotRows,
    onTable: ({ schema, table }, count) => {
      rows += count
      tell({ kind: 'snapshot-table', lsn: at, schema, table, rows: count })
    },
    signal: options.signal,
  })
  const told = async function* (): AsyncGenerator<FilledRecords> {
    yield* filled
    tell({ kind: 'snapshot-complete', lsn: at, rows })
  }
  try {
    await copySnapshot({ rows: told(), writer, progress, lsn, clock: systemClock, onCommit: options.onCommit })
  } finally {
    // Readers that go on after an error would have nobody to read for.
    reader.close()
  }
  await keys?.close()
  logger.info({ lsn: at, tables: tables.length, rows }, 'snapshot complete')
  options.onSnapshotComplete()
}
