/** The position that a record carries, whatever the format of its event. */
import type { LogRecord } from './log.js'

/**
 * What says where an event comes from is the last member of its envelope and short, so a position further from the end is a column's
 * text. In CloudEvents the position is the id; where the value is the row alone, it is a header.
 */
const TAIL_BYTES = 4096
const POSITION = /"(?:position|id)":"([0-9a-f]{16}-[0-9a-f]{8})"/g

/** Null where the record is a tombstone behind a delete, or not an event. */
export function positionIn({ value, headers }: Pick<LogRecord, 'value' | 'headers'>): string | null {
  const header = headers.find(({ key }) => key === 'evert.position')
  if (header !== undefined) return header.value.toString()
  if (value === null) return null
  const tail = value.toString('latin1', Math.max(0, value.length - TAIL_BYTES))
  return [...tail.matchAll(POSITION)].at(-1)?.[1] ?? null
}
