/**
 * Differences: what a snapshot has to publish so that the log, as it is, comes to equal the tables: rows that the log has otherwise or not at
 * all, and deletes for keys that only the log has. Begun again after a crash, what was published already is equal.
 */
import type { Closers } from './base/closers.js'
import type { Logger } from './base/logger.js'
import { type ComparisonOptions, digestLog, digestTables, keyOf, topicsOf } from './comparison.js'
import type { Lsn } from './event/lsn.js'
import type { RecordSink } from './event/sink.js'
import { KeySet } from './key-set.js'
import type { Log } from './log/log.js'
import { type PublishedTable, qualifiedName } from './postgres/catalog.js'
import type { Snapshot } from './postgres/snapshot.js'
import type { RelationMemory } from './postgres/tables.js'
import { RowDigests } from './row-digests.js'

/** What is published of a table. */
export interface PublishedCounts {
  rows: number
  deletes: number
}

export class Differences {
  readonly #topics: ReadonlyMap<string, number>
  readonly #found: FoundDifferences
  readonly #published: readonly PublishedCounts[]

  constructor(topics: ReadonlyMap<string, number>, found: FoundDifferences) {
    this.#topics = topics
    this.#found = found
    this.#published = found.tables.map(() => ({ rows: 0, deletes: 0 }))
  }

  /** Tables that have nothing to publish, with how many rows they have. */
  get equal(): readonly { readonly table: PublishedTable; readonly rows: number }[] {
    const { tables, counts } = this.#found
    return tables.flatMap((table, i) => (this.#differs(i) ? [] : [{ table, rows: counts[i]!.rows }]))
  }

  differs(table: PublishedTable): boolean {
    return this.#differs(this.#found.tables.indexOf(table))
  }

  /** A sink that lets through what differs; of rows that are equal, nothing. */
  through(sink: RecordSink): RecordSink {
    return {
      get bytes() {
        return sink.bytes
      },
      get records() {
        return sink.records
      },
      topic: (request) => sink.topic(request),
      append: (topic, record) => {
        const table = this.#topics.get(topic.name)
        // The event of a delete is not counted, its tombstone is: there is one in every format.
        if (table !== undefined && record.valueStart < 0) this.#published[table]!.deletes++
        sink.append(topic, record)
      },
      open: (topic, record, valueBytes) => {
        const table = this.#topics.get(topic.name)
        if (table !== undefined && !this.#isGone(table, keyOf(record))) {
          if (!this.#isChanged(table, keyOf(record))) return null
          this.#published[table]!.rows++
        }
        return sink.open(topic, record, valueBytes)
      },
      close: (valueEnd) => sink.close(valueEnd),
      appendToAll: (topic, record) => sink.appendToAll(topic, record),
    }
  }

  /** Keys that the log has rows of, and the table has not. */
  gone(topic: string): Iterable<Buffer> {
    const table = this.#topics.get(topic)
    return table === undefined ? [] : this.#found.gone.of(table)
  }

  /** So far. */
  published(topic: string): PublishedCounts {
    return this.#published[this.#topics.get(topic) ?? -1] ?? { rows: 0, deletes: 0 }
  }

  #differs(table: number): boolean {
    const { whole, counts } = this.#found
    return whole.has(table) || counts[table]!.changed + counts[table]!.gone > 0
  }

  #isGone(table: number, key: Buffer | null): boolean {
    const { counts, gone } = this.#found
    return key !== null && counts[table]!.gone > 0 && gone.has(table, key)
  }

  #isChanged(table: number, key: Buffer | null): boolean {
    const { whole, changed } = this.#found
    return key === null || whole.has(table) || changed.has(table, key)
  }
}

interface FoundDifferences {
  readonly tables: readonly PublishedTable[]
  /** Tables of which every row is published, for they cannot be compared. */
  readonly whole: ReadonlySet<number>
  /** Rows that the log has otherwise, in part, or not at all. */
  readonly changed: KeySet
  /** Keys that only the log has. */
  readonly gone: KeySet
  /** By table; `rows` is what was compared. */
  readonly counts: readonly { rows: number; changed: number; gone: number }[]
}

interface FindOptions extends ComparisonOptions {
  readonly logger: Logger
}

interface FindAt {
  readonly reader: Snapshot
  readonly lsn: Lsn
  readonly log: Log
  readonly relations: RelationMemory
  readonly closers: Closers
}

/** Compares all of the log, which must end before the LSN of the snapshot, and to which nobody else may write. */
export async function findDifferences(options: FindOptions, at: FindAt): Promise<Differences> {
  const { reader, closers } = at
  const { tables } = reader
  const changed = closers.add(new KeySet(), (keys) => keys.close())
  const gone = closers.add(new KeySet(), (keys) => keys.close())
  const counts = tables.map(() => ({ rows: 0, changed: 0, gone: 0 }))
  const digests = new RowDigests(reader.cost)
  try {
    const whole = await digestBoth(options, { ...at, digests })
    const compared = await digests.compare(({ table, kind, key }) => {
      const keys = kind === 'extra' ? gone : changed
      keys.add(table, key)
      counts[table]![kind === 'extra' ? 'gone' : 'changed']++
    }, options.signal)
    for (const { table, rows } of compared) counts[table]!.rows = rows
    return new Differences(topicsOf(options.name, reader), { tables, whole, changed, gone, counts })
  } finally {
    digests.close()
  }
}

/** Gives the tables that cannot be compared. */
async function digestBoth(
  options: FindOptions,
  at: FindAt & { readonly digests: RowDigests },
): Promise<ReadonlySet<number>> {
  const { tables } = at.reader
  const compared = { ...at, chosen: () => true }
  const seen = new Set<number>()
  const foreign = new Set<number>()
  const on = {
    event: (table: number) => void seen.add(table),
    repeated: () => undefined,
    foreign: (table: number) => void foreign.add(table),
  }
  await digestLog(options, { ...compared, until: null, on })
  const numbersOf = (is: (table: PublishedTable, number: number) => boolean): Set<number> =>
    new Set(tables.flatMap((table, number) => (is(table, number) ? [number] : [])))
  const unseen = numbersOf((_, table) => !seen.has(table))
  const keyless = numbersOf(({ relation }) => !relation.columns.some(({ key }) => key))
  const wanted = (table: PublishedTable): boolean => {
    const number = tables.indexOf(table)
    return !unseen.has(number) && !keyless.has(number)
  }
  // As the stream will remember them, which may be otherwise than the catalog has them, but for now nothing is remembered.
  const relations = { ...at.relations, remember: () => undefined }
  for (const table of await digestTables(options, { ...compared, relations, wanted })) keyless.add(table)
  const named = (numbers: ReadonlySet<number>): string[] => [...numbers].map((i) => qualifiedName(tables[i]!.relation))
  if (keyless.size > 0)
    options.logger.warn(
      { tables: named(keyless) },
      'tables without a key cannot be compared: all of their rows are published again',
    )
  if (foreign.size > 0)
    options.logger.warn(
      { tables: named(foreign) },
      `rows whose events are of another format than ${options.envelope.name} cannot be compared: they are published again`,
    )
  return new Set([...unseen, ...keyless])
}
