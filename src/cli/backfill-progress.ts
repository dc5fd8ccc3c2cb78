/** How far the live backfill is that is under way. */
import type { Logger } from '../base/logger.js'
import type { PipelineObserver } from '../observer.js'
import { RowsProgress } from './rows-progress.js'

export function backfillProgress(logger: Logger): Pick<PipelineObserver, 'onBackfills' | 'onState'> {
  const progress = new RowsProgress('backfill', logger)
  let shown = ''
  const end = (): void => {
    shown = ''
    progress.end()
  }
  return {
    onState: end,
    onBackfills(jobs) {
      const job = jobs.find(({ paused, estimatedRows }) => !paused && estimatedRows !== null)
      const [table] = job?.tables ?? []
      if (job === undefined || table === undefined) return end()
      const name = `${table.schema}.${table.table}`
      const { id, rows } = job
      const at = { rows, estimatedRows: job.estimatedRows ?? 0 }
      if (shown !== `${id} ${name}`) progress.begin(at)
      shown = `${id} ${name}`
      progress.at(at, name, { id, tablesLeft: job.tables.length })
    },
  }
}
