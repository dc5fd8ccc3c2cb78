/** What a snapshot will cost, and how far it is. */
import type { Logger } from '../base/logger.js'
import type { PipelineObserver } from '../observer.js'
import { type PublishedTable, qualifiedName } from '../postgres/catalog.js'
import type { SnapshotObserver } from '../postgres/snapshot.js'
import { RowsProgress } from './rows-progress.js'

/** `end` is for whoever does not tell of a state; `onState` for a pipeline. */
export function snapshotProgress(
  logger: Logger,
): SnapshotObserver & Pick<PipelineObserver, 'onState'> & { readonly end: () => void } {
  const progress = new RowsProgress('snapshot', logger)
  const done = new Map<PublishedTable, number>()
  let sum = 0
  let estimatedRows = 0
  return {
    onSnapshotStart({ tables, cost }, slot) {
      done.clear()
      sum = 0
      estimatedRows = cost.rows
      const { bytes, seconds, walBytes } = cost
      const estimate = { estimatedRows, bytes, estimatedSeconds: seconds, estimatedWalBytes: walBytes }
      logger.info({ tables: tables.length, ...estimate }, 'snapshot starts')
      if (slot !== null && slot.walKeepBytes !== null && walBytes > slot.walKeepBytes / 2) {
        logger.warn(
          { estimatedWalBytes: walBytes, walKeepBytes: slot.walKeepBytes },
          'the slot may be lost before the snapshot is published: raise max_slot_wal_keep_size for as long, or snapshot when less is written',
        )
      }
      progress.begin({ rows: 0, estimatedRows })
    },
    onSnapshotRows(table, { rows, bytes }) {
      sum += rows - (done.get(table) ?? 0)
      done.set(table, rows)
      const ofTable = { tableRows: rows, tableBytes: Math.round(bytes), ofTableBytes: table.bytes }
      progress.at({ rows: sum, estimatedRows }, qualifiedName(table.relation), ofTable)
    },
    onSnapshotComplete: () => progress.end(),
    onState(state) {
      if (state !== 'snapshot') progress.end()
    },
    end: () => progress.end(),
  }
}
