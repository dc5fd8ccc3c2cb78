/** Rows that are copied: split and unescaped where they stand, against the rows that Postgres' rules for COPY made the lines of. */
import fc from 'fast-check'
import type net from 'node:net'
import { Duplex } from 'node:stream'
import { NULL, TEXT, type Tuple } from '../../src/event/tuple.js'
import { CopyRows } from '../../src/postgres/copy-rows.js'

type Row = readonly (string | null)[]

/** https://www.postgresql.org/docs/current/sql-copy.html, "Text Format": what COPY TO never writes as it is. */
const ESCAPES: Readonly<Record<string, string>> = {
  '\b': String.raw`\b`,
  '\f': String.raw`\f`,
  '\n': String.raw`\n`,
  '\r': String.raw`\r`,
  '\t': String.raw`\t`,
  '\v': String.raw`\v`,
  '\\': String.raw`\\`,
}

const line = (row: Row): string =>
  `${row.map((value) => (value === null ? String.raw`\N` : [...value].map((one) => ESCAPES[one] ?? one).join(''))).join('\t')}\n`

function message(tag: string, body: string): Buffer {
  const bytes = Buffer.from(`${tag}0000${body}`)
  bytes.writeInt32BE(bytes.length - 1, 1)
  return bytes
}

/** What Postgres answers: CopyOutResponse, a CopyData for each row, CopyDone, CommandComplete and ReadyForQuery. */
function answer(rows: readonly Row[]): Buffer {
  const data = rows.map((row) => message('d', line(row)))
  return Buffer.concat([message('H', '\0\0\0'), ...data, message('c', ''), message('C', 'COPY\0'), message('Z', 'T')])
}

/** A server that answers each query with the next of the answers, in chunks of these sizes in turn. */
function serverOf(answers: readonly Buffer[], sizes: readonly number[]): net.Socket {
  let queries = 0
  const socket = new Duplex({
    read: () => undefined,
    write(_query, _encoding, done) {
      const bytes = answers[queries++]!
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const end = at + sizes[turn % sizes.length]!
        // A copy, since a chunk of the network is nobody else's.
        socket.push(Buffer.from(bytes.subarray(at, end)))
        at = end
      }
      done()
    },
  })
  return socket as unknown as net.Socket
}

/** Valid only while the row is handed over. */
function shown(row: Tuple): Row {
  const values = Array.from({ length: row.count }, (_, i) => {
    expect([NULL, TEXT]).toContain(row.state[i])
    return row.state[i] === NULL ? null : row.bytes.toString('utf8', row.start[i], row.end[i])
  })
  const bytes = values.reduce((sum, value) => sum + Buffer.byteLength(value ?? ''), 0)
  expect(row.size).toBeGreaterThanOrEqual(bytes)
  return values
}

/** All rows of a copy, at rest after each one that the holds say. */
async function rowsOf(reader: CopyRows, columns: number, holds: readonly boolean[]): Promise<Row[]> {
  const rows: Row[] = []
  let full = false
  const onRow = (row: Tuple): void => {
    rows.push(shown(row))
    full = holds[rows.length % holds.length]!
  }
  const request = { statement: 'copy', columns, table: 'public.t', onRow, full: () => full }
  for await (const _ of reader.copy(request, new AbortController().signal)) full = false
  return rows
}

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: fc.constantFrom('\t', '\n', '\r', '\\', 'N', 't', 'b', '\b', '\f', '\v', '.', 'é', '😀') }),
  fc.constantFrom('', String.raw`\N`, String.raw`\.`, 'N', String.raw`a\N`, '\\'),
)
const table: fc.Arbitrary<readonly Row[]> = fc
  .nat(5)
  .chain((columns) =>
    fc.array(fc.array(fc.option(text, { freq: 4 }), { minLength: columns, maxLength: columns }), { maxLength: 12 }),
  )

describe('rows that are copied', () => {
  it('are what they were before Postgres escaped them, however they are cut, and however often they rest', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(table, { minLength: 1, maxLength: 3 }),
        fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1 }),
        fc.array(fc.boolean(), { minLength: 1 }),
        async (tables, sizes, holds) => {
          const reader = new CopyRows(serverOf(tables.map(answer), sizes))
          for (const rows of tables) {
            expect(await rowsOf(reader, rows[0]?.length ?? 0, holds)).toEqual(rows)
          }
          reader.close()
        },
      ),
      { numRuns: 200 },
    )
  })

  it.each([
    ['more', [['a', null, 'c']]],
    ['fewer', [['a', null], ['b']]],
  ])('are refused where they have %s columns than their table', async (_, rows) => {
    const reader = new CopyRows(serverOf([answer(rows)], [7]))
    await expect(rowsOf(reader, 2, [false])).rejects.toMatchObject({ code: 'PROTOCOL' })
  })
})
