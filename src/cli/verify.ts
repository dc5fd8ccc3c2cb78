/** evert verify: whether the log equals the tables. */
import { availableParallelism } from 'node:os'
import pico from 'picocolors'
import { EvertError } from '../base/errors.js'
import { quoteIdentifier } from '../postgres/sql.js'
import { tablePatterns } from '../postgres/table-patterns.js'
import { type TableVerdict, type Verification, verify } from '../verify.js'
import type { RunCommand } from './command.js'
import { requireLog } from './open-log.js'
import { envelopeOf, pipelineNames, valueOptions } from './pipeline-options.js'
import { sendRequest } from './request-backfill.js'
import { snapshotProgress } from './snapshot-progress.js'

export const verifyCommand: RunCommand = async ({ config, logger, signal }) => {
  const names = pipelineNames(config)
  const log = await requireLog(config, { logger, create: false })()
  const progress = snapshotProgress(logger)
  try {
    const found = await verify({
      ...names,
      patterns: tablePatterns(config.tables ?? '*'),
      readers: config.readers ?? availableParallelism(),
      sample: config.sample ?? 1,
      values: valueOptions(config),
      envelope: envelopeOf(config, names),
      log,
      logger,
      signal,
      ...progress,
    })
    process.stdout.write(config.json === true ? `${JSON.stringify(found)}\n` : readable(found))
    const different = found.tables.filter(({ verdict }) => verdict === 'different')
    if (different.length === 0) return
    if (config.repair === true) {
      const id = `repair ${new Date().toISOString()}`
      for (const [part, tables] of tableLists(different).entries()) {
        const asked = { pipeline: names.name, id: `${id} ${part}`, tables, columns: null, maxRowsPerSecond: null }
        const to = { names, log, json: config.json === true, logger, signal }
        await sendRequest({ do: 'snapshot', ...asked }, to).catch((error: unknown) => {
          if (!(error instanceof EvertError) || error.code !== 'BACKFILL_REFUSED') throw error
          logger.error({ code: error.code }, error.message)
        })
      }
    }
    throw new EvertError('LOG_DIFFERS', {
      message: `the log of pipeline "${names.name}" differs from ${different.map(nameOf).join(', ')} at ${found.lsn}`,
      hint:
        config.repair === true
          ? 'the rows of these tables have been published again, but for those that were refused: verify again. Keys that are not in the table any more stay in the log'
          : '--repair publishes the rows of these tables again; please report how it came to this',
    })
  } finally {
    progress.end()
    await log.close()
  }
}

/** What a request takes is less than 2,000 characters. */
const LIST_LENGTH = 1500

/** Lists of tables, as --tables takes them. */
export function tableLists(tables: readonly Pick<TableVerdict, 'schema' | 'table'>[]): string[] {
  const lists: string[] = []
  for (const { schema, table } of tables) {
    const name = `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`
    const last = lists.at(-1)
    if (last === undefined || last.length + name.length > LIST_LENGTH) lists.push(name)
    else lists[lists.length - 1] = `${last},${name}`
  }
  return lists
}

const nameOf = ({ schema, table }: TableVerdict): string => `${schema}.${table}`

function readable({ lsn, tables }: Verification): string {
  const lines = tables.flatMap((table) => [verdictOf(table), ...table.first.map(differenceOf)])
  return `at ${lsn}\n${lines.join('\n')}\n`
}

function verdictOf(table: TableVerdict): string {
  const { verdict, rows, differences, notCompared } = table
  if (verdict === null) return `  ${nameOf(table)}: ${pico.yellow('not compared')}, it has no key`
  const unknown = notCompared === 0 ? '' : `, ${notCompared} values not compared`
  const said = verdict === 'equal' ? pico.green('equal') : pico.red(`${differences} differences`)
  return `  ${nameOf(table)}: ${rows} rows, ${said}${unknown}`
}

function differenceOf({ kind, key, position, columns }: TableVerdict['first'][number]): string {
  const where = position === null ? '' : ` at ${position}`
  const of = columns.length === 0 ? '' : ` (${columns.join(', ')})`
  return `    ${kind} ${key ?? ''}${of}${where}`
}
