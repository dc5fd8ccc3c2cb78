/** The offset of a position, found by binary search: positions only grow within a partition. */
import type { LogRecord, PartitionOffsets } from './log.js'
import { positionIn } from './position-in.js'

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
    const position = positionIn(record)
    if (position !== null) return { offset: record.offset, position }
    offset = record.offset + 1n
  }
  return null
}
