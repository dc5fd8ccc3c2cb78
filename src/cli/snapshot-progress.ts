/** How far a snapshot is: a bar on a terminal, a line every ten seconds elsewhere. */
import { SingleBar } from 'cli-progress'
import type { Logger } from '../base/logger.js'
import { type PublishedTable, qualifiedName } from '../postgres/catalog.js'
import type { OnSnapshotStart } from '../postgres/snapshot.js'

const LINE_EVERY_MS = 10_000

export interface SnapshotProgress {
  readonly onSnapshotStart: OnSnapshotStart
  /** Rows of the table so far. */
  readonly onSnapshotRows: (table: PublishedTable, rows: number) => void
  readonly onSnapshotComplete: () => void
}

export function snapshotProgress(logger: Logger): SnapshotProgress {
  const done = new Map<PublishedTable, number>()
  let bar: SingleBar | null = null
  let total = 0
  let lastLineMs = 0
  let startedMs = 0
  const rows = (): number => [...done.values()].reduce((sum, count) => sum + count, 0)
  return {
    onSnapshotStart({ tables, cost }, slot) {
      done.clear()
      bar?.stop()
      // Planner statistics: an estimate, which the bar outgrows where the table did.
      total = cost.rows
      startedMs = lastLineMs = performance.now()
      const { bytes, seconds, walBytes } = cost
      const estimate = { estimatedRows: total, bytes, estimatedSeconds: seconds, estimatedWalBytes: walBytes }
      logger.info({ tables: tables.length, ...estimate }, 'snapshot starts')
      if (slot !== null && slot.walKeepBytes !== null && walBytes > slot.walKeepBytes / 2) {
        logger.warn(
          { estimatedWalBytes: walBytes, walKeepBytes: slot.walKeepBytes },
          'the slot may be lost before the snapshot is published: raise max_slot_wal_keep_size for as long, or snapshot when less is written',
        )
      }
      if (!process.stderr.isTTY) return
      bar = new SingleBar({
        stream: process.stderr,
        format: 'snapshot {bar} {value} of about {total} rows, {duration_formatted}, {eta_formatted} left  {table}',
        clearOnComplete: true,
      })
      bar.start(total, 0, { table: '' })
    },
    onSnapshotRows(table, count) {
      done.set(table, count)
      const sum = rows()
      if (bar !== null) {
        if (sum > total) bar.setTotal(sum)
        bar.update(sum, { table: qualifiedName(table.relation) })
      } else if (performance.now() - lastLineMs >= LINE_EVERY_MS) {
        lastLineMs = performance.now()
        const rowsASecond = Math.round((sum / (lastLineMs - startedMs)) * 1000)
        const secondsLeft = total > sum ? Math.ceil((total - sum) / rowsASecond) : null
        const progress = { rows: sum, estimatedRows: total, rowsASecond, secondsLeft }
        logger.info({ ...progress, table: qualifiedName(table.relation), tableRows: count }, 'snapshot goes on')
      }
    },
    onSnapshotComplete() {
      bar?.stop()
      bar = null
    },
  }
}
