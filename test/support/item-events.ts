/** Events of a table (id, n, note) as a test sees them in a topic of one partition, where `n` grows with every change of a row. */
import type { Log } from '../../src/log/log.js'
import { readAll } from './pipeline.js'
import type { TestDatabase } from './servers.js'

export interface ItemEvent {
  readonly op: string
  readonly id: number
  readonly n: number
  readonly note?: unknown
  readonly position: string
}

/** What was published of it so far, tombstones left out. */
export async function itemEvents(
  openLog: () => Promise<Log>,
  database: TestDatabase,
  table = 'item',
): Promise<ItemEvent[]> {
  const log = await openLog()
  const records = await readAll(log, `${database.name}.public.${table}`)
  await log.close()
  return records
    .filter(({ value }) => value !== null)
    .map(({ value }) => {
      const { op, after, before, source } = JSON.parse(String(value))
      const { id, n, note } = after ?? before
      return { op, id, n, note, position: source.position }
    })
}

/** Positions grow, and no row shows an older state of its key after a newer one. */
export function requireForwards(events: readonly ItemEvent[]): void {
  const state = new Map<number, number>()
  let position = ''
  const wrong: ItemEvent[] = []
  for (const event of events) {
    if (event.position <= position || event.n < (state.get(event.id) ?? 0)) wrong.push(event)
    position = event.position
    state.set(event.id, event.n)
  }
  expect(wrong).toEqual([])
}
