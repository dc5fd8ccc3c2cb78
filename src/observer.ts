/** Observers of a pipeline: progress for people, metrics for machines. They are told, and change nothing. */
import type { OnCommit } from './bridge.js'
import type { EndLsn } from './event/lsn.js'
import type { BackfillJob } from './postgres/backfill-state.js'
import type { SnapshotObserver } from './postgres/snapshot.js'

export const STATES = ['starting', 'standby', 'snapshot', 'streaming', 'retrying', 'stopped'] as const
export type PipelineState = (typeof STATES)[number]

export interface PipelineObserver extends SnapshotObserver {
  /** Where the log ends is known from `snapshot` and `streaming` on; it is null before. */
  readonly onState: (state: PipelineState, endLsn: EndLsn | null) => void
  readonly onCommit: OnCommit
  /** Told of what is left of the live backfills, whenever that changes. */
  readonly onBackfills: (jobs: readonly BackfillJob[]) => void
}

/** All of them are told of everything that they want to know. */
export function observedBy(...observers: readonly Partial<PipelineObserver>[]): PipelineObserver {
  return {
    onState: (state, endLsn) => observers.forEach((one) => one.onState?.(state, endLsn)),
    onCommit: (committed) => observers.forEach((one) => one.onCommit?.(committed)),
    onSnapshotStart: (snapshot, slot) => observers.forEach((one) => one.onSnapshotStart?.(snapshot, slot)),
    onSnapshotRows: (table, progress) => observers.forEach((one) => one.onSnapshotRows?.(table, progress)),
    onSnapshotComplete: () => observers.forEach((one) => one.onSnapshotComplete?.()),
    onBackfills: (jobs) => observers.forEach((one) => one.onBackfills?.(jobs)),
  }
}
