/**
 * Bootstrap: for one new consumer, without disturbing anybody, the rows as they were at one LSN, and for every live partition the offset of
 * the first change after it. It needs the log and the database; of the daemon only that the log has come as far.
 */
import { Closers } from './base/closers.js'
import type { Logger } from './base/logger.js'
import { appendAll } from './bridge.js'
import type { Envelope } from './event/envelope.js'
import { formatLsn, type Lsn } from './event/lsn.js'
import { formatPosition } from './event/position.js'
import { encodedRecord } from './event/record.js'
import type { Relation, RelationDescription } from './event/relation.js'
import { schemaRecord } from './event/schema-record.js'
import { tableTopic } from './event/topic-name.js'
import type { LargeValues } from './event/transcoder.js'
import type { ValueOptions } from './event/type-kinds.js'
import type { Log, LogWriter } from './log/log.js'
import { liveState, passed, requireTables } from './live.js'
import { describeRelation, type PublishedTable } from './postgres/catalog.js'
import { type Connection, connect } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import { inspectServer, requireServer } from './postgres/server.js'
import type { OnSnapshotStart, Snapshot } from './postgres/snapshot.js'
import type { RowCondition } from './postgres/snapshot-units.js'
import type { TablePatterns } from './postgres/table-patterns.js'
import { requireSameServer } from './resume.js'
import { temporarySnapshot } from './temporary-snapshot.js'

export interface BootstrapOptions {
  readonly name: string
  readonly slot: string
  readonly publication: string
  readonly connection: ConnectionOptions
  readonly patterns: TablePatterns
  readonly condition: RowCondition
  readonly readers: number
  readonly batchBytes: number
  readonly values: ValueOptions
  readonly envelope: Envelope
  readonly largeValues: LargeValues
  /** Where the rows go. */
  readonly into: string
  readonly openWriter: () => Promise<LogWriter>
  /** Where the pipeline is published; null where nobody wants to join it. */
  readonly log: Log | null
  readonly logger: Logger
  readonly signal: AbortSignal
  readonly onSnapshotStart: OnSnapshotStart
  readonly onSnapshotRows: (table: PublishedTable, rows: number) => void
  readonly onSnapshotComplete: () => void
}

/** What a consumer must know to go on; the complete record holds it, too. */
export interface Bootstrap {
  /** The rows are as they were at it. */
  readonly lsn: string
  /** Of the first change after it. */
  readonly position: string
  readonly tables: readonly { readonly schema: string; readonly table: string; readonly rows: number }[]
  /** By live partition, the offset of the first record that is not in the rows. */
  readonly join: readonly { readonly topic: string; readonly partition: number; readonly offset: number }[]
}

export async function bootstrap(options: BootstrapOptions): Promise<Bootstrap> {
  const closers = new Closers()
  try {
    return await run(options, closers)
  } finally {
    await closers.close()
  }
}

async function run(asked: BootstrapOptions, closers: Closers): Promise<Bootstrap> {
  const { signal } = asked
  const connection = closers.add(await connect(asked.connection, { kind: 'ordinary', signal }), (c) => c.close())
  const options = { ...asked, connection: { ...asked.connection, hosts: [connection.at] } }
  const server = await inspectServer(connection)
  requireServer(server, options.connection)
  await requireTables(options, connection, server.role)
  const live = options.log === null ? null : await liveState(options, options.log)
  const { reader, lsn, identity } = await temporarySnapshot(options, { connection, server }, closers)
  if (live !== null) requireSameServer(options, identity, live)
  const descriptions = new Map<Relation, RelationDescription>()
  for (const { relation } of reader.tables) descriptions.set(relation, await describeRelation(connection, relation))
  const writer = closers.add(await options.openWriter(), (w) => w.close())
  options.onSnapshotStart(reader, null)
  await mark(writer, options, startOf(options, lsn, descriptions))
  const rows = await copy(options, { reader, lsn, writer, descriptions })
  options.onSnapshotComplete()
  const found = {
    lsn: formatLsn(lsn),
    position: formatPosition({ commitLsn: lsn, ordinal: 0 }),
    tables: reader.tables.map((table) => {
      const { schema, table: name } = table.relation
      return { schema, table: name, rows: rows.get(table) ?? 0 }
    }),
    join: options.log === null ? [] : await offsetsAfter(options, options.log, { connection, reader, lsn }),
  }
  await mark(writer, options, { op: 'complete', ...found })
  return found
}

/** A record into every partition. */
async function mark(
  writer: LogWriter,
  { into }: BootstrapOptions,
  value: Readonly<Record<string, unknown>>,
): Promise<void> {
  const topic = await writer.sink.topic({ name: into, keyed: false })
  const [key, bytes] = [JSON.stringify({ snapshot: value['lsn'] }), JSON.stringify(value)].map((text) =>
    Buffer.from(text),
  )
  writer.sink.appendToAll(topic, encodedRecord({ key: key!, value: bytes!, timestampMs: Date.now() }))
  await writer.append(writer.cut(), new Map())
}

/** The shapes of the tables, so that the rows can be interpreted without the pipeline's schema topic. */
function startOf(
  { envelope, values }: BootstrapOptions,
  lsn: Lsn,
  descriptions: ReadonlyMap<Relation, RelationDescription>,
): Readonly<Record<string, unknown>> {
  const at = { commitLsn: lsn, ordinal: 0 }
  const told = { format: envelope.name, values }
  const tables = [...descriptions].map(([relation, description]) => {
    return JSON.parse(schemaRecord(relation, { ...description, told }, at).value.toString()) as unknown
  })
  return { op: 'start', lsn: formatLsn(lsn), position: formatPosition(at), tables }
}

/** In log transactions of their own, as they come. Gives the number of rows by table. */
async function copy(
  options: BootstrapOptions,
  at: {
    readonly reader: Snapshot
    readonly lsn: Lsn
    readonly writer: LogWriter
    readonly descriptions: ReadonlyMap<Relation, RelationDescription>
  },
): Promise<ReadonlyMap<PublishedTable, number>> {
  const { reader, lsn, writer, descriptions } = at
  const counts = new Map<PublishedTable, number>()
  const rows = reader.rows({
    ...options,
    lsn,
    pipeline: options.name,
    relations: {
      recall: () => null,
      ask: async (relation) => descriptions.get(relation)!,
      remember: () => undefined,
      earlierKeys: () => [],
    },
    sink: writer.sink,
    cut: () => writer.cut(),
    gone: () => [],
    onTable: () => undefined,
    onRows: (table, count) => {
      counts.set(table, count)
      options.onSnapshotRows(table, count)
    },
  })
  await appendAll(rows, (filled, commit) => writer.append(filled, commit ? new Map() : null))
  await writer.append(writer.cut(), new Map())
  reader.close()
  return counts
}

/** Waits until the live log has everything before the snapshot, and says where each partition goes on. */
async function offsetsAfter(
  options: BootstrapOptions,
  log: Log,
  at: { readonly connection: Connection; readonly reader: Snapshot; readonly lsn: Lsn },
): Promise<Bootstrap['join']> {
  const { name, signal } = options
  await passed(options, log, at)
  const topics = new Set(at.reader.tables.map(({ relation }) => tableTopic(name, relation.schema, relation.table)))
  const position = formatPosition({ commitLsn: at.lsn, ordinal: 0 })
  const join = []
  for (const { name: topic, partitions } of await log.topics(`${name}.`)) {
    if (!topics.has(topic)) continue
    for (let partition = 0; partition < partitions; partition++) {
      join.push({ topic, partition, offset: Number(await log.offsetAt({ topic, partition, position, signal })) })
    }
  }
  return join
}
