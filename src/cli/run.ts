/** evert run: the daemon. */
import { availableParallelism } from 'node:os'
import type { Logger } from '../base/logger.js'
import { observedBy } from '../observer.js'
import { runPipeline } from '../pipeline.js'
import { tablePatterns } from '../postgres/table-patterns.js'
import type { Listening } from '../server/server.js'
import { backfillProgress } from './backfill-progress.js'
import type { RunCommand } from './command.js'
import { requireLog } from './open-log.js'
import { envelopeOf, largeValues, pipelineNames, skipsOrigin, valueOptions } from './pipeline-options.js'
import { snapshotProgress } from './snapshot-progress.js'

export const run: RunCommand = async ({ config, logger, signal }) => {
  const names = pipelineNames(config)
  const openLog = requireLog(config, { logger, create: true })
  process.title = `evert run ${names.name}`
  logger.info({ pipeline: names.name }, 'starting')
  const listening = await listen(config.listen, { pipeline: names.name, logger })
  try {
    await runPipeline({
      ...names,
      patterns: tablePatterns(config.tables ?? '*'),
      openLog,
      snapshot: config.snapshot ?? 'initial',
      readers: config.readers ?? availableParallelism(),
      requests: config.requests !== 'off',
      newTables: config['new-tables'] ?? 'backfill',
      onLoss: config['on-loss'] ?? 'stop',
      limits: { bytes: config['batch-bytes'] ?? 0, ageMs: config['batch-age'] ?? 0 },
      values: valueOptions(config),
      envelope: envelopeOf(config, names),
      largeValues: largeValues(config, logger),
      skipsOrigin: skipsOrigin(config),
      logger,
      signal,
      ...observedBy(snapshotProgress(logger), backfillProgress(logger), listening?.metrics ?? {}),
    })
  } finally {
    listening?.close()
  }
  logger.info({}, 'stopped')
}

/** What it needs is loaded only where somebody wants to ask. */
async function listen(
  address: { readonly host: string; readonly port: number } | undefined,
  of: { readonly pipeline: string; readonly logger: Logger },
): Promise<Listening | null> {
  if (address === undefined) return null
  const server = await import('../server/server.js')
  return await server.listen({ ...address, ...of })
}
