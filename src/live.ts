/** What a command needs to know of the pipeline that it compares or joins, without being it. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Closers } from './base/closers.js'
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import { formatLsn, type Lsn, LSN_ZERO } from './event/lsn.js'
import type { Relation } from './event/relation.js'
import type { TopicRequest } from './event/sink.js'
import { tableTopic } from './event/topic-name.js'
import type { Log } from './log/log.js'
import { qualifiedName, requireMatching, requireSelect } from './postgres/catalog.js'
import { type Connection, connect } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import { inspectPublication } from './postgres/publication.js'
import { inspectServer, requireServer } from './postgres/server.js'
import { inspectSlot } from './postgres/slot.js'
import type { Snapshot } from './postgres/snapshot.js'
import type { RowCondition } from './postgres/snapshot-units.js'
import { quoteIdentifier } from './postgres/sql.js'
import type { TablePatterns } from './postgres/table-patterns.js'
import { type ProgressState, readProgress } from './progress.js'
import { requireSameServer } from './resume.js'
import { temporarySnapshot } from './temporary-snapshot.js'

interface TablesOptions {
  readonly publication: string
  readonly patterns: TablePatterns
  readonly condition: RowCondition
  /** Error: OPTION_INVALID where a condition is of none of these tables. */
  readonly requireUsed: (tables: readonly Relation[]) => void
}

interface SnapshotBesideOptions extends LiveOptions {
  readonly publication: string
  readonly patterns: TablePatterns
  readonly connection: ConnectionOptions
  readonly readers: number
  /** Where the pipeline is published; null where nobody wants to know. */
  readonly log: Log | null
}

export interface LiveOptions {
  readonly name: string
  readonly slot: string
  readonly logger: Logger
  readonly signal: AbortSignal
}

const LOOK_EVERY_MS = 200
const SAY_AFTER_MS = 3000

/**
 * A snapshot beside a pipeline, of its tables. With a log, it is made sure that the pipeline has published into it, from this server. Gives the
 * connection, too, and the options for the host that answered.
 */
export async function snapshotBeside<Options extends SnapshotBesideOptions>(
  asked: Options,
  { condition, requireUsed }: Pick<TablesOptions, 'condition' | 'requireUsed'>,
  closers: Closers,
): Promise<{
  readonly options: Options
  readonly connection: Connection
  readonly reader: Snapshot
  readonly lsn: Lsn
}> {
  const { signal, log } = asked
  const connection = closers.add(await connect(asked.connection, { kind: 'ordinary', signal }), (c) => c.close())
  const options = { ...asked, connection: { ...asked.connection, hosts: [connection.at] } }
  const server = await inspectServer(connection)
  requireServer(server, options.connection)
  await requireTables({ ...options, condition, requireUsed }, connection, server.role)
  const live = log === null ? null : await liveState(options, log)
  const { reader, lsn, identity } = await temporarySnapshot({ ...options, condition }, { connection, server }, closers)
  if (live !== null) requireSameServer(options, identity, live)
  return { options, connection, reader, lsn }
}

/** Errors: PUBLICATION_MISSING, PUBLICATION_EMPTY, POSTGRES_PERMISSION, OPTION_INVALID. */
async function requireTables(options: TablesOptions, connection: Connection, role: string): Promise<void> {
  const { publication } = options
  if ((await inspectPublication(connection, publication)) === null) {
    throw new EvertError('PUBLICATION_MISSING', {
      message: `publication "${publication}" does not exist`,
      hint: 'evert run, or evert init, creates it; --name or --publication says which one is meant',
    })
  }
  const tables = await requireMatching(connection, options)
  requireSelect(tables, role, 'leave them out: --tables')
  options.requireUsed(tables.map(({ relation }) => relation))
  for (const { relation } of tables) {
    const condition = options.condition(relation)
    if (condition === null) continue
    const [first] = relation.columns
    const columns = first === undefined ? '' : quoteIdentifier(first.name)
    await connection
      .query(`select ${columns} from ${qualifiedName(relation)} where (${condition}) limit 0`)
      .catch((error) => {
        if (!(error instanceof EvertError) || error.retry) throw error
        throw new EvertError('OPTION_INVALID', { message: `--where: ${error.message}`, cause: error })
      })
  }
}

/** Error: PROGRESS_MISSING. */
async function liveState({ name, signal }: LiveOptions, log: Log): Promise<ProgressState> {
  const state = readProgress(name, await log.readProgress({ name, signal }))
  if (state !== null) return state
  throw new EvertError('PROGRESS_MISSING', {
    message: `pipeline "${name}" has never written into the log: there is no live topic to join`,
    hint: 'start evert run first; --name says which pipeline is meant',
  })
}

/** The live topic of a table. */
export function topicRequest(pipeline: string, relation: Relation): TopicRequest {
  return {
    name: tableTopic(pipeline, relation.schema, relation.table),
    keyed: relation.columns.some((column) => column.key),
  }
}

/** What the slot confirms is in the log, too; and it moves on where nothing is published. */
export async function passed(
  { name, slot, logger, signal }: LiveOptions,
  log: Log,
  { connection, lsn }: { readonly connection: Connection; readonly lsn: Lsn },
): Promise<void> {
  const startedMs = performance.now()
  for (let said = false; ;) {
    const logLsn = readProgress(name, await log.readProgress({ name, signal }))?.endLsn ?? LSN_ZERO
    const confirmed = (await inspectSlot(connection, slot))?.confirmedFlushLsn ?? LSN_ZERO
    if (logLsn >= lsn || confirmed >= lsn) return
    if (!said && performance.now() - startedMs > SAY_AFTER_MS) {
      said = true
      const reached = formatLsn(logLsn > confirmed ? logLsn : confirmed)
      logger.warn(
        { pipeline: name, reached, wanted: formatLsn(lsn) },
        'waiting for the live log to come as far: evert run must be running',
      )
    }
    await delay(LOOK_EVERY_MS, undefined, { signal })
  }
}
