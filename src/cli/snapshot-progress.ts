/** How far a snapshot is: a bar on a terminal, a line every ten seconds elsewhere. */
import { SingleBar } from 'cli-progress'
import type { Logger } from '../base/logger.js'
import { type PublishedTable, qualifiedName } from '../postgres/catalog.js'

const LINE_EVERY_MS = 10_000

export interface SnapshotProgress {
  readonly onSnapshotStart: (tables: readonly PublishedTable[]) => void
  /** Rows of the table so far. */
  readonly onSnapshotRows: (table: PublishedTable, rows: number) => void
  readonly onSnapshotComplete: () => void
}

export function snapshotProgress(logger: Logger): SnapshotProgress {
  const done = new Map<PublishedTable, number>()
  let bar: SingleBar | null = null
  let total = 0
  let lastLineMs = 0
  const rows = (): number => [...done.values()].reduce((sum, count) => sum + count, 0)
  return {
    onSnapshotStart(tables) {
      done.clear()
      bar?.stop()
      // Planner statistics: an estimate, which the bar outgrows where the table did.
      total = tables.reduce((sum, table) => sum + table.estimatedRows, 0)
      lastLineMs = performance.now()
      logger.info({ tables: tables.length, estimatedRows: total }, 'snapshot starts')
      if (!process.stderr.isTTY) return
      bar = new SingleBar({
        stream: process.stderr,
        format: 'snapshot {bar} {value} of about {total} rows, {duration_formatted}  {table}',
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
        logger.info({ rows: sum, estimatedRows: total, table: qualifiedName(table.relation) }, 'snapshot goes on')
      }
    },
    onSnapshotComplete() {
      bar?.stop()
      bar = null
    },
  }
}
