/**
 * Verify: that the log, folded to one LSN, is what the tables are at that LSN. Both sides are read once, side by side with whatever else goes
 * on, and compared by key, value by value, as digests of the bytes that an event has.
 */
import { type Closers, closing } from './base/closers.js'
import type { Logger } from './base/logger.js'
import { type ComparisonOptions, digestLog, digestTables, notOfFormat, type OnEvent } from './comparison.js'
import { formatLsn } from './event/lsn.js'
import { firstPosition } from './event/position.js'
import { passed, snapshotBeside } from './live.js'
import type { Log } from './log/log.js'
import { describeRelation, type PublishedTable } from './postgres/catalog.js'
import type { ConnectionOptions } from './postgres/connection-options.js'
import type { SnapshotObserver } from './postgres/snapshot.js'
import type { TablePatterns } from './postgres/table-patterns.js'
import { withoutMemory } from './postgres/tables.js'
import { type Difference as DigestDifference, hashText, RowDigests } from './row-digests.js'

export interface VerifyOptions extends ComparisonOptions, SnapshotObserver {
  readonly slot: string
  readonly publication: string
  readonly connection: ConnectionOptions
  readonly patterns: TablePatterns
  readonly readers: number
  /** Of the rows that are compared, chosen by their keys: 1 for all. */
  readonly sample: number
  readonly log: Log
  readonly logger: Logger
}

export interface Difference {
  /** `missing` in the log, `extra` in the log, `different`, or `repeated`: an event whose position does not come after the one before it. */
  readonly kind: Exclude<DigestDifference['kind'], 'unknown'> | 'repeated'
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
  const digests = closers.add(new RowDigests(reader.cost, { share: options.sample }), (d) => d.close())
  const compared = { reader, digests, chosen: sampler(options.sample) }
  const relations = withoutMemory((relation) => describeRelation(connection, relation))
  await digestTables(options, { ...compared, lsn, relations })
  reader.close()
  options.onSnapshotComplete()
  await passed(options, log, { connection, lsn })
  const position = firstPosition(lsn)
  const repeated = reader.tables.map(() => ({ count: 0, first: [] as Difference[] }))
  const on: OnEvent = {
    repeated: (table, { key }, at) => {
      const found = repeated[table]!
      if (found.count++ >= SHOWN) return
      found.first.push({ kind: 'repeated', key: key?.toString() ?? null, position: at, columns: [] })
    },
    foreign: () => {
      throw notOfFormat(options.envelope.name)
    },
  }
  await digestLog(options, { ...compared, log, until: position, on })
  return {
    lsn: formatLsn(lsn),
    position,
    tables: await verdicts(reader.tables, { digests, repeated, signal: options.signal }),
  }
}

async function verdicts(
  tables: readonly PublishedTable[],
  found: {
    readonly digests: RowDigests
    readonly repeated: readonly { readonly count: number; readonly first: readonly Difference[] }[]
    readonly signal: AbortSignal
  },
): Promise<TableVerdict[]> {
  const { digests, repeated, signal } = found
  const counts = repeated.map(({ count }) => count)
  const first = repeated.map((of) => [...of.first])
  const comparisons = await digests.compare(({ table, columns, kind, key, position }) => {
    if (kind === 'unknown') return // counted as not compared
    counts[table]!++
    const names = tables[table]!.relation.columns.map(({ name }) => name)
    first[table]!.push({
      kind,
      key: key.toString(),
      position,
      columns: names.filter((name) => columns.includes(hashText(escaped(name)))),
    })
    // Memory stays bounded where everything differs.
    if (first[table]!.length > 2 * SHOWN) first[table] = byKey(first[table]!)
  }, signal)
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

/** The same keys on both sides. */
function sampler(share: number): (key: Buffer) => boolean {
  const below = share * 1_000_000
  return share >= 1 ? () => true : (key) => hashText(key.toString()) % 1_000_000 < below
}
