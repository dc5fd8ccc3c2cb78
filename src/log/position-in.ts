/** The position that an event carries. */

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
