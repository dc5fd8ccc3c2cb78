/** evert status: how far a pipeline is, as the server and the log say it. It changes nothing, and needs no running daemon. */
import { setTimeout as delay } from 'node:timers/promises'
import pico from 'picocolors'
import { formatLsn, LSN_ZERO, parseLsn } from '../event/lsn.js'
import type { Log } from '../log/log.js'
import { type Notification, notificationsFrom } from '../notifications.js'
import { type Connection, connect } from '../postgres/connection.js'
import { describeHolder, inspectSlot } from '../postgres/slot.js'
import { readBackfills, readProgress } from '../progress.js'
import type { RunCommand } from './command.js'
import { logOpener } from './open-log.js'
import { type PipelineNames, pipelineNames } from './pipeline-options.js'

interface Status {
  readonly pipeline: string
  /** Null where there is none. LSNs are texts such as `0/16B3748`. */
  readonly slot: {
    readonly name: string
    /** Who reads it; null where nobody does. */
    readonly holder: string | null
    readonly confirmedLsn: string
    /** From here on the server keeps WAL. */
    readonly restartLsn: string | null
    readonly lagBytes: number | null
    readonly walStatus: string
    readonly invalidationReason: string | null
  } | null
  /** Null without --log, or where the pipeline has never written into it. */
  readonly log: {
    readonly endLsn: string
    readonly writtenAt: string | null
    readonly timeline: number
  } | null
  /** The last snapshot that the log tells of. */
  readonly snapshot: {
    readonly state: 'none' | 'running' | 'again' | 'complete'
    readonly lsn: string | null
    /** How many there are, and how many rows they were thought to have; null where none was told of. */
    readonly tables: number | null
    readonly estimatedRows: number | null
    /** Those whose rows were all read. */
    readonly done: readonly { readonly schema: string; readonly table: string; readonly rows: number }[]
  } | null
  /** Those that are not complete, as the log tells of them; the first that is not paused is under way. */
  readonly backfills: readonly {
    readonly id: string
    readonly paused: boolean
    /** `schema.table`: the first is under way; null while they are not known. */
    readonly tables: readonly string[] | null
    /** Published of that one, and of the tables before. */
    readonly rows: number
    /** Of that one, by the planner's statistics; null before it is begun. */
    readonly estimatedRows: number | null
    readonly doneTables: number
    readonly doneRows: number
  }[]
}

const WATCH_MS = 1000

export const status: RunCommand = async ({ config, logger, signal }) => {
  const names = pipelineNames(config)
  const log = (await logOpener(config, { logger, create: false })?.()) ?? null
  const connection = await connect(names.connection, { kind: 'ordinary', signal }).catch(async (error: unknown) => {
    await log?.close()
    throw error
  })
  try {
    do {
      const found = await statusOf(names, { connection, log, signal })
      const again = config.watch === true && process.stdout.isTTY ? '\x1b[2J\x1b[H' : ''
      process.stdout.write(config.json === true ? `${JSON.stringify(found)}\n` : `${again}${readable(found)}`)
      if (config.watch === true) await delay(WATCH_MS, undefined, { signal }).catch(() => undefined)
    } while (config.watch === true && !signal.aborted)
  } finally {
    await log?.close()
    await connection.close()
  }
}

async function statusOf(
  { name, slot: slotName }: PipelineNames,
  at: { readonly connection: Connection; readonly log: Log | null; readonly signal: AbortSignal },
): Promise<Status> {
  const { connection, log, signal } = at
  const slot = await inspectSlot(connection, slotName)
  const progress = log === null ? null : await log.readProgress({ name, signal })
  const state = progress === null ? null : readProgress(name, progress)
  return {
    pipeline: name,
    slot:
      slot === null
        ? null
        : {
            name: slotName,
            holder: slot.activePid === null ? null : await describeHolder(connection, slot.activePid),
            confirmedLsn: formatLsn(slot.confirmedFlushLsn),
            restartLsn: slot.restartLsn === null ? null : formatLsn(slot.restartLsn),
            lagBytes: slot.lagBytes,
            walStatus: slot.walStatus,
            invalidationReason: slot.invalidationReason,
          },
    log:
      state === null ? null : { endLsn: formatLsn(state.endLsn), writtenAt: state.writtenAt, timeline: state.timeline },
    snapshot:
      log === null || state === null ? null : { state: state.snapshot, ...(await lastSnapshot(log, name, signal)) },
    backfills: readBackfills(name, progress ?? new Map()).jobs.map(
      ({ id, paused, wanted, tables, rows, estimatedRows, doneTables, doneRows }) => {
        const names = wanted === null ? tables.map(({ schema, table }) => `${schema}.${table}`) : null
        return { id, paused, tables: names, rows, estimatedRows, doneTables, doneRows }
      },
    ),
  }
}

/** Of the notifications, what was told since the last snapshot began. */
async function lastSnapshot(
  log: Log,
  name: string,
  signal: AbortSignal,
): Promise<Omit<NonNullable<Status['snapshot']>, 'state'>> {
  const told: Notification[] = []
  for await (const one of notificationsFrom(log, name, { from: new Map(), signal })) told.push(one)
  const started = told
    .filter((one) => one.kind === 'snapshot-started')
    .toSorted((a, b) => (lsnOf(a) < lsnOf(b) ? -1 : 1))
    .at(-1)
  if (started === undefined) return { lsn: null, tables: null, estimatedRows: null, done: [] }
  const { lsn, tables, estimatedRows } = started
  const done = told.filter((one) => one.kind === 'snapshot-table').filter((one) => one.lsn === lsn)
  return { lsn, tables, estimatedRows, done: done.map(({ schema, table, rows }) => ({ schema, table, rows })) }
}

function lsnOf({ lsn }: { readonly lsn: string }): bigint {
  return parseLsn(lsn) ?? LSN_ZERO
}

function readable({ pipeline, slot, log, snapshot, backfills }: Status): string {
  const lines = [`pipeline  ${pico.bold(pipeline)}`]
  if (slot === null) lines.push(`slot      ${pico.red('none')}: evert run, or evert init, creates it`)
  else {
    const lag = slot.lagBytes === null ? '' : `, ${bytes(slot.lagBytes)} behind the server`
    lines.push(`slot      "${slot.name}", confirmed up to ${slot.confirmedLsn}${lag}`)
    lines.push(`          ${slot.holder === null ? pico.yellow('nobody reads it') : `read by ${slot.holder}`}`)
    if (slot.walStatus !== 'reserved' || slot.invalidationReason !== null)
      lines.push(
        `          ${pico.red(`WAL ${slot.walStatus}${slot.invalidationReason === null ? '' : `: ${slot.invalidationReason}`}`)}`,
      )
  }
  if (log !== null)
    lines.push(`log       ends at ${log.endLsn}${log.writtenAt === null ? '' : `, written ${log.writtenAt}`}`)
  if (snapshot !== null) {
    const rows = snapshot.done.reduce((sum, table) => sum + table.rows, 0)
    const of = `${snapshot.done.length} of ${snapshot.tables} tables done, ${rows} of about ${snapshot.estimatedRows} rows`
    lines.push(`snapshot  ${snapshot.state}${snapshot.lsn === null ? '' : ` at ${snapshot.lsn}, ${of}`}`)
  }
  for (const { id, paused, tables, rows, estimatedRows, doneTables, doneRows } of backfills) {
    const count = estimatedRows === null ? `${rows} rows` : `${rows} of about ${estimatedRows} rows`
    const of = tables === null ? 'waits' : `${count} of ${tables[0]}, ${tables.length - 1} tables to come`
    const done = `${doneTables} tables and ${doneRows} rows done`
    lines.push(`backfill  "${id}"${paused ? ` ${pico.yellow('paused')}` : ''}: ${of}; ${done}`)
  }
  return `${lines.join('\n')}\n`
}

function bytes(count: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  const unit = Math.min(Math.floor(Math.log2(Math.max(count, 1)) / 10), units.length - 1)
  const value = count / 1024 ** unit
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}
