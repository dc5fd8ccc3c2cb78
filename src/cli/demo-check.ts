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

/** What is to come of one key, in order; those before `next` were found. */
interface Waiting {
  readonly changes: Expected[]
  next: number
}

/** An event that never happened counts as repeated. */
export async function checkDemo(
  log: Log,
  options: { readonly name: string; readonly expected: readonly ExpectedChange[] },
): Promise<DemoResult> {
  const { events, backwards } = await readEvents(log, options.name)
  const expected = options.expected.map((change, index): Expected => ({ ...change, index, found: false }))
  const byKey = new Map<string, Waiting>()
  let repeated = 0
  let outOfOrder = backwards
  let latest = -1
  for (const change of expected) {
    const key = expectedKey(change)
    const waiting = byKey.get(key)
    if (waiting === undefined) byKey.set(key, { changes: [change], next: 0 })
    else waiting.changes.push(change)
  }
  for (const event of events) {
    const change = take(byKey.get(`${event.table} ${event.key}`), event)
    if (change === null) {
      repeated++
      continue
    }
    // Rows of a snapshot have no order among each other.
    if (change.op === 'r') continue
    if (change.index < latest) outOfOrder++
    latest = Math.max(latest, change.index)
  }
  const missing = expected.filter(({ found }) => !found).length
  return { events: events.length, missing, repeated, outOfOrder }
}

/** The change that an event tells of: the next of its key, or a later one. */
function take(waiting: Waiting | undefined, event: DemoEvent): Expected | null {
  if (waiting === undefined) return null
  const { changes } = waiting
  for (let at = waiting.next; at < changes.length; at++) {
    const change = changes[at]
    if (change === undefined || change.found || !matches(event, change)) continue
    change.found = true
    while (changes[waiting.next]?.found === true) waiting.next++
    return change
  }
  return null
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
