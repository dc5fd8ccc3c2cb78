/** The offset of a position, found by binary search: positions only grow within a partition. */
import type { LogRecord, PartitionOffsets } from './log.js'

/**
 * The event's `source` is the last member of its envelope and short, so a position further from the end is a column's text.
 */
const TAIL_BYTES = 4096
const POSITION = /"position":"([0-9a-f]{16}-[0-9a-f]{8})"/g

/** The position in an event, or null where the value is a tombstone or of a format without positions. */
export function positionIn(value: Buffer | null): string | null {
  if (value === null) return null
  const tail = value.toString('latin1', Math.max(0, value.length - TAIL_BYTES))
  return [...tail.matchAll(POSITION)].at(-1)?.[1] ?? null
}

interface OffsetAtOptions extends PartitionOffsets {
  readonly position: string
  /** The first record at or after an offset and before the end, null where there is none. */
  readonly firstRecordAtOrAfter: (offset: bigint) => Promise<LogRecord | null>
}

/** The first offset whose record has that position or a later one, or the end. */
export async function offsetAt(options: OffsetAtOptions): Promise<bigint> {
  // Records before `low` have earlier positions; the answer is `found` or between the two.
  let low = options.earliest
  let high = options.end
  let found = options.end
  while (low < high) {
    const middle = (low + high) / 2n
    const record = await firstWithPosition(options, middle, high)
    if (record === null) {
      high = middle
    } else if (record.position >= options.position) {
      found = record.offset
      high = middle
    } else {
      low = record.offset + 1n
    }
  }
  return found
}

interface Positioned {
  readonly offset: bigint
  readonly position: string
}

/** Looks on over tombstones, which have no position of their own. */
async function firstWithPosition(options: OffsetAtOptions, from: bigint, until: bigint): Promise<Positioned | null> {
  for (let offset = from; offset < until;) {
    const record = await options.firstRecordAtOrAfter(offset)
    if (record === null || record.offset >= until) return null
    const position = positionIn(record.value)
    if (position !== null) return { offset: record.offset, position }
    offset = record.offset + 1n
  }
  return null
}
