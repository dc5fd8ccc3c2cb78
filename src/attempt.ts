/**
 * Attempt: everything between a start and the first change. It makes the topics that are missing; takes the slot, which is the lock of a
 * pipeline; then fences earlier writers; then reads the progress back and compares it with the server. Nothing is acknowledged before all of that agrees.
 */
import { Closers } from './base/closers.js'
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import type { Envelope } from './event/envelope.js'
import { formatLsn, type Lsn } from './event/lsn.js'
import { lastingTopic, notificationTopic, schemaTopic } from './event/topic-name.js'
import type { LargeValues } from './event/transcoder.js'
import type { ValueOptions } from './event/type-kinds.js'
import type { Log, LogWriter } from './log/log.js'
import {
  describeRelation,
  type PublishedTable,
  requireMatching,
  requireSelect,
  unidentifiable,
  WITHOUT_IDENTITY,
} from './postgres/catalog.js'
import { type Connection, connect } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import { CopySocket } from './postgres/copy-socket.js'
import { createPublication, inspectPublication, publicationStatement } from './postgres/publication.js'
import type { BatchLimits } from './postgres/batch.js'
import { ReplicationStream } from './postgres/replication-stream.js'
import { identifySystem, inspectServer, requireServer, type Server } from './postgres/server.js'
import { type CreatedSlot, inspectSlot } from './postgres/slot.js'
import { type CreateOptions, createMissingSlot, replaceSlot, requireOwnSlot, standBy } from './pipeline-slot.js'
import { temporarySnapshot } from './temporary-snapshot.js'
import { topicRequest } from './live.js'
import { gapOf, lastLsn, progressOrNull, requireBeyond, tableTopics } from './loss.js'
import { notifier } from './notifications.js'
import type { PipelineObserver } from './observer.js'
import { type OnLoss, resume } from './resume.js'
import { Snapshot } from './postgres/snapshot.js'
import type { TablePatterns } from './postgres/table-patterns.js'
import type { RelationMemory } from './postgres/tables.js'
import type { ProgressKeeper } from './progress.js'

export interface PipelineOptions extends PipelineObserver {
  readonly name: string
  readonly slot: string
  readonly publication: string
  readonly patterns: TablePatterns
  readonly connection: ConnectionOptions
  /** Opened anew by every attempt. */
  readonly openLog: () => Promise<Log>
  readonly snapshot: 'initial' | 'none'
  /** How many connections read a snapshot at a time, at most. */
  readonly readers: number
  /** Whether backfills may be asked for through the WAL. */
  readonly requests: boolean
  /** Whether the rows of a table that joins are published, or only its changes from then on. */
  readonly newTables: 'backfill' | 'stream'
  readonly onLoss: OnLoss
  readonly limits: BatchLimits
  readonly values: ValueOptions
  readonly envelope: Envelope
  readonly largeValues: LargeValues
  readonly skipsOrigin: (name: string) => boolean
  readonly logger: Logger
  readonly signal: AbortSignal
}

export interface AttemptOptions extends PipelineOptions {
  /** That another writer took the pipeline over, where that ended the attempt before. */
  readonly fenced: EvertError | null
  /** What the attempt before found to be gone, where the rows that differ are to be published. */
  readonly loss: EvertError | null
  /** Everything that a start can check is right, and another process has the slot. */
  readonly onStandby: () => void
}

export interface Attempt {
  /** An ordinary one, to the server that the stream comes from. */
  readonly connection: Connection
  readonly at: ConnectionOptions
  readonly stream: ReplicationStream
  readonly log: Log
  readonly writer: LogWriter
  readonly progress: ProgressKeeper
  readonly relations: RelationMemory
  /** A snapshot that is to be published when the stream has reached its LSN. */
  readonly snapshot: {
    readonly reader: Snapshot
    readonly lsn: Lsn
  } | null
  close(): Promise<void>
}

/** A server that does not answer a question within it is lost. */
const QUERY_TIMEOUT_MS = 20_000
/**
 * After so long without a word from us the server ends our session and frees the slot: a process that hangs, or whose network is gone,
 * keeps nobody waiting for longer. Where the server's own wal_sender_timeout is shorter, that counts.
 */
const WAL_SENDER_TIMEOUT_MS = 10_000

export async function startAttempt(options: AttemptOptions): Promise<Attempt> {
  const closers = new Closers()
  try {
    return await start(options, closers)
  } catch (error) {
    await closers.close().catch(() => undefined) // what went wrong first counts
    throw error
  }
}

async function start(asked: AttemptOptions, closers: Closers): Promise<Attempt> {
  const { signal, name } = asked
  let { loss } = asked
  const request = { kind: 'ordinary', signal, queryTimeoutMs: QUERY_TIMEOUT_MS } as const
  const connection = closers.add(await connect(asked.connection, request), (c) => c.close())
  // Of several hosts, everything that follows is about the one that answered.
  const options = { ...asked, connection: { ...asked.connection, hosts: [connection.at] } }
  const server = await inspectServer(connection)
  requireServer(server, options.connection)
  const tables = await tablesToPublish(options, connection, server)
  const log = closers.add(await options.openLog(), (l) => l.close())
  // Nothing is written yet that a stop would have to wait for.
  const abandon = (): void => void log.close().catch(() => undefined)
  signal.addEventListener('abort', abandon, { once: true })
  closers.add(abandon, () => signal.removeEventListener('abort', abandon))
  // A standby that cannot reach the log is none.
  await log.topics(`${name}.`)
  // Whoever had the slot meanwhile has mended what there was to mend.
  if (await standBy(options, connection)) loss = null
  await prepareTopics({ name, loss, signal }, log, tables)
  signal.removeEventListener('abort', abandon)
  signal.throwIfAborted()
  const walSenderTimeoutMs = Math.min(server.walSenderTimeoutMs || WAL_SENDER_TIMEOUT_MS, WAL_SENDER_TIMEOUT_MS)
  const replication = await connect(options.connection, { kind: 'replication', signal, walSenderTimeoutMs })
  closers.add(replication, (c) => void c.socket.destroy())
  const identity = await identifySystem(replication)
  const at = { connection, replication, identity, log, tables, server }
  const created = loss === null ? await createMissingSlot(options, at) : await mend({ ...options, loss }, at)
  const snapshotName = created?.snapshotName ?? null
  const reader =
    snapshotName === null ? null : await Snapshot.open({ ...options, now: connection, snapshotName }, closers)
  const stream = closers.add(
    new ReplicationStream(new CopySocket(replication.socket), {
      ...options,
      walSenderTimeoutMs,
      isAlive: async () => (await inspectSlot(connection, options.slot))?.activePid === replication.processId,
    }),
    (s) => s.close(),
  )
  await stream.open()

  const writer = closers.add(await log.openWriter({ name, signal, accept: loss !== null }), (w) => w.close())
  const slot = await requireOwnSlot(options, at)
  const progress = resume(options, { identity, slot, created, writer, loss })
  const wanted = progress.state.snapshot === 'running' || progress.state.snapshot === 'again'
  if (wanted && created === null) requireSelect(tables, server.role)
  const snapshot = wanted ? await openSnapshot(options, { ...at, closers, reader, created }) : null
  if (!wanted) reader?.close()
  if (loss !== null) await tellOf({ ...options, loss }, writer, progress.state.endLsn)
  return {
    connection,
    at: options.connection,
    stream,
    log,
    writer,
    progress,
    relations: {
      recall: (relation) => progress.recall(relation),
      ask: (relation) => describeRelation(connection, relation),
      remember: (relation, description) => progress.remember(relation, description),
      earlierKeys: (relation) => progress.earlierKeys(relation),
    },
    snapshot,
    close: () => closers.close(),
  }
}

async function prepareTopics(
  { name, loss, signal }: Pick<AttemptOptions, 'name' | 'loss' | 'signal'>,
  log: Log,
  tables: readonly PublishedTable[],
): Promise<void> {
  const requests = tables.map((table) => topicRequest(name, table.relation))
  const topics = requests.map((request) => request.name)
  // A topic that is gone must not be made anew without a word.
  if (loss === null) await log.requireWhole({ name, topics, signal })
  // Made one by one, when the first record comes, each would hold the stream up.
  const beside = [schemaTopic(name), notificationTopic(name)].map(lastingTopic)
  await log.createTopics([...requests, ...beside], name)
}

/**
 * After a loss: a new slot, if what is published from there comes behind what the log has. Where only the log has lost something, the slot
 * that is there still has every change: null.
 */
async function mend(
  options: AttemptOptions & { readonly loss: EvertError },
  at: CreateOptions,
): Promise<CreatedSlot | null> {
  const { name, loss, signal } = options
  const state = progressOrNull(name, await at.log.readProgress({ name, signal }))
  if (state !== null && loss.code.startsWith('TOPIC_')) return await createMissingSlot(options, at)
  const last = state?.endLsn ?? (await lastLsn(at.log, await tableTopics(at.log, name), signal))
  requireBeyond(loss, { last, walEnd: at.identity.walEnd, name })
  return await replaceSlot(options, at)
}

async function tellOf(
  { name, loss, logger }: PipelineOptions & { readonly loss: EvertError },
  writer: LogWriter,
  lsn: Lsn,
): Promise<void> {
  const state = progressOrNull(name, writer.progress)
  const tell = await notifier(writer, name)
  tell(gapOf({ loss, state, lsn, timeUs: BigInt(Date.now()) * 1000n }))
  const from = state === null ? null : formatLsn(state.endLsn)
  logger.warn({ code: loss.code, from, to: formatLsn(lsn) }, 'changes are gone: rows that differ are published again')
}

/** The publication, created if it is missing, and those of its tables that --tables matches. */
async function tablesToPublish(
  options: PipelineOptions,
  connection: Connection,
  server: Server,
): Promise<PublishedTable[]> {
  const { publication, patterns, logger } = options
  if ((await inspectPublication(connection, publication)) === null) {
    const statement = await publicationStatement(connection, { publication, patterns, server })
    if (server.inRecovery) {
      throw new EvertError('POSTGRES_STANDBY', {
        message: `publication "${publication}" does not exist, and a standby cannot create it`,
        hint: `on the primary: ${statement.trim()}`,
      })
    }
    await createPublication(connection, statement)
    logger.info({ publication }, 'publication created')
  }
  const tables = await requireMatching(connection, options)
  const without = unidentifiable(tables)
  if (without.length > 0) logger.warn({ tables: without }, WITHOUT_IDENTITY)
  return tables
}

/**
 * The snapshot to publish: that of the slot just made, or, where the slot is older (evert init made it, or a first snapshot was
 * interrupted), one of a temporary slot; the stream is then published up to it first, so that no change is lost between them.
 */
async function openSnapshot(
  options: PipelineOptions,
  at: {
    readonly connection: Connection
    readonly server: Server
    readonly closers: Closers
    readonly reader: Snapshot | null
    readonly created: CreatedSlot | null
  },
): Promise<Attempt['snapshot']> {
  const { reader, created, closers } = at
  const snapshot =
    reader !== null && created !== null
      ? { reader, lsn: created.consistentPoint }
      : await temporarySnapshot(options, at, closers)
  options.onSnapshotStart(snapshot.reader, { walKeepBytes: at.server.slotWalKeepBytes })
  return snapshot
}
