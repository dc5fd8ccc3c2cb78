/** Asks evert run, through the WAL, to publish rows into the live topics, and tells what becomes of it. */
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError } from '../base/errors.js'
import type { Logger } from '../base/logger.js'
import type { Log } from '../log/log.js'
import { notificationEnds, notificationsFrom } from '../notifications.js'
import { type BackfillJob, type BackfillNews, type BackfillRequest, objectionTo } from '../postgres/backfill-state.js'
import { connect } from '../postgres/connection.js'
import { inspectSlot } from '../postgres/slot.js'
import { sql } from '../postgres/sql.js'
import { tablePatterns } from '../postgres/table-patterns.js'
import { readBackfills } from '../progress.js'
import { backfillProgress } from './backfill-progress.js'
import type { RunCommand } from './command.js'
import { logOpener } from './open-log.js'
import { type PipelineNames, pipelineNames } from './pipeline-options.js'

const LOOK_MS = 200
const LOOKS_A_PROGRESS = 5

/** Until it is complete; with no --log until it was asked for. Errors: OPTION_INVALID, OPTION_MISSING, BACKFILL_REFUSED. */
export const requestBackfill: RunCommand = async ({ config, logger, signal }) => {
  if (config.where !== undefined) {
    throw new EvertError('OPTION_INVALID', {
      message:
        '--where needs --into: whoever may write a message into the WAL must not choose what SQL evert run executes',
      hint: '--into TOPIC, ./file or -',
    })
  }
  const names = pipelineNames(config)
  const tables = config.tables ?? '*'
  tablePatterns(tables)
  const id = config.id ?? new Date().toISOString()
  const { control } = config
  if (control !== undefined && config.id === undefined) {
    throw new EvertError('OPTION_MISSING', {
      message: `--control ${control} needs --id`,
      hint: 'evert status tells the ids',
    })
  }
  const columns = config.columns?.split(',').map((column) => column.trim())
  const common = { pipeline: names.name, id }
  const request: BackfillRequest =
    control === undefined
      ? {
          do: 'snapshot',
          ...common,
          tables,
          columns: columns ?? null,
          maxRowsPerSecond: config['max-rows-per-second'] ?? null,
        }
      : { do: control, ...common }
  const objection = objectionTo(request)
  if (objection !== null)
    throw new EvertError('OPTION_INVALID', { message: `evert run would not understand the request: ${objection}` })
  const log = (await logOpener(config, { logger, create: false })?.()) ?? null
  try {
    await sendRequest(request, { names, log, json: config.json === true, logger, signal })
  } finally {
    await log?.close()
  }
}

/** Error: BACKFILL_REFUSED. */
export async function sendRequest(
  request: BackfillRequest,
  to: {
    readonly names: PipelineNames
    /** Null where nobody asks what becomes of it. */
    readonly log: Log | null
    readonly json: boolean
    readonly logger: Logger
    readonly signal: AbortSignal
  },
): Promise<void> {
  const { names, log, json, logger, signal } = to
  const { id } = request
  const jobs = async (): Promise<BackfillJob[]> =>
    log === null ? [] : readBackfills(names.name, await log.readProgress({ name: names.name, signal })).jobs
  if (request.do === 'snapshot' && (await jobs()).some((job) => job.id === id))
    throw new EvertError('BACKFILL_REFUSED', { message: `a backfill "${id}" is there already`, hint: 'another --id' })
  const from = log === null ? null : await notificationEnds(log, names.name)
  const connection = await connect(names.connection, { kind: 'ordinary', signal })
  try {
    const slot = await inspectSlot(connection, names.slot)
    if (slot === null) {
      throw new EvertError('BACKFILL_REFUSED', {
        message: `slot "${names.slot}" does not exist: there is no pipeline that could be asked`,
        hint: 'evert run, which publishes all rows at its first start; or --into',
      })
    }
    if (slot.activePid === null)
      logger.warn({ slot: names.slot }, 'nobody reads the slot: evert run does what is asked for once it runs')
    const [row] = await connection.query(sql('request', { request: JSON.stringify(request) }))
    logger.info({ id, lsn: row?.['lsn'] }, `${request.do} asked for`)
  } finally {
    await connection.close()
  }
  if (log === null || from === null) return say(json, { kind: 'asked', id })
  const over = OVER[request.do]
  const refused: string[] = []
  const progress = backfillProgress(logger)
  const look = async (): Promise<void> => progress.onBackfills((await jobs()).filter((job) => job.id === id))
  try {
    for await (const news of newsOf(log, names.name, { from, id, look, signal })) {
      progress.onBackfills([])
      if (request.do !== 'snapshot' && news.kind !== over && news.kind !== 'backfill-refused') continue
      say(json, news)
      if (news.kind === 'backfill-refused') {
        refused.push(news.table === undefined ? news.reason : `${news.schema}.${news.table}: ${news.reason}`)
        if (news.table === undefined) break
      }
      if (news.kind === over) break
      if (news.kind === 'backfill-cancelled') {
        refused.push('it was cancelled')
        break
      }
    }
  } finally {
    progress.onBackfills([])
  }
  if (refused.length > 0)
    throw new EvertError('BACKFILL_REFUSED', { message: `backfill "${id}": ${refused.join('; ')}` })
}

/** What says that a request was fulfilled. */
const OVER = {
  snapshot: 'backfill-complete',
  pause: 'backfill-paused',
  resume: 'backfill-resumed',
  cancel: 'backfill-cancelled',
} as const

function say(json: boolean, news: BackfillNews | { readonly kind: 'asked'; readonly id: string }): void {
  const { kind, id, ...rest } = news
  const details = Object.entries(rest).map(([name, value]) => `${name} ${value}`)
  const text = json ? JSON.stringify(news) : [`${id}: ${kind.replace('backfill-', '')}`, ...details].join(', ')
  process.stdout.write(`${text}\n`)
}

/** What is told of one backfill from now on; between that it is looked how far it is. */
async function* newsOf(
  log: Log,
  pipeline: string,
  {
    from,
    id,
    look,
    signal,
  }: {
    readonly from: Map<number, bigint>
    readonly id: string
    readonly look: () => Promise<void>
    readonly signal: AbortSignal
  },
): AsyncGenerator<BackfillNews> {
  for (let looks = 0; ; looks++) {
    for await (const told of notificationsFrom(log, pipeline, { from, signal }))
      if ('id' in told && told.id === id) yield told
    if (looks % LOOKS_A_PROGRESS === 0) await look()
    await delay(LOOK_MS, undefined, { signal })
  }
}
