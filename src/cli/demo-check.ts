/** The demo's proof: the log, read back, against what the shop did. */
import type { Log } from '../log/log.js'
import type { ExpectedChange, ExpectedRow } from './demo-shop.js'

export interface DemoResult {
  readonly events: number
  readonly missing: number
  readonly repeated: number
  readonly outOfOrder: number
}

interface DemoEvent {
  readonly op: string
  readonly table: string
  /** The new row, or the deleted one's key. */
  readonly row: Readonly<Record<string, unknown>>
  readonly unchanged: readonly string[]
  readonly key: string
  readonly position: string
}

interface Expected extends ExpectedChange {
  readonly index: number
  found: boolean
}

/** An event that never happened counts as repeated. */
export async function checkDemo(
  log: Log,
  options: { readonly name: string; readonly expected: readonly ExpectedChange[] },
): Promise<DemoResult> {
  const { events, backwards } = await readEvents(log, options.name)
  const expected = options.expected.map((change, index): Expected => ({ ...change, index, found: false }))
  const byKey = new Map<string, Expected[]>()
  let repeated = 0
  let outOfOrder = backwards
  let latest = -1
  for (const change of expected) push(byKey, expectedKey(change), change)
  for (const event of events) {
    const waiting = byKey.get(`${event.table} ${event.key}`) ?? []
    const at = waiting.findIndex((change) => matches(event, change))
    const change = waiting[at]
    if (change === undefined) {
      repeated++
      continue
    }
    waiting.splice(at, 1)
    change.found = true
    // Rows of a snapshot have no order among each other.
    if (at > 0 || (change.op !== 'r' && change.index < latest)) outOfOrder++
    if (change.op !== 'r') latest = Math.max(latest, change.index)
  }
  const missing = expected.filter(({ found }) => !found).length
  return { events: events.length, missing, repeated, outOfOrder }
}

/** Events of tables in position order, and how often positions went backwards within a partition. */
async function readEvents(log: Log, name: string): Promise<{ events: DemoEvent[]; backwards: number }> {
  const { signal } = new AbortController()
  const events: DemoEvent[] = []
  let backwards = 0
  for (const { name: topic, partitions } of await log.topics(`${name}.public.`)) {
    for (let partition = 0; partition < partitions; partition++) {
      const { earliest, end } = await log.offsets(topic, partition)
      let last = ''
      for await (const record of log.read({ topic, partition, from: earliest, until: end, signal })) {
        if (record.value === null) continue
        const event = demoEvent(record.value, record.key)
        if (event.position <= last) backwards++
        last = event.position
        events.push(event)
      }
    }
  }
  return { events: events.toSorted((a, b) => (a.position < b.position ? -1 : 1)), backwards }
}

function demoEvent(value: Buffer, key: Buffer | null): DemoEvent {
  const { op, before, after, unchanged, source } = JSON.parse(value.toString())
  return {
    op,
    table: source.table,
    row: op === 'd' ? before : after,
    unchanged: unchanged ?? [],
    key: textRow(JSON.parse(key?.toString() ?? '{}')),
    position: source.position,
  }
}

const KEYS: Readonly<Record<string, readonly string[]>> = { cart: ['customer', 'product'] }

function expectedKey({ table, row }: ExpectedChange): string {
  const columns = KEYS[table] ?? ['id']
  return `${table} ${textRow(Object.fromEntries(columns.map((column) => [column, row[column]])))}`
}

function textRow(row: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(Object.entries(row).map(([column, value]) => [column, text(value)]))
}

function matches(event: DemoEvent, { op, row }: ExpectedChange): boolean {
  const columns = Object.keys(row)
  return (
    event.op === op &&
    Object.keys(event.row).length + event.unchanged.length === columns.length &&
    columns.every((column) => event.unchanged.includes(column) || text(event.row[column]) === row[column])
  )
}

function text(value: unknown): ExpectedRow[string] {
  return value === null || value === undefined ? null : String(value as string | number)
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}
