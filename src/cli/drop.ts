/** evert drop: removes what a pipeline has left behind in the server and in the log, after showing what would go. */
import { createInterface } from 'node:readline/promises'
import { EvertError } from '../base/errors.js'
import { formatLsn } from '../event/lsn.js'
import { isTopicOf } from '../event/topic-name.js'
import type { Log } from '../log/log.js'
import { type Connection, connect } from '../postgres/connection.js'
import { dropPublication, inspectPublication } from '../postgres/publication.js'
import { describeHolder, dropSlot, inspectSlot } from '../postgres/slot.js'
import type { RunCommand } from './command.js'
import { logOpener } from './open-log.js'
import { type PipelineNames, pipelineNames } from './pipeline-options.js'

/** One thing that would go. */
interface Removal {
  readonly what: string
  readonly remove: () => Promise<void>
}

export const drop: RunCommand = async ({ config, logger, signal }) => {
  const names = pipelineNames(config)
  const openLog = logOpener(config, { logger, create: false })
  if (openLog === null && config.topics === true) {
    throw new EvertError('OPTION_MISSING', {
      message: '--topics needs --log',
      hint: 'kafka://host:port, or a directory',
    })
  }
  const connection = await connect(names.connection, { kind: 'ordinary', signal })
  let log: Log | null = null
  try {
    log = openLog === null ? null : await openLog()
    const removals = [
      ...(await inServer(connection, names)),
      ...(log === null ? [] : await inLog(log, names.name, { topics: config.topics === true })),
    ]
    process.stdout.write(description(names.name, removals, log !== null))
    if (removals.length === 0) return
    if (config.yes !== true && !(await confirmed(names.name, signal))) return
    for (const { what, remove } of removals) {
      await remove()
      logger.info({}, `removed: ${what}`)
    }
  } finally {
    await log?.close()
    await connection.close()
  }
}

/** Error: SLOT_ACTIVE, before anything is removed. */
async function inServer(connection: Connection, names: PipelineNames): Promise<Removal[]> {
  const removals: Removal[] = []
  const slot = await inspectSlot(connection, names.slot)
  if (slot !== null && slot.activePid !== null) {
    throw new EvertError('SLOT_ACTIVE', {
      message: `slot "${names.slot}" is in use by ${await describeHolder(connection, slot.activePid)}`,
      hint: 'stop that process first; nothing was removed',
    })
  }
  if (slot !== null) {
    const { plugin, database, confirmedFlushLsn } = slot
    if (plugin !== 'pgoutput' || database !== names.connection.database) {
      throw new EvertError('SLOT_FOREIGN', {
        message: `slot "${names.slot}" (plugin "${plugin}", database "${database}") is not one of evert's: nothing was removed`,
        hint: 'choose another: --slot',
      })
    }
    removals.push({
      what: `slot "${names.slot}" with its WAL since ${formatLsn(confirmedFlushLsn)}`,
      remove: () => dropSlot(connection, names.slot),
    })
  }
  if ((await inspectPublication(connection, names.publication)) !== null) {
    removals.push({
      what: `publication "${names.publication}"`,
      remove: () => dropPublication(connection, names.publication),
    })
  }
  return removals
}

async function inLog(log: Log, name: string, { topics: withTopics }: { readonly topics: boolean }): Promise<Removal[]> {
  // Also one without an entry, which a start that came no further left.
  const known = (await log.pipelines()).includes(name)
  // Not those that only begin with its name, such as that of a private bootstrap.
  const topics = withTopics ? (await log.topics(`${name}.`)).filter((topic) => isTopicOf(name, topic.name)) : []
  return [
    ...topics.map((topic) => ({
      what: `topic "${topic.name}" with its events`,
      remove: () => log.deleteTopics([topic.name]),
    })),
    ...(known ? [{ what: `progress of pipeline "${name}" in the log`, remove: () => log.deleteProgress(name) }] : []),
  ]
}

function description(name: string, removals: readonly Removal[], withLog: boolean): string {
  if (removals.length === 0) return `nothing of pipeline "${name}" is there\n`
  const note = withLog
    ? ''
    : 'The progress in the log stays, and will not fit a new slot: give --log to remove it too.\n'
  return `This removes, of pipeline "${name}":\n${removals.map(({ what }) => `  ${what}\n`).join('')}${note}`
}

/** Error: OPTION_MISSING where nobody can be asked. */
async function confirmed(name: string, signal: AbortSignal): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new EvertError('OPTION_MISSING', { message: 'nothing was removed: --yes was not given', hint: '--yes' })
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  try {
    const answer = await terminal.question(`Type ${name} to remove it: `, { signal })
    if (answer.trim() === name) return true
    process.stdout.write('nothing was removed\n')
    return false
  } catch (error) {
    if (signal.aborted) return false
    throw error
  } finally {
    terminal.close()
  }
}
