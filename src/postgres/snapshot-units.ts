/** Snapshot units: what one reader copies at a time. Large tables are split by the places of their rows, largest first. */
import type { Relation } from '../event/relation.js'
import type { PublishedTable } from './catalog.js'
import { copyStatement } from './table-statements.js'

export interface SnapshotUnit {
  readonly table: PublishedTable
  readonly statement: string
  /** Of the table on disk, about. */
  readonly bytes: number
}

/** SQL that only the wanted rows of a table fulfil, or null for all of them. */
export type RowCondition = (table: Relation) => string | null

/** About as much of a table is one unit: small enough that readers end together, large enough that a COPY more costs nothing. */
const UNIT_BYTES = 32 * 1024 ** 2

export function snapshotUnits(
  tables: readonly PublishedTable[],
  condition: RowCondition = () => null,
  unitBytes = UNIT_BYTES,
): SnapshotUnit[] {
  const largestFirst = tables.toSorted((a, b) => b.bytes - a.bytes)
  return largestFirst.flatMap((table) => {
    const ranges = blockRanges(table, unitBytes)
    const bytes = table.bytes / ranges.length
    return ranges.map((range) => ({ table, statement: unitStatement(table, condition, range), bytes }))
  })
}

/**
 * Ranges of blocks, each from the one before it; the last one is open, because a table may have grown since its size was asked. In a
 * partitioned table a range means those blocks of every partition.
 */
function blockRanges({ blocks, heapBytes }: PublishedTable, unitBytes: number): BlockRange[] {
  const count = blocks === null ? 1 : Math.min(Math.ceil(heapBytes / unitBytes), blocks)
  if (blocks === null || count <= 1) return [{ from: 0, until: null }]
  const bound = (i: number): number => Math.round((blocks * i) / count)
  return Array.from({ length: count }, (_, i) => ({ from: bound(i), until: i === count - 1 ? null : bound(i + 1) }))
}

interface BlockRange {
  readonly from: number
  readonly until: number | null
}

function unitStatement(table: PublishedTable, condition: RowCondition, { from, until }: BlockRange): string {
  const wanted = condition(table.relation)
  return copyStatement(table, [
    ...(wanted === null ? [] : [`(${wanted})`]),
    ...(from === 0 ? [] : [`ctid >= '(${from},0)'::tid`]),
    ...(until === null ? [] : [`ctid < '(${until},0)'::tid`]),
  ])
}
