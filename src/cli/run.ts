/** evert run: the daemon. */
import { availableParallelism } from 'node:os'
import { runPipeline } from '../pipeline.js'
import { tablePatterns } from '../postgres/table-patterns.js'
import type { RunCommand } from './command.js'
import { requireLog } from './open-log.js'
import { envelopeOf, largeValues, pipelineNames, skipsOrigin, valueOptions } from './pipeline-options.js'
import { snapshotProgress } from './snapshot-progress.js'

export const run: RunCommand = async ({ config, logger, signal }) => {
  const names = pipelineNames(config)
  const openLog = requireLog(config, { logger, create: true })
  process.title = `evert run ${names.name}`
  logger.info({ pipeline: names.name }, 'starting')
  await runPipeline({
    ...names,
    patterns: tablePatterns(config.tables ?? '*'),
    openLog,
    snapshot: config.snapshot ?? 'initial',
    readers: config.readers ?? availableParallelism(),
    onLoss: config['on-loss'] ?? 'stop',
    limits: { bytes: config['batch-bytes'] ?? 0, ageMs: config['batch-age'] ?? 0 },
    values: valueOptions(config),
    envelope: envelopeOf(config, names),
    largeValues: largeValues(config, logger),
    skipsOrigin: skipsOrigin(config),
    logger,
    signal,
    onStreaming: () => undefined,
    onCommit: () => undefined,
    ...snapshotProgress(logger),
  })
  logger.info({}, 'stopped')
}
