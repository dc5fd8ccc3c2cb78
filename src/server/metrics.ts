/** Metrics of one evert run, in Prometheus' text format. Never a value of a row: labels are names of schemas and tables. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import type { EndLsn } from '../event/lsn.js'
import { type PipelineState, STATES } from '../observer.js'
import type { BackfillJob } from '../postgres/backfill-state.js'
import type { PublishedTable } from '../postgres/catalog.js'
import type { SnapshotObserver } from '../postgres/snapshot.js'

const TABLE = ['schema', 'table'] as const

/** Told of what a pipeline does. */
export interface Metrics extends SnapshotObserver {
  readonly registry: Registry
  readonly onCommit: (committed: { readonly records: number; readonly bytes: number; readonly endLsn: EndLsn }) => void
  readonly onState: (state: PipelineState, endLsn: EndLsn | null) => void
  readonly onBackfills: (jobs: readonly BackfillJob[]) => void
}

/** Every name is declared here, and in docs/metrics.md, which is made of them. */
export function pipelineMetrics(pipeline: string): Metrics {
  const registry = new Registry()
  registry.setDefaultLabels({ pipeline })
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const counter = (name: string, help: string): Counter => new Counter({ name, help, registers })
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers })
  const byTable = (name: string, help: string): Gauge<(typeof TABLE)[number]> =>
    new Gauge({ name, help, labelNames: TABLE, registers })

  const records = counter(
    'evert_records_total',
    'Records that are committed in the log: events, tombstones, notifications.',
  )
  const bytes = counter(
    'evert_record_bytes_total',
    'Bytes of record batches that are committed in the log, before compression.',
  )
  const commits = counter('evert_log_transactions_total', 'Log transactions that are committed.')
  const endLsn = gauge(
    'evert_end_lsn',
    'Where the log ends, as a number of bytes of WAL: every change before it is in the log.',
  )
  const committedAt = gauge(
    'evert_last_commit_timestamp_seconds',
    'When this process committed its last log transaction; not there before the first.',
  )
  const states = new Gauge({
    name: 'evert_state',
    help: `1 for what the process does, 0 for the others: ${STATES.join(', ')}.`,
    labelNames: ['state'] as const,
    registers,
  })
  const attempts = counter(
    'evert_attempts_total',
    'How often it was begun to take the slot and read the progress: the first start, and again after each error.',
  )
  const snapshot = gauge('evert_snapshot_running', '1 while a snapshot is read into the live topics.')
  const snapshotRows = byTable('evert_snapshot_rows', 'Rows of the table that the snapshot has read.')
  const snapshotEstimate = byTable('evert_snapshot_estimated_rows', "Rows of the table, by the planner's statistics.")
  const snapshotBytes = byTable(
    'evert_snapshot_bytes',
    'Bytes of the table on disk that the snapshot has read, in parts of 32 MiB.',
  )
  const tableBytes = byTable('evert_snapshot_table_bytes', 'Bytes of the table on disk.')
  const backfills = gauge(
    'evert_backfills',
    'Live backfills that are not complete, those that are paused too; not there before that is known, and while it is not.',
  )
  const tablesLeft = gauge(
    'evert_backfill_tables_left',
    'Tables that live backfills have to publish, those under way too; there where evert_backfills is.',
  )
  const backfillRows = byTable('evert_backfill_rows', 'Rows of the table under way that a live backfill has published.')
  const backfillEstimate = byTable('evert_backfill_estimated_rows', "Rows of that table, by the planner's statistics.")
  for (const unknown of [endLsn, committedAt, backfills, tablesLeft]) unknown.remove()
  return {
    registry,
    onState(state, end) {
      for (const one of STATES) states.set({ state: one }, one === state ? 1 : 0)
      if (state === 'starting') attempts.inc()
      if (end !== null) endLsn.set(Number(end))
      if (state === 'snapshot' || state === 'streaming') return
      // Somebody else may finish them.
      snapshot.set(0)
      this.onBackfills([])
      for (const unknown of [backfills, tablesLeft]) unknown.remove()
    },
    onCommit(committed) {
      records.inc(committed.records)
      bytes.inc(committed.bytes)
      commits.inc()
      endLsn.set(Number(committed.endLsn))
      committedAt.setToCurrentTime()
    },
    onSnapshotStart({ tables }) {
      snapshot.set(1)
      for (const one of [snapshotRows, snapshotEstimate, snapshotBytes, tableBytes]) one.reset()
      for (const table of tables) {
        snapshotRows.set(labels(table), 0)
        snapshotBytes.set(labels(table), 0)
        snapshotEstimate.set(labels(table), table.estimatedRows)
        tableBytes.set(labels(table), table.bytes)
      }
    },
    onSnapshotRows(table, progress) {
      snapshotRows.set(labels(table), progress.rows)
      snapshotBytes.set(labels(table), Math.round(progress.bytes))
    },
    onSnapshotComplete: () => snapshot.set(0),
    onBackfills(jobs) {
      backfills.set(jobs.length)
      tablesLeft.set(jobs.reduce((sum, { tables }) => sum + tables.length, 0))
      backfillRows.reset()
      backfillEstimate.reset()
      // Of two of the same table, the one under way comes first.
      for (const { tables, rows, estimatedRows } of jobs.toReversed()) {
        const [table] = tables
        if (table === undefined || estimatedRows === null) continue
        backfillRows.set(table, rows)
        backfillEstimate.set(table, estimatedRows)
      }
    },
  }
}

function labels({ relation }: PublishedTable): { readonly schema: string; readonly table: string } {
  return { schema: relation.schema, table: relation.table }
}
