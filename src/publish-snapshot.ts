/** Publishing a snapshot: its rows in log transactions of their own, and what machines are told of it. */
import type { Attempt, PipelineOptions } from './attempt.js'
import { systemClock } from './base/clock.js'
import { type Closers, closing } from './base/closers.js'
import { copySnapshot, cutBoth } from './bridge.js'
import { type Differences, findDifferences } from './differences.js'
import { formatLsn } from './event/lsn.js'
import { tableTopic } from './event/topic-name.js'
import type { FilledRecords } from './log/log.js'
import { progressOrNull } from './loss.js'
import { notifier } from './notifications.js'

type OpenSnapshot = NonNullable<Attempt['snapshot']>

export async function publishSnapshot(
  started: Attempt,
  snapshot: OpenSnapshot,
  options: PipelineOptions,
): Promise<void> {
  await closing((closers) => publish(started, snapshot, { ...options, closers }))
  options.onSnapshotComplete()
}

async function publish(
  started: Attempt,
  { reader, lsn }: OpenSnapshot,
  options: PipelineOptions & { readonly closers: Closers },
): Promise<void> {
  const { writer, progress } = started
  const { name, logger } = options
  const at = formatLsn(lsn)
  const tell = await notifier(writer, name)
  const earlier = progressOrNull(name, writer.progress)
  if (earlier?.snapshot === 'running' || earlier?.snapshot === 'again')
    tell({ kind: 'snapshot-interrupted', lsn: formatLsn(earlier.endLsn) })
  const { tables, cost } = reader
  tell({ kind: 'snapshot-started', lsn: at, tables: tables.length, estimatedRows: cost.rows, bytes: cost.bytes })
  const differences =
    progress.state.snapshot === 'again' ? await differencesOf(started, { reader, lsn }, options) : null
  const total = { rows: 0, published: 0, deletes: 0 }
  const tellOfTable = (relation: (typeof tables)[number]['relation'], rows: number): void => {
    const published = differences?.published(tableTopic(name, relation.schema, relation.table))
    const counts = published === undefined ? {} : { published: published.rows, deletes: published.deletes }
    const { schema, table } = relation
    tell({ kind: 'snapshot-table', lsn: at, schema, table, rows, ...counts })
    total.rows += rows
    total.published += published?.rows ?? 0
    total.deletes += published?.deletes ?? 0
  }
  for (const { table, rows } of differences?.equal ?? []) tellOfTable(table.relation, rows)
  const filled = reader.rows({
    lsn,
    pipeline: name,
    relations: started.relations,
    values: options.values,
    envelope: options.envelope,
    largeValues: options.largeValues,
    sink: differences?.through(writer.sink) ?? writer.sink,
    wanted: (table) => differences?.differs(table) ?? true,
    gone: (topic) => differences?.gone(topic) ?? [],
    cut: () => cutBoth(started),
    batchBytes: options.limits.bytes,
    onRows: options.onSnapshotRows,
    onTable: tellOfTable,
    signal: options.signal,
  })
  const counts = (): Partial<typeof total> & { readonly rows: number } =>
    differences === null ? { rows: total.rows } : total
  const told = async function* (): AsyncGenerator<FilledRecords> {
    yield* filled
    tell({ kind: 'snapshot-complete', lsn: at, ...counts() })
  }
  try {
    await copySnapshot({ rows: told(), writer, progress, lsn, clock: systemClock, onCommit: options.onCommit })
  } finally {
    // Readers that go on after an error would have nobody to read for.
    reader.close()
  }
  logger.info({ lsn: at, tables: tables.length, ...counts() }, 'snapshot complete')
}

/** What was told of the loss is committed first: to compare may take long, and whoever begins again then need not find it again. */
async function differencesOf(
  started: Attempt,
  snapshot: OpenSnapshot,
  options: PipelineOptions & { readonly closers: Closers },
): Promise<Differences> {
  const { writer, progress, log, relations } = started
  const { endLsn } = progress.state
  const records = cutBoth(started)
  await writer.append(records, progress.at(endLsn))
  options.onCommit({ records: records.records, bytes: records.bytes, endLsn })
  return await findDifferences(options, { ...snapshot, log, relations, closers: options.closers })
}
