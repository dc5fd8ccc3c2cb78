/** evert snapshot: bootstrap one consumer, or have evert run publish rows again. */
import { availableParallelism } from 'node:os'
import { EvertError } from '../base/errors.js'
import { type Bootstrap, bootstrap } from '../bootstrap.js'
import type { Relation } from '../event/relation.js'
import { tablePatterns } from '../postgres/table-patterns.js'
import type { RowCondition } from '../postgres/snapshot-units.js'
import type { RunCommand } from './command.js'
import { destination } from './destination.js'
import { logOpener } from './open-log.js'
import { envelopeOf, largeValues, pipelineNames, valueOptions } from './pipeline-options.js'
import { requestBackfill } from './request-backfill.js'
import { snapshotProgress } from './snapshot-progress.js'

export const snapshot: RunCommand = async ({ config, logger, signal }) => {
  const names = pipelineNames(config)
  const { into } = config
  if (into === undefined) return await requestBackfill({ config, logger, signal })
  const misplaced = (['columns', 'max-rows-per-second', 'control', 'id'] as const).find(
    (option) => config[option] !== undefined,
  )
  if (misplaced !== undefined) {
    throw new EvertError('OPTION_INVALID', {
      message: `--${misplaced} is for a backfill by evert run, and --into makes a snapshot of its own`,
      hint: `leave out --into, or --${misplaced}`,
    })
  }
  const where = conditions(config.where ?? '')
  const log = (await logOpener(config, { logger, create: false })?.()) ?? null
  const progress = snapshotProgress(logger)
  try {
    const to = destination(into, { pipeline: names.name, format: config.format ?? 'evert', log, signal })
    const done = await bootstrap({
      ...names,
      patterns: tablePatterns(config.tables ?? '*'),
      ...where,
      readers: config.readers ?? availableParallelism(),
      batchBytes: config['batch-bytes'] ?? 0,
      values: valueOptions(config),
      envelope: envelopeOf(config, names),
      largeValues: largeValues(config, logger),
      into,
      openWriter: to.openWriter,
      log,
      logger,
      signal,
      ...progress,
    })
    await to.complete()
    const rows = done.tables.reduce((sum, table) => sum + table.rows, 0)
    logger.info({ lsn: done.lsn, tables: done.tables.length, rows, into }, 'snapshot complete')
    if (into !== '-')
      process.stdout.write(config.json === true ? `${JSON.stringify({ into, ...done })}\n` : readable(into, done))
  } finally {
    progress.end()
    await log?.close()
  }
}

/** What is quoted, and where a condition ends: before the next table. */
const NEXT = /'[^']*'|"[^"]*"|(?<end>;\s*)(?=(?:[\w*?$-]+\.)?[\w*?$-]+\s*:(?!:))/g
const CONDITION = /^(?<pattern>[^\s:]+)\s*:(?!:)\s*(?<condition>[^]*?);?$/

/** `public.orders: created > now() - interval '30 days'; item: not deleted`. Error: OPTION_INVALID. */
function conditions(text: string): {
  readonly condition: RowCondition
  readonly requireUsed: (tables: readonly Relation[]) => void
} {
  const found = text
    .replace(NEXT, (kept, end?: string) => (end === undefined ? kept : '\0'))
    .split('\0')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => {
      const { pattern = '', condition = '' } = CONDITION.exec(part)?.groups ?? {}
      if (condition !== '') return { pattern, patterns: tablePatterns(pattern), condition }
      throw new EvertError('OPTION_INVALID', {
        message: `--where: "${part}" is not a table and a condition`,
        hint: `--where 'public.orders: total > 100; public.items: not deleted'`,
      })
    })
  return {
    condition({ schema, table }) {
      const own = found.filter(({ patterns }) => patterns.matches(schema, table))
      return own.length === 0 ? null : own.map(({ condition }) => `(${condition})`).join(' and ')
    },
    requireUsed(tables) {
      for (const { pattern, patterns } of found) {
        if (tables.some(({ schema, table }) => patterns.matches(schema, table))) continue
        throw new EvertError('OPTION_INVALID', {
          message: `--where: "${pattern}" is none of the ${tables.length} tables of this snapshot`,
          hint: `the tables are ${tables
            .map(({ schema, table }) => `${schema}.${table}`)
            .slice(0, 20)
            .join(', ')}`,
        })
      }
    },
  }
}

function readable(into: string, { lsn, position, tables }: Bootstrap): string {
  const rows = tables.map((table) => `  ${table.schema}.${table.table}: ${table.rows.toLocaleString('en')} rows`)
  const joins = tables.flatMap(({ topic, offsets }) =>
    topic !== null && offsets.length === 0
      ? [`  ${topic} from its beginning: it is still to come`]
      : offsets.map((offset, partition) => `  ${topic} partition ${partition} from offset ${offset}`),
  )
  const lines = [`${into}: the rows as they were at ${lsn}`, ...rows]
  if (joins.length > 0) lines.push(`then, from position ${position} on:`, ...joins)
  return `${lines.join('\n')}\n`
}
