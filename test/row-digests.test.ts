/** Row digests: whatever the log says of rows, it is compared as a fold in memory would, also where buckets are split. */
import fc from 'fast-check'
import { type Difference, RowDigests } from '../src/row-digests.js'

const { signal } = new AbortController()
type Row = Readonly<Record<string, number>>

const row = fc.dictionary(fc.constantFrom('a', 'b', 'note'), fc.integer({ min: 0, max: 1 }), { noNullPrototype: true })
const table = fc.integer({ min: 0, max: 1 })
const key = fc.integer({ min: 0, max: 30 }).map((id) => `{"id":"é${id}"}`)
const partition = (of: string): number => of.length % 2
const event = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('row' as const), table, key, row, partial: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('gone' as const), table, key }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const), table }) },
)

it.each([undefined, 200])('what differs is what differs in memory, in buckets of %s bytes', async (bucketBytes) => {
  const rows = fc.dictionary(
    fc.tuple(table, key).map(([of, name]) => `${of} ${name}`),
    row,
    { maxKeys: 60 },
  )
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 200 }), rows, async (events, tables) => {
      const digests = new RowDigests({ rows: 0, bytes: 0 }, bucketBytes === undefined ? {} : { bucketBytes })
      const log = new Map<string, Row>()
      const positions = new Map<string, string>()
      let position = ''
      const write = (side: 'log' | 'table', of: string, value: Row, partial: boolean): void => {
        const [number, name = ''] = of.split(' ')
        const bytes = Buffer.from(JSON.stringify(value))
        const at = side === 'log' ? position : ''
        const entry = { side, table: Number(number), partition: partition(name), position: at, key: Buffer.from(name) }
        digests.row(entry, bytes, 0, partial)
      }
      for (const [i, one] of events.entries()) {
        position = `00000000000000ff-${i.toString(16).padStart(8, '0')}`
        const common = { side: 'log', table: one.table, position } as const
        if (one.kind === 'truncate') {
          for (const each of [0, 1]) digests.truncate({ ...common, partition: each })
          for (const id of log.keys()) if (id.startsWith(`${one.table} `)) log.delete(id)
          continue
        }
        const of = `${one.table} ${one.key}`
        if (one.kind === 'gone') {
          digests.gone({ ...common, partition: partition(one.key), key: Buffer.from(one.key) })
          log.delete(of)
        } else {
          write('log', of, one.row, one.partial)
          positions.set(of, position)
          log.set(of, one.partial ? { ...log.get(of), ...one.row } : one.row)
        }
      }
      for (const [of, value] of Object.entries(tables)) write('table', of, value, false)
      const found: string[] = []
      await digests.compare((difference) => found.push(said(difference, positions)), signal)
      digests.close()
      expect(found.toSorted()).toEqual(expected(log, tables).toSorted())
    }),
    { numRuns: 60 },
  )
})

it('of a key that has moved to another partition the later event counts, whichever is read first', async () => {
  const digests = new RowDigests({ rows: 0, bytes: 0 })
  const [old, now] = ['{"a":1}', '{"a":2}'].map((text) => Buffer.from(text))
  const at = (of: number, position: number, id: number): Parameters<RowDigests['gone']>[0] => {
    const text = `${String(position).padStart(16, '0')}-00000000`
    return { side: 'log', table: 0, partition: of, position: text, key: Buffer.from(`{"id":${id}}`) }
  }
  digests.row(at(1, 5, 1), now!, 0, false)
  digests.gone(at(1, 5, 2))
  digests.row(at(3, 4, 1), old!, 0, false)
  digests.row(at(3, 4, 2), old!, 0, false)
  digests.row({ ...at(0, 0, 1), side: 'table', position: '' }, now!, 0, false)
  const found: Difference[] = []
  await digests.compare((difference) => found.push(difference), signal)
  digests.close()
  expect(found).toEqual([])
})

it('as many truncates as one likes cost nothing', async () => {
  const digests = new RowDigests({ rows: 0, bytes: 0 }, { bucketBytes: 1024 })
  const common = { side: 'log', table: 0, partition: 0 } as const
  const bytes = Buffer.from('{"a":1}')
  for (let i = 0; i < 100_000; i++) {
    const position = `${i.toString(16).padStart(16, '0')}-00000001`
    if (i % 1000 === 0) digests.row({ ...common, position, key: Buffer.from(`{"id":${i}}`) }, bytes, 0, false)
    else digests.truncate({ ...common, position })
  }
  const found: Difference[] = []
  await digests.compare((difference) => found.push(difference), signal)
  digests.close()
  expect(found).toEqual([])
})

function said(
  { kind, table: of, key: name, position, columns }: Difference,
  positions: ReadonlyMap<string, string>,
): string {
  expect(position).toBe(kind === 'missing' ? null : positions.get(`${of} ${name.toString()}`))
  return `${kind} ${of} ${name.toString()} ${columns.length}`
}

function expected(log: ReadonlyMap<string, Row>, tables: Readonly<Record<string, Row>>): string[] {
  const extra = [...log.keys()].filter((of) => tables[of] === undefined).map((of) => `extra ${of} 0`)
  const others = Object.entries(tables).flatMap(([of, value]) => {
    const there = log.get(of)
    if (there === undefined) return [`missing ${of} 0`]
    const different = Object.keys(value).filter((name) => name in there && there[name] !== value[name]).length
    if (different > 0) return [`different ${of} ${different}`]
    return Object.keys(value).every((name) => name in there) ? [] : [`unknown ${of} 0`]
  })
  return [...extra, ...others]
}
