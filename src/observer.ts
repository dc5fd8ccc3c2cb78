/** Observers of a pipeline: progress for people, metrics for machines. They are told, and change nothing. */
import type { OnCommit } from './bridge.js'
import type { BackfillJob } from './postgres/backfill-state.js'
import type { SnapshotObserver } from './postgres/snapshot.js'

export interface PipelineObserver extends SnapshotObserver {
  readonly onStreaming: () => void
  readonly onCommit: OnCommit
  /** Told of what is left of the live backfills, whenever that changes. */
  readonly onBackfills: (jobs: readonly BackfillJob[]) => void
}

/** All of them are told of everything that they want to know. */
export function observedBy(...observers: readonly Partial<PipelineObserver>[]): PipelineObserver {
  return {
    onStreaming: () => observers.forEach((one) => one.onStreaming?.()),
    onCommit: (committed) => observers.forEach((one) => one.onCommit?.(committed)),
    onSnapshotStart: (snapshot, slot) => observers.forEach((one) => one.onSnapshotStart?.(snapshot, slot)),
    onSnapshotRows: (table, progress) => observers.forEach((one) => one.onSnapshotRows?.(table, progress)),
    onSnapshotComplete: () => observers.forEach((one) => one.onSnapshotComplete?.()),
    onBackfills: (jobs) => observers.forEach((one) => one.onBackfills?.(jobs)),
  }
}
