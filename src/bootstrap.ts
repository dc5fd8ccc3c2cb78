/**
 * Bootstrap: for one new consumer, without disturbing anybody, the rows as they were at one LSN, and for every live partition the offset of
 * the first change after it. It needs the log and the database; of the daemon only that the log has come as far.
 */
import { systemClock } from './base/clock.js'
import { type Closers, closing } from './base/closers.js'
import type { Logger } from './base/logger.js'
import { appendAll } from './bridge.js'
import type { Envelope } from './event/envelope.js'
import { formatLsn, type Lsn } from './event/lsn.js'
import { firstPosition } from './event/position.js'
import { encodedRecord } from './event/record.js'
import type { Relation, RelationDescription } from './event/relation.js'
import { schemaRecord } from './event/schema-record.js'
import { tableTopic } from './event/topic-name.js'
import type { LargeValues } from './event/transcoder.js'
import type { ValueOptions } from './event/type-kinds.js'
import type { Log, LogWriter } from './log/log.js'
import { passed, snapshotBeside } from './live.js'
import { describeRelation, type PublishedTable } from './postgres/catalog.js'
import type { Connection } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import type { Snapshot, SnapshotObserver } from './postgres/snapshot.js'
import type { RowCondition } from './postgres/snapshot-units.js'
import type { TablePatterns } from './postgres/table-patterns.js'
import { withoutMemory } from './postgres/tables.js'

export interface BootstrapOptions extends SnapshotObserver {
  readonly name: string
  readonly slot: string
  readonly publication: string
  readonly connection: ConnectionOptions
  readonly patterns: TablePatterns
  readonly condition: RowCondition
  /** Error: OPTION_INVALID where a condition is of none of these tables. */
  readonly requireUsed: (tables: readonly Relation[]) => void
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
}

/** What a consumer must know to go on. */
export interface Bootstrap {
  /** The rows are as they were at it. */
  readonly lsn: string
  /** Of the first change after it. */
  readonly position: string
  readonly tables: readonly BootstrapTable[]
}

export interface BootstrapTable {
  readonly schema: string
  readonly table: string
  readonly rows: number
  /** The live one; null where nobody wants to join it. */
  readonly topic: string | null
  /** By live partition, that of the first record that is not in the rows; none where the topic is still to come. */
  readonly offsets: readonly number[]
}

export async function bootstrap(asked: BootstrapOptions): Promise<Bootstrap> {
  return await closing((closers) => run(asked, closers))
}

async function run(asked: BootstrapOptions, closers: Closers): Promise<Bootstrap> {
  const { options, connection, reader, lsn } = await snapshotBeside(asked, asked, closers)
  const descriptions = new Map<Relation, RelationDescription>()
  for (const { relation } of reader.tables) descriptions.set(relation, await describeRelation(connection, relation))
  const writer = closers.add(await options.openWriter(), (w) => w.close())
  options.onSnapshotStart(reader, null)
  const common = { lsn: formatLsn(lsn), position: firstPosition(lsn) }
  const shapes = [...descriptions].map(([relation, description]) => shapeOf(options, lsn, relation, description))
  await mark(writer, options, [{ op: 'start', ...common, tables: shapes.length }, ...shapes])
  const rows = await copy(options, { reader, lsn, writer, descriptions })
  options.onSnapshotComplete()
  const offsets = options.log === null ? null : await offsetsAfter(options, options.log, { connection, reader, lsn })
  const tables = reader.tables.map((table) => {
    const { schema, table: name } = table.relation
    const topic = offsets === null ? null : tableTopic(options.name, schema, name)
    return { schema, table: name, rows: rows.get(table) ?? 0, topic, offsets: offsets?.get(topic ?? '') ?? [] }
  })
  const joins = tables.map((table) => ({ op: 'join', ...table }))
  await mark(writer, options, [...joins, { op: 'complete', ...common }])
  return { ...common, tables }
}

/** Records into every partition: a small one for each table, for a record has its limits. */
async function mark(
  writer: LogWriter,
  { into }: BootstrapOptions,
  values: readonly Readonly<Record<string, unknown>>[],
): Promise<void> {
  const topic = await writer.sink.topic({ name: into, keyed: false })
  for (const value of values) {
    const [key, bytes] = [{ op: value['op'] }, value].map((json) => Buffer.from(JSON.stringify(json)))
    writer.sink.appendToAll(topic, encodedRecord({ key: key!, value: bytes!, timestampMs: Date.now() }))
  }
  await writer.append(writer.cut(), new Map())
}

/** So that the rows can be interpreted without the pipeline's schema topic. */
function shapeOf(
  { envelope, values }: BootstrapOptions,
  lsn: Lsn,
  relation: Relation,
  description: RelationDescription,
): Readonly<Record<string, unknown>> {
  const told = { format: envelope.name, values }
  const { value } = schemaRecord(relation, { ...description, told }, { commitLsn: lsn, ordinal: 0 })
  return { op: 'shape', ...(JSON.parse(value.toString()) as object) }
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
    relations: withoutMemory(async (relation) => descriptions.get(relation)!),
    sink: writer.sink,
    cut: () => writer.cut(),
    gone: () => [],
    onTable: () => undefined,
    onRows: (table, progress) => {
      counts.set(table, progress.rows)
      options.onSnapshotRows(table, progress)
    },
  })
  try {
    await appendAll(rows, {
      append: (filled, commit) => writer.append(filled, commit ? new Map() : null),
      writer,
      cut: () => writer.cut(),
      clock: systemClock,
    })
    await writer.append(writer.cut(), new Map())
  } finally {
    reader.close()
  }
  return counts
}

/** Waits until the live log has everything before the snapshot, and says where each partition goes on. */
async function offsetsAfter(
  options: BootstrapOptions,
  log: Log,
  at: { readonly connection: Connection; readonly reader: Snapshot; readonly lsn: Lsn },
): Promise<ReadonlyMap<string, readonly number[]>> {
  const { name, signal } = options
  await passed(options, log, at)
  const wanted = new Set(at.reader.tables.map(({ relation }) => tableTopic(name, relation.schema, relation.table)))
  // One that came later may have none yet. It is the daemon's to make, by its own options; every change in it comes after the rows.
  const topics = (await log.topics(`${name}.`)).filter((topic) => wanted.has(topic.name))
  await log.settled({ topics: topics.map((topic) => topic.name), signal })
  const position = firstPosition(at.lsn)
  const found = new Map<string, number[]>()
  for (const { name: topic, partitions } of topics) {
    const offsets: number[] = []
    for (let partition = 0; partition < partitions; partition++)
      offsets.push(Number(await log.offsetAt({ topic, partition, position, signal })))
    found.set(topic, offsets)
  }
  return found
}
