/**
 * Verify: that the log, folded to one LSN, is what the tables are at that LSN. Both sides are read once, side by side with whatever else goes
 * on, and compared by key, value by value, as digests of the bytes that an event has.
 */
import { type Closers, closing } from './base/closers.js'
import { EvertError } from './base/errors.js'
import type { Logger } from './base/logger.js'
import type { Envelope } from './event/envelope.js'
import { formatLsn, type Lsn } from './event/lsn.js'
import { membersOf } from './event/members.js'
import { firstPosition } from './event/position.js'
import type { EncodedRecord, RecordSink } from './event/sink.js'
import { tableTopic } from './event/topic-name.js'
import type { ValueOptions } from './event/type-kinds.js'
import { passed, snapshotBeside } from './live.js'
import type { FilledRecords, Log, LogRecord } from './log/log.js'
import { positionIn } from './log/position-in.js'
import { describeRelation, type PublishedTable } from './postgres/catalog.js'
import type { Connection } from './postgres/connection.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import type { OnSnapshotStart, Snapshot } from './postgres/snapshot.js'
import type { TablePatterns } from './postgres/table-patterns.js'
import { withoutMemory } from './postgres/tables.js'
import { type Difference as DigestDifference, hashText, RowDigests } from './row-digests.js'

export interface VerifyOptions {
  readonly name: string
  readonly slot: string
  readonly publication: string
  readonly connection: ConnectionOptions
  readonly patterns: TablePatterns
  readonly readers: number
  /** Of the rows that are compared, chosen by their keys: 1 for all. */
  readonly sample: number
  /** As the pipeline publishes them. */
  readonly values: ValueOptions
  readonly envelope: Envelope
  readonly log: Log
  readonly logger: Logger
  readonly signal: AbortSignal
  readonly onSnapshotStart: OnSnapshotStart
  readonly onSnapshotRows: (table: PublishedTable, rows: number) => void
  readonly onSnapshotComplete: () => void
}

export interface Difference {
  /** `missing` in the log, `extra` in the log, `different`, or `repeated`: an event whose position does not come after the one before it. */
  readonly kind: DigestDifference['kind'] | 'repeated'
  readonly key: string | null
  /** Of the event in the log; null where it has none. */
  readonly position: string | null
  /** That differ. */
  readonly columns: readonly string[]
}

export interface TableVerdict {
  readonly schema: string
  readonly table: string
  /** Null where it cannot be compared: without a key the log does not say which row an event is about. */
  readonly verdict: 'equal' | 'different' | null
  readonly rows: number
  /** That the log folds to. */
  readonly logRows: number
  readonly differences: number
  /** The first few, by key. */
  readonly first: readonly Difference[]
  /** Values that the log does not have, because Postgres did not send them, or because the column is younger than the row's last event. */
  readonly notCompared: number
}

export interface Verification {
  readonly lsn: string
  readonly position: string
  readonly tables: readonly TableVerdict[]
}

/** So many of a table are shown. */
const SHOWN = 10

export async function verify(asked: VerifyOptions): Promise<Verification> {
  return await closing((closers) => run(asked, closers))
}

async function run(asked: VerifyOptions, closers: Closers): Promise<Verification> {
  const { log } = asked
  const all = { condition: () => null, requireUsed: () => undefined }
  const { options, connection, reader, lsn } = await snapshotBeside(asked, all, closers)
  options.onSnapshotStart(reader, null)
  const digests = closers.add(
    new RowDigests(Math.max(reader.cost.rows, reader.cost.bytes / 200) * options.sample),
    (d) => d.close(),
  )
  await digestTables(options, { connection, reader, lsn, digests })
  options.onSnapshotComplete()
  await passed(options, log, { connection, lsn })
  const repeated = await digestLog(options, { reader, lsn, digests })
  return { lsn: formatLsn(lsn), position: firstPosition(lsn), tables: verdicts(reader.tables, digests, repeated) }
}

/** Rows go through the transcoder, so that both sides have the same bytes. */
async function digestTables(
  options: VerifyOptions,
  at: { readonly connection: Connection; readonly reader: Snapshot; readonly lsn: Lsn; readonly digests: RowDigests },
): Promise<void> {
  const { reader, lsn, digests, connection } = at
  const topics = topicsOf(options, reader)
  const chosen = sampler(options.sample)
  const sink: RecordSink = {
    bytes: 0,
    records: 0,
    topic: ({ name }) => ({ name, partitions: 1 }),
    append: (topic, record) => {
      const table = topics.get(topic.name)
      const key = keyOf(record)
      if (table === undefined || key === null || !chosen(key)) return
      const value = record.bytes.subarray(record.valueStart, record.valueEnd)
      const { row } = partsOf({ value, headers: record.headers ?? [] }, options.envelope)
      if (row !== null) digests.row({ side: 'table', table, partition: 0, position: '', key }, value, row, false)
    },
    appendToAll: () => undefined,
  }
  const rows = reader.rows<FilledRecords | null>({
    lsn,
    pipeline: options.name,
    relations: withoutMemory((relation) => describeRelation(connection, relation)),
    values: options.values,
    envelope: options.envelope,
    largeValues: { omit: false, onSkip: () => undefined },
    sink,
    cut: () => null,
    batchBytes: Number.POSITIVE_INFINITY,
    gone: () => [],
    onTable: () => undefined,
    onRows: options.onSnapshotRows,
    signal: options.signal,
  })
  for await (const _ of rows) continue
  reader.close()
}

/** By topic, the events that do not come after the one before them. */
async function digestLog(
  options: VerifyOptions,
  at: { readonly reader: Snapshot; readonly lsn: Lsn; readonly digests: RowDigests },
): Promise<ReadonlyMap<number, readonly Difference[]>> {
  const { log, name, signal } = options
  const chosen = sampler(options.sample)
  const topics = topicsOf(options, at.reader)
  const there = (await log.topics(`${name}.`)).filter((topic) => topics.has(topic.name))
  await log.settled({ topics: there.map((topic) => topic.name), signal })
  const repeated = new Map<number, Difference[]>()
  for (const { name: topic, partitions } of there) {
    const table = topics.get(topic) ?? 0
    for (let partition = 0; partition < partitions; partition++) {
      const { earliest, end } = await log.offsets(topic, partition)
      const until = await log.offsetAt({ topic, partition, position: firstPosition(at.lsn), signal })
      let last = ''
      for await (const record of log.read({ topic, partition, from: earliest, until: end, signal })) {
        if (record.offset >= until) {
          digestLater(options, at.digests, { table, record, chosen })
          continue
        }
        const position = positionIn(record)
        if (position !== null && position <= last) {
          const found = repeated.get(table) ?? []
          repeated.set(table, found)
          found.push({ kind: 'repeated', key: record.key?.toString() ?? null, position, columns: [] })
        }
        last = position ?? last
        digestRecord(options, at.digests, { table, record, chosen, position: last })
      }
      signal.throwIfAborted()
    }
  }
  return repeated
}

interface FoundRecord {
  readonly table: number
  readonly record: LogRecord
  readonly chosen: (key: Buffer) => boolean
}

/** What comes after the LSN counts for nothing but what compaction may have taken because of it. */
function digestLater({ envelope }: VerifyOptions, digests: RowDigests, { table, record, chosen }: FoundRecord): void {
  const { partition, key } = record
  const entry = { side: 'log', table, partition, position: '' } as const
  if (partsOf(record, envelope).operation === 't') digests.laterTruncate(entry)
  else if (key !== null && chosen(key)) digests.later({ ...entry, key })
}

function digestRecord(
  { envelope }: VerifyOptions,
  digests: RowDigests,
  { table, record, chosen, position }: FoundRecord & { readonly position: string },
): void {
  const { partition, value, key } = record
  const entry = { side: 'log', table, partition, position } as const
  const parts = partsOf(record, envelope)
  if (parts.operation === 't') digests.truncate(entry)
  else if (key === null || !chosen(key)) return
  else if (value === null || parts.row === null) digests.gone({ ...entry, key })
  else digests.row({ ...entry, key }, value, parts.row, parts.operation === 'u' && parts.partial)
}

function verdicts(
  tables: readonly PublishedTable[],
  digests: RowDigests,
  repeated: ReadonlyMap<number, readonly Difference[]>,
): TableVerdict[] {
  const counts = tables.map((_, table) => repeated.get(table)?.length ?? 0)
  const first = tables.map((_, table) => [...(repeated.get(table) ?? [])])
  const comparisons = digests.compare(({ table, columns, ...difference }) => {
    counts[table]!++
    const names = tables[table]!.relation.columns.map(({ name }) => name)
    first[table]!.push({ ...difference, columns: names.filter((name) => columns.includes(hashText(escaped(name)))) })
    // Memory stays bounded where everything differs.
    if (first[table]!.length > 2 * SHOWN) first[table] = byKey(first[table]!)
  })
  return tables.map(({ relation }, table) => {
    const { schema, table: name } = relation
    const compared = comparisons.find((one) => one.table === table)
    const { rows = 0, logRows = 0, notCompared = 0 } = compared ?? {}
    const keyed = relation.columns.some(({ key }) => key)
    const verdict = keyed ? (counts[table] === 0 ? 'equal' : 'different') : null
    return {
      schema,
      table: name,
      verdict,
      rows,
      logRows,
      differences: counts[table]!,
      first: byKey(first[table]!),
      notCompared,
    }
  })
}

function byKey(differences: readonly Difference[]): Difference[] {
  return differences.toSorted((a, b) => ((a.key ?? '') < (b.key ?? '') ? -1 : 1)).slice(0, SHOWN)
}

/** As a name stands in an event. */
function escaped(name: string): string {
  return JSON.stringify(name).slice(1, -1)
}

function topicsOf({ name }: VerifyOptions, { tables }: Snapshot): ReadonlyMap<string, number> {
  return new Map(tables.map(({ relation }, i) => [tableTopic(name, relation.schema, relation.table), i]))
}

function keyOf({ bytes, keyStart, keyEnd }: EncodedRecord): Buffer | null {
  return keyStart < 0 ? null : bytes.subarray(keyStart, keyEnd)
}

/** The same keys on both sides. */
function sampler(share: number): (key: Buffer) => boolean {
  const below = share * 1_000_000
  return share >= 1 ? () => true : (key) => hashText(key.toString()) % 1_000_000 < below
}

interface EventParts {
  readonly operation: string
  /** Where the row stands in the value; null where the event has none. */
  readonly row: number | null
  /** Columns that are not there are as they were. */
  readonly partial: boolean
}

/** Error: LOG_PROTOCOL. */
function partsOf({ value, headers }: Pick<LogRecord, 'value' | 'headers'>, { name }: Envelope): EventParts {
  const header = (key: string): string | null => headers.find((one) => one.key === key)?.value.toString() ?? null
  if (name === 'plain') {
    if (value !== null && header('evert.op') === null) throw notOfFormat(name)
    const row = value === null ? null : 0
    return {
      operation: header('evert.op') ?? 'd',
      row,
      partial: header('evert.unchanged') !== null && header('evert.omitted') === null,
    }
  }
  if (value === null) return { operation: 'd', row: null, partial: false }
  const found = new Map<string, number>()
  const start = name === 'cloudevents' ? startOf(value, 0).get('data') : 0
  if (start !== undefined) for (const [member, at] of startOf(value, start)) found.set(member, at)
  const [operation, after] = [found.get('op'), found.get('after')]
  if (operation === undefined || after === undefined) throw notOfFormat(name)
  const row = value[after] === OPEN_BRACE ? after : null
  // What was left out because it is large did change: it is not what it was.
  const partial = found.has('unchanged') && !found.has('omitted')
  return { operation: String.fromCharCode(value[operation + 1] ?? 0), row, partial }
}

function notOfFormat(name: string): EvertError {
  return new EvertError('LOG_PROTOCOL', {
    message: `the log holds an event that is not of the format ${name}`,
    hint: '--format must be that of the pipeline',
  })
}

const OPEN_BRACE = 0x7b

function startOf(value: Buffer, start: number): Map<string, number> {
  return new Map([...membersOf(value, start)].map((member) => [member.name, member.start]))
}
