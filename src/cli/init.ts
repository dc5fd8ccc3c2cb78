/** evert init: what evert run needs in the server, made where it is allowed, and printed as SQL where it is not. */
import pico from 'picocolors'
import { EvertError, isRetriable } from '../base/errors.js'
import { formatLsn } from '../event/lsn.js'
import { publishedTables, qualifiedName, requireSelect, unidentifiable, WITHOUT_IDENTITY } from '../postgres/catalog.js'
import { type Connection, connect } from '../postgres/connection.js'
import { describeServer } from '../postgres/connection-options.js'
import { createPublication, inspectPublication, publicationStatement } from '../postgres/publication.js'
import { inspectServer, requireServer, type Server } from '../postgres/server.js'
import { canFailOver, createPlainSlot, inspectSlot, requireSlot } from '../postgres/slot.js'
import { tablePatterns } from '../postgres/table-patterns.js'
import type { CommandContext, RunCommand } from './command.js'
import { type PipelineNames, pipelineNames } from './pipeline-options.js'

/** One thing that evert run needs. */
interface Step {
  readonly step: 'server' | 'publication' | 'slot' | 'select'
  readonly state: 'found' | 'created' | 'left to do'
  readonly detail: string
  /** What somebody who may has to run or change, where it is left to do. */
  readonly todo?: string
  /** What stops nothing of evert, but something of somebody else. */
  readonly warning?: string
}

export const init: RunCommand = async ({ config, signal }) => {
  const names = pipelineNames(config)
  const connection = await connect(names.connection, { kind: 'ordinary', signal })
  try {
    const steps = await takeSteps(connection, names, config)
    process.stdout.write(config.json === true ? json(names, steps) : text(names, steps))
    const left = steps.filter(({ state }) => state === 'left to do')
    if (left.length === 0) return
    const what = left.map(({ step }) => step).join(', ')
    throw new EvertError('INIT_INCOMPLETE', {
      message: `pipeline "${names.name}" is not ready: ${what}`,
      hint: 'do what is printed, then run evert init again',
    })
  } finally {
    await connection.close()
  }
}

async function takeSteps(
  connection: Connection,
  names: PipelineNames,
  config: CommandContext['config'],
): Promise<Step[]> {
  const server = await inspectServer(connection)
  const steps = [
    await attempt('server', async () => {
      requireServer(server, names.connection)
      return { state: 'found', detail: describeServer(names.connection) }
    }),
    await attempt('publication', () => publication(connection, names, { config, server })),
  ]
  if (steps.every(({ state }) => state !== 'left to do')) {
    steps.push(await attempt('select', () => select(connection, names, server)))
    steps.push(await attempt('slot', () => slot(connection, names, server)))
  } else {
    // A slot keeps WAL from the moment it exists: it comes when nothing else is missing.
    steps.push({ step: 'slot', state: 'left to do', detail: `"${names.slot}" is created when the rest is there` })
  }
  return steps
}

type Found = Pick<Step, 'state' | 'detail' | 'warning'>

/** What a person must do is a result here, and not an error; what may pass by itself stays one. */
async function attempt(what: Step['step'], take: () => Promise<Found>): Promise<Step> {
  try {
    return { step: what, ...(await take()) }
  } catch (error) {
    if (!(error instanceof EvertError) || isRetriable(error)) throw error
    return {
      step: what,
      state: 'left to do',
      detail: error.message,
      ...(error.hint === undefined ? {} : { todo: error.hint }),
    }
  }
}

async function publication(
  connection: Connection,
  { publication: name }: PipelineNames,
  { config, server }: { config: CommandContext['config']; server: Server },
): Promise<Found> {
  const there = await inspectPublication(connection, name)
  if (there === null) {
    const patterns = tablePatterns(config.tables ?? '*')
    await createPublication(connection, await publicationStatement(connection, { publication: name, patterns, server }))
  }
  const tables = await publishedTables(connection, name)
  if (tables.length === 0) {
    throw new EvertError('PUBLICATION_EMPTY', {
      message: `publication "${name}" has no table`,
      hint: `alter publication "${name}" add table …`,
    })
  }
  const names = tables.map((table) => qualifiedName(table.relation))
  const detail = `"${name}" of ${names.join(', ')}`
  const without = unidentifiable(tables)
  const warning = without.length === 0 ? {} : { warning: `${without.join(', ')}: ${WITHOUT_IDENTITY}` }
  return { state: there === null ? 'created' : 'found', detail, ...warning }
}

async function select(connection: Connection, names: PipelineNames, server: Server): Promise<Found> {
  const tables = await publishedTables(connection, names.publication)
  requireSelect(tables, server.role)
  return { state: 'found', detail: `role "${server.role}" may read ${tables.length} tables` }
}

async function slot(connection: Connection, names: PipelineNames, server: Server): Promise<Found> {
  const there = await inspectSlot(connection, names.slot)
  if (there !== null) {
    requireSlot(there, names.connection.database)
    return { state: 'found', detail: `"${names.slot}", confirmed up to ${formatLsn(there.confirmedFlushLsn)}` }
  }
  const lsn = await createPlainSlot(connection, names.slot, canFailOver(server))
  return { state: 'created', detail: `"${names.slot}" at ${formatLsn(lsn)}; it keeps WAL from now on` }
}

function json({ name, slot: slotText, publication: publicationText }: PipelineNames, steps: readonly Step[]): string {
  return `${JSON.stringify({ name, slot: slotText, publication: publicationText, steps })}\n`
}

const SIGNS = { found: pico.green('✓ found  '), created: pico.green('✓ created'), 'left to do': pico.red('✗ to do  ') }

function text({ name }: PipelineNames, steps: readonly Step[]): string {
  const lines = steps.map(({ step: what, state, detail, todo, warning }) => {
    const more = [warning, todo].flatMap((told) =>
      told === undefined ? [] : [`\n${' '.repeat(22)}${pico.yellow(told)}`],
    )
    return `${SIGNS[state]} ${pico.bold(what.padEnd(11))} ${detail}${more.join('')}`
  })
  return `pipeline ${pico.bold(name)}\n${lines.join('\n')}\n`
}
