/**
 * Comparison: the rows of a snapshot and the events of the log, as digests of the bytes that an event has, so that both sides can be compared
 * by key and value. What it costs in memory does not grow with either.
 */
import { EvertError } from './base/errors.js'
import type { Envelope } from './event/envelope.js'
import type { Lsn } from './event/lsn.js'
import { membersOf } from './event/members.js'
import type { EncodedRecord, RecordSink } from './event/sink.js'
import { wholeRecords } from './event/whole-records.js'
import { tableTopic } from './event/topic-name.js'
import type { ValueOptions } from './event/type-kinds.js'
import type { FilledRecords, Log, LogRecord } from './log/log.js'
import { positionIn } from './log/position-in.js'
import type { PublishedTable } from './postgres/catalog.js'
import type { Snapshot, SnapshotObserver } from './postgres/snapshot.js'
import type { RelationMemory } from './postgres/tables.js'
import type { RowDigests } from './row-digests.js'

export interface ComparisonOptions extends Pick<SnapshotObserver, 'onSnapshotRows'> {
  /** Of the pipeline. */
  readonly name: string
  /** As the pipeline publishes them. */
  readonly values: ValueOptions
  readonly envelope: Envelope
  readonly signal: AbortSignal
}

/** Tables are numbered as the snapshot has them. */
export interface Compared {
  readonly reader: Snapshot
  readonly digests: RowDigests
  /** Whether rows of that key are compared. */
  readonly chosen: (key: Buffer) => boolean
}

/** Rows go through the transcoder, so that both sides have the same bytes. Gives the tables whose rows turn out to have no key. */
export async function digestTables(
  options: ComparisonOptions,
  at: Compared & {
    readonly lsn: Lsn
    readonly relations: RelationMemory
    /** Default: every one. */
    readonly wanted?: (table: PublishedTable) => boolean
  },
): Promise<ReadonlySet<number>> {
  const { reader, lsn, digests, chosen, relations, wanted = () => true } = at
  const topics = topicsOf(options.name, reader)
  const keyless = new Set<number>()
  const sink: RecordSink = {
    bytes: 0,
    records: 0,
    topic: ({ name }) => ({ name, partitions: 1 }),
    ...wholeRecords((topic, record) => {
      const table = topics.get(topic.name)
      const key = keyOf(record)
      if (table !== undefined && key === null) keyless.add(table)
      if (table === undefined || key === null || !chosen(key)) return
      const value = record.bytes.subarray(record.valueStart, record.valueEnd)
      const row = partsOf({ value, headers: record.headers ?? [] }, options.envelope)?.row ?? null
      if (row !== null) digests.row({ side: 'table', table, partition: 0, position: '', key }, value, row, false)
    }),
    appendToAll: () => undefined,
  }
  const rows = reader.rows<FilledRecords | null>({
    lsn,
    pipeline: options.name,
    relations,
    values: options.values,
    envelope: options.envelope,
    largeValues: { omit: false, onSkip: () => undefined },
    sink,
    cut: () => null,
    batchBytes: Number.POSITIVE_INFINITY,
    wanted,
    gone: () => [],
    onTable: () => undefined,
    onRows: options.onSnapshotRows,
    signal: options.signal,
  })
  try {
    for await (const _ of rows) continue
  } catch (error) {
    reader.close() // or rows would go on coming, into what is closed next
    throw error
  }
  return keyless
}

/** Hardly any record as young as this is compacted: its segment must have been rolled, and the cleaner looks every 15 seconds. */
const SOON_MS = 5000
/** Of a partition that is written as fast as it is read there is no end. */
const MOST_PASSES = 5

export interface OnEvent {
  /** Told of each event of a table. */
  readonly event?: (table: number) => void
  /** Of one whose position does not come after that of the event before it. */
  readonly repeated: (table: number, record: LogRecord, position: string) => void
  /** Of one of another format: what its row is stays unknown. */
  readonly foreign: (table: number) => void
}

/** Everything that is committed; what comes at or after the position `until` counts only as what compaction may have left. */
export async function digestLog(
  options: Omit<ComparisonOptions, 'onSnapshotRows'>,
  { until, on, ...at }: Compared & { readonly log: Log; readonly until: string | null; readonly on: OnEvent },
): Promise<void> {
  const { log } = at
  const { name, signal } = options
  const topics = topicsOf(name, at.reader)
  const there = (await log.topics(`${name}.`)).filter((topic) => topics.has(topic.name))
  await log.settled({ topics: there.map((topic) => topic.name), signal })
  for (const { name: topic, partitions } of there) {
    const table = topics.get(topic) ?? 0
    for (let partition = 0; partition < partitions; partition++) {
      const { earliest, end } = await log.offsets(topic, partition)
      const later = until === null ? end : await log.offsetAt({ topic, partition, position: until, signal })
      let last = ''
      for await (const record of log.read({ topic, partition, from: earliest, until: end, signal })) {
        const found = { ...at, table, record, on }
        if (record.offset >= later) {
          digestLater(options, found)
          continue
        }
        on.event?.(table)
        const position = positionIn(record)
        if (position !== null && position <= last) on.repeated(table, record, position)
        last = position ?? last
        digestRecord(options, { ...found, position: last })
      }
      signal.throwIfAborted()
      // What came meanwhile may have had compaction take what was not read yet: until nothing has come, or in no time to speak of.
      let from = end
      for (let pass = 0; pass < MOST_PASSES; pass++) {
        const { end: endNow } = await log.offsets(topic, partition)
        const since = performance.now()
        for await (const record of log.read({ topic, partition, from, until: endNow, signal }))
          digestLater(options, { ...at, table, record, on })
        signal.throwIfAborted()
        from = endNow
        if (performance.now() - since < SOON_MS) break
      }
    }
  }
}

interface FoundRecord extends Compared {
  readonly table: number
  readonly record: LogRecord
  readonly on: OnEvent
}

type EnvelopeOption = Pick<ComparisonOptions, 'envelope'>

function digestLater({ envelope }: EnvelopeOption, { digests, table, record, chosen }: FoundRecord): void {
  const { partition, key } = record
  const entry = { side: 'log', table, partition, position: '' } as const
  if (partsOf(record, envelope)?.operation === 't') digests.laterTruncate(entry)
  else if (key !== null && chosen(key)) digests.later({ ...entry, key })
}

function digestRecord(
  { envelope }: EnvelopeOption,
  { digests, table, record, chosen, on, position }: FoundRecord & { readonly position: string },
): void {
  const { partition, value, key } = record
  const entry = { side: 'log', table, partition, position } as const
  const parts = partsOf(record, envelope)
  if (parts === null) on.foreign(table)
  if (parts?.operation === 't') digests.truncate(entry)
  else if (key === null || !chosen(key)) return
  else if (value === null || parts?.row === null) digests.gone({ ...entry, key })
  else digests.row({ ...entry, key }, value, parts?.row ?? value.length, parts?.operation === 'u' && parts.partial)
}

export function topicsOf(name: string, { tables }: Pick<Snapshot, 'tables'>): ReadonlyMap<string, number> {
  return new Map(tables.map(({ relation }, i) => [tableTopic(name, relation.schema, relation.table), i]))
}

export function keyOf({ bytes, keyStart, keyEnd }: EncodedRecord): Buffer | null {
  return keyStart < 0 ? null : bytes.subarray(keyStart, keyEnd)
}

interface EventParts {
  readonly operation: string
  /** Where the row stands in the value; null where the event has none. */
  readonly row: number | null
  /** Columns that are not there are as they were. */
  readonly partial: boolean
}

/** Null where the event is not of that format. */
function partsOf({ value, headers }: Pick<LogRecord, 'value' | 'headers'>, { name }: Envelope): EventParts | null {
  const header = (key: string): string | null => headers.find((one) => one.key === key)?.value.toString() ?? null
  if (name === 'plain') {
    if (value !== null && header('evert.op') === null) return null
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
  if (operation === undefined || after === undefined) return null
  const row = value[after] === OPEN_BRACE ? after : null
  // What was left out because it is large did change: it is not what it was.
  const partial = found.has('unchanged') && !found.has('omitted')
  return { operation: String.fromCharCode(value[operation + 1] ?? 0), row, partial }
}

export function notOfFormat(name: string): EvertError {
  return new EvertError('LOG_PROTOCOL', {
    message: `the log holds an event that is not of the format ${name}`,
    hint: '--format must be that of the pipeline',
  })
}

const OPEN_BRACE = 0x7b

function startOf(value: Buffer, start: number): Map<string, number> {
  return new Map([...membersOf(value, start)].map((member) => [member.name, member.start]))
}
