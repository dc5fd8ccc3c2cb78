/**
 * Attempt: everything between a start and the first change. It takes the slot, which is the lock of a pipeline; then fences earlier
 * writers; then reads the progress back and compares it with the server. Nothing is acknowledged before all of that agrees.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import type { OnCommit } from './bridge.js'
import type { Envelope } from './event/envelope.js'
import { formatLsn, type Lsn } from './event/lsn.js'
import type { Relation } from './event/relation.js'
import { tableTopic } from './event/topic-name.js'
import type { LargeValues } from './event/transcoder.js'
import type { ValueOptions } from './event/type-kinds.js'
import type { Log, LogWriter } from './log/log.js'
import {
  describeRelation,
  type PublishedTable,
  publishedTables,
  qualifiedName,
  requireSelect,
} from './postgres/catalog.js'
import { type Connection, connect } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import { CopySocket } from './postgres/copy-socket.js'
import { createPublication, inspectPublication, publicationStatement } from './postgres/publication.js'
import { type BatchLimits, ReplicationStream } from './postgres/replication-stream.js'
import { identifySystem, inspectServer, requireServer, type Server } from './postgres/server.js'
import {
  blockingTransactions,
  cancelBackend,
  type CreatedSlot,
  createSlot,
  describeHolder,
  inspectSlot,
  requireSlot,
  type Slot,
} from './postgres/slot.js'
import { resume } from './resume.js'
import { SnapshotReader } from './postgres/snapshot.js'
import type { TablePatterns } from './postgres/table-patterns.js'
import type { RelationMemory } from './postgres/tables.js'
import { ProgressKeeper, readProgress } from './progress.js'

export interface PipelineOptions {
  readonly name: string
  readonly slot: string
  readonly publication: string
  readonly patterns: TablePatterns
  readonly connection: ConnectionOptions
  /** Opened anew by every attempt. */
  readonly openLog: () => Promise<Log>
  readonly snapshot: 'initial' | 'none'
  readonly limits: BatchLimits
  readonly values: ValueOptions
  readonly envelope: Envelope
  readonly largeValues: LargeValues
  readonly skipsOrigin: (name: string) => boolean
  readonly logger: Logger
  readonly signal: AbortSignal
  readonly onStreaming: () => void
  readonly onCommit: OnCommit
  readonly onSnapshotStart: (tables: readonly PublishedTable[]) => void
  readonly onSnapshotRows: (table: PublishedTable, rows: number) => void
  readonly onSnapshotComplete: () => void
}

export interface AttemptOptions extends PipelineOptions {
  /** Everything that a start can check is right, and another process has the slot. */
  readonly onStandby: () => void
}

export interface Attempt {
  readonly stream: ReplicationStream
  readonly writer: LogWriter
  readonly progress: ProgressKeeper
  readonly relations: RelationMemory
  /** A snapshot that is to be published when the stream has reached its LSN. */
  readonly snapshot: {
    readonly reader: SnapshotReader
    readonly lsn: Lsn
  } | null
  close(): Promise<void>
}

/** How often a standby looks whether the slot is free. */
const STANDBY_MS = 500

/** Closes what was opened, last first, and all of it: the first error is thrown at the end. */
class Closers {
  readonly #closers: (() => void | Promise<void>)[] = []

  add<T>(thing: T, close: (thing: T) => void | Promise<void>): T {
    this.#closers.push(() => close(thing))
    return thing
  }

  async close(): Promise<void> {
    const errors: unknown[] = []
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  }
}

export async function startAttempt(options: AttemptOptions): Promise<Attempt> {
  const closers = new Closers()
  try {
    return await start(options, closers)
  } catch (error) {
    await closers.close().catch(() => undefined) // what went wrong first counts
    throw error
  }
}

async function start(options: AttemptOptions, closers: Closers): Promise<Attempt> {
  const { signal, name } = options
  const connection = closers.add(await connect(options.connection, { kind: 'ordinary', signal }), (c) => c.close())
  const server = await inspectServer(connection)
  requireServer(server, options.connection)
  const tables = await tablesToPublish(options, connection, server)
  const log = closers.add(await options.openLog(), (l) => l.close())
  // Nothing is written yet that a stop would have to wait for.
  const abandon = (): void => void log.close().catch(() => undefined)
  signal.addEventListener('abort', abandon, { once: true })
  await log.createTopics(tables.map((table) => topicRequest(name, table.relation)))
  signal.removeEventListener('abort', abandon)
  signal.throwIfAborted()

  await standBy(options, connection)
  const replication = await openReplication(options, closers)
  const identity = await identifySystem(replication.connection)
  const created = await createMissingSlot({ ...options, connection, replication, log, tables, server })
  const reader = created === null ? null : await adopt(options, created.snapshotName, closers)
  const stream = closers.add(
    new ReplicationStream(replication.socket, replication.connection, {
      ...options,
      walSenderTimeoutMs: server.walSenderTimeoutMs,
    }),
    (s) => s.close(),
  )
  await stream.open()

  const writer = closers.add(await log.openWriter({ name, signal }), (w) => w.close())
  const slot = await requireOwnSlot(options, connection)
  const progress = resume(options, { identity, slot, created, writer })
  const wanted = progress.state.snapshot === 'running'
  if (wanted && created === null) requireSelect(tables, server.role)
  const snapshot = wanted ? await openSnapshot(options, { connection, closers, reader, created }) : null
  if (!wanted) reader?.close()
  return {
    stream,
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

function topicRequest(pipeline: string, relation: Relation): { name: string; keyed: boolean } {
  return {
    name: tableTopic(pipeline, relation.schema, relation.table),
    keyed: relation.columns.some((column) => column.key),
  }
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
    await createPublication(connection, statement)
    logger.info({ publication }, 'publication created')
  }
  const published = await publishedTables(connection, publication)
  const tables = published.filter(({ relation }) => patterns.matches(relation.schema, relation.table))
  if (tables.length === 0) {
    throw new EvertError('PUBLICATION_EMPTY', {
      message: `publication "${publication}" has ${published.length} tables, and --tables matches none of them`,
      hint: `alter publication "${publication}" add table …, or change --tables`,
    })
  }
  const unidentifiable = tables.filter((table) => !table.identifiable).map((table) => qualifiedName(table.relation))
  if (unidentifiable.length > 0) {
    logger.warn(
      { tables: unidentifiable },
      'tables without a replica identity: Postgres refuses their updates and deletes while they are published; add a primary key, or alter table … replica identity full',
    )
  }
  return tables
}

/** Waits while another process has the slot. */
async function standBy(options: AttemptOptions, connection: Connection): Promise<void> {
  const { slot: name, logger, signal } = options
  let said = false
  for (;;) {
    signal.throwIfAborted()
    const slot = await inspectSlot(connection, name)
    if (slot !== null) requireSlot(slot, options.connection.database)
    if (slot === null || slot.activePid === null) return
    if (!said) logger.info({ slot: name, holder: await describeHolder(connection, slot.activePid) }, 'standing by')
    said = true
    options.onStandby()
    await delay(STANDBY_MS, undefined, { signal })
  }
}

interface Replication {
  readonly connection: Connection
  readonly socket: CopySocket
}

async function openReplication(options: PipelineOptions, closers: Closers): Promise<Replication> {
  const socket = new CopySocket()
  const request = { kind: 'replication', signal: options.signal, rawSocket: () => socket.plain } as const
  const connection = await connect(options.connection, request)
  closers.add(connection, (c) => void c.socket.destroy())
  return { connection, socket }
}

/** A pipeline without progress may make its slot; one that has progress and no slot has lost changes. Null where the slot is there. */
async function createMissingSlot(options: CreateOptions): Promise<CreatedSlot | null> {
  const { slot: name, log, connection, replication, logger, signal } = options
  if ((await inspectSlot(connection, name)) !== null) return null
  const state = readProgress(options.name, await log.readProgress({ name: options.name, signal }))
  if (state !== null) {
    throw new EvertError('SLOT_MISSING', {
      message: `slot "${name}" is gone, but the log of pipeline "${options.name}" ends at ${formatLsn(state.endLsn)}: changes after it may be lost`,
      hint: `evert drop --name ${options.name}, then evert run, starts over with a new snapshot`,
    })
  }
  const exportSnapshot = options.snapshot === 'initial'
  if (exportSnapshot) requireSelect(options.tables, options.server.role)
  const created = await sayWhatIsWaitedFor(
    options,
    createSlot(replication.connection, { name, temporary: false, exportSnapshot }),
  )
  logger.info({ slot: name, lsn: formatLsn(created.consistentPoint) }, 'slot created')
  return created
}

interface CreateOptions extends Omit<PipelineOptions, 'connection'> {
  readonly connection: Connection
  readonly replication: Replication
  readonly log: Log
  readonly tables: readonly PublishedTable[]
  readonly server: Server
}

/** A slot's creation waits for every running transaction: say for whom, and end it with us, or the server would make the slot later. */
async function sayWhatIsWaitedFor<T>(
  options: {
    connection: Connection
    replication: { readonly connection: Connection }
    logger: Logger
    signal: AbortSignal
  },
  creation: Promise<T>,
): Promise<T> {
  const cancel = (): void => {
    cancelBackend(options.connection, options.replication.connection.processId).catch(() => undefined)
  }
  options.signal.addEventListener('abort', cancel, { once: true })
  const timer = setInterval(() => {
    void blockingTransactions(options.connection).then(
      (transactions) => options.logger.warn({ transactions }, 'the slot waits for transactions that are running'),
      () => undefined,
    )
  }, 3000)
  try {
    return await creation
  } finally {
    clearInterval(timer)
    options.signal.removeEventListener('abort', cancel)
  }
}

async function adopt(
  options: PipelineOptions,
  snapshotName: string | null,
  closers: Closers,
): Promise<SnapshotReader | null> {
  if (snapshotName === null) return null
  return closers.add(await SnapshotReader.open({ ...options, snapshotName }), (r) => r.close())
}

/** The slot again, now that nobody else can move it. */
async function requireOwnSlot(options: PipelineOptions, connection: Connection): Promise<Slot> {
  const slot = await inspectSlot(connection, options.slot)
  if (slot === null)
    throw new EvertError('SLOT_MISSING', { message: `slot "${options.slot}" was dropped while it was in use` })
  return slot
}

/**
 * The snapshot to publish: that of the slot just made, or, where the slot is older (evert init made it, or a first snapshot was
 * interrupted), one of a temporary slot; the stream is then published up to it first, so that no change is lost between them.
 */
async function openSnapshot(
  options: PipelineOptions,
  at: {
    connection: Connection
    closers: Closers
    reader: SnapshotReader | null
    created: CreatedSlot | null
  },
): Promise<Attempt['snapshot']> {
  if (at.reader !== null && at.created !== null) {
    options.onSnapshotStart(at.reader.tables)
    return { reader: at.reader, lsn: at.created.consistentPoint }
  }
  const replication = await connect(options.connection, { kind: 'replication', signal: options.signal })
  try {
    const slot = { name: `evert_snapshot_${replication.processId}`, temporary: true, exportSnapshot: true }
    const { consistentPoint, snapshotName } = await sayWhatIsWaitedFor(
      { ...options, connection: at.connection, replication: { connection: replication } },
      createSlot(replication, slot),
    )
    const reader = await adopt(options, snapshotName, at.closers)
    if (reader === null)
      throw new EvertError('PROTOCOL', { message: 'the server exported no snapshot with its temporary slot' })
    options.onSnapshotStart(reader.tables)
    return { reader, lsn: consistentPoint }
  } finally {
    // The temporary slot goes with its connection; the reader holds the snapshot.
    await replication.close()
  }
}
