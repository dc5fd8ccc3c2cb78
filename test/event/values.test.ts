/** Values that are taken apart: what is written of arrays, composites and hstore, and that the room reckoned for rows is enough. */
import fc from 'fast-check'
import { envelope } from '../../src/event/formats.js'
import { keyBytes, rowsBytes, tupleBytes } from '../../src/event/row.js'
import { RowWriter } from '../../src/event/row-writer.js'
import { compileTable } from '../../src/event/table.js'
import { NULL, OMITTED, UNCHANGED } from '../../src/event/tuple.js'
import type { TypeDescription } from '../../src/event/type-description.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import { SEPARATORS, valueType } from '../../src/event/value-types.js'
import { valueBytes, writeValue } from '../../src/event/values.js'
import { type Cell, relationOf, tupleOf } from '../support/tuples.js'

const OUT = Buffer.alloc(4 * 1024 * 1024)

/** A value that is not NULL: Postgres' text form, and the JSON that is to become of it. */
interface Sample {
  readonly text: string
  readonly json: string
}

/** A type, with the descriptions of all that it is made of, and values of it. */
interface Described {
  readonly oid: number
  readonly types: Readonly<Record<string, TypeDescription>>
  readonly samples: fc.Arbitrary<Sample>
}

const same = (value: string): Sample => ({ text: value, json: value })
const quoted = (value: string): Sample => ({ text: value, json: JSON.stringify(value) })
const builtIn = (oid: number, samples: fc.Arbitrary<Sample>): Described => ({ oid, types: {}, samples })

/** Of control characters alone, each of which becomes six bytes; of what is escaped at every level; and longer than is taken on trust. */
const text = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.string({ unit: fc.constantFrom('"', '\\', ',', ':', ';', '{', ')', '\u0001', ' ', 'N', 'é', '😀') }),
    fc.string({ unit: fc.constantFrom('\u0001', '\u001f'), maxLength: 60 }),
    fc.constantFrom('', 'NULL', 'null', '\\N', '{}', '()'),
    fc.tuple(fc.constantFrom('\u0001', '"', 'a'), fc.integer({ min: 4090, max: 5000 })).map(([c, n]) => c.repeat(n)),
  )
  .filter((value) => !value.includes('\0'))

const SCALARS: readonly Described[] = [
  builtIn(
    16,
    fc.boolean().map((value) => ({ text: value ? 't' : 'f', json: String(value) })),
  ),
  builtIn(
    17,
    fc.uint8Array({ maxLength: 9 }).map((array) => {
      const bytes = Buffer.from(array)
      return { text: `\\x${bytes.toString('hex')}`, json: `"${bytes.toString('base64')}"` }
    }),
  ),
  builtIn(
    20,
    fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map((value) => same(String(value))),
  ),
  builtIn(25, text.map(quoted)),
  builtIn(701, fc.oneof(fc.constantFrom('NaN', '-Infinity').map(quoted), fc.integer().map(String).map(same))),
  // The date that grows most.
  builtIn(
    1082,
    fc.constantFrom(quoted('2026-03-01'), quoted('-infinity'), {
      text: '10000-01-01',
      json: '"+010000-01-01"',
    }),
  ),
  builtIn(
    1184,
    fc.constantFrom(
      { text: '2026-03-01 12:00:00.5+00', json: '"2026-03-01T12:00:00.5Z"' },
      { text: '0044-03-15 12:00:00+00 BC', json: '"-000043-03-15T12:00:00Z"' },
    ),
  ),
  {
    oid: 16_384,
    types: { 16_384: { is: 'hstore' } },
    samples: fc
      .uniqueArray(fc.tuple(text, fc.option(text)), { maxLength: 4, selector: ([key]) => key })
      .map((pairs) => ({
        text: pairs.map(([key, value]) => `${escaped(key)}=>${value === null ? 'NULL' : escaped(value)}`).join(', '),
        json: `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`,
      })),
  },
]

/** In quotes, with a backslash before each quote and backslash. */
function escaped(value: string): string {
  return `"${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`
}

/** What can be neither syntax nor a NULL. */
const isBare = (value: string): boolean => /^[\w.+-]+$/.test(value) && value.toUpperCase() !== 'NULL'

/** No two types have the same OID. */
let lastOid = 20_000

/** https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO, of one dimension, sometimes with bounds, or of two. */
function arrayOf({ oid: element, types, samples }: Described, delimiter: string): Described {
  const item = fc.option(samples, { freq: 5 }).map((sample) => {
    if (sample === null) return { text: 'NULL', json: 'null' }
    return { text: isBare(sample.text) ? sample.text : escaped(sample.text), json: sample.json }
  })
  const list = (items: readonly Sample[]): Sample => ({
    text: `{${items.map((one) => one.text).join(delimiter)}}`,
    json: `[${items.map(({ json }) => json).join(',')}]`,
  })
  // Enough of them that what each separator is reckoned to add is needed; of larger ones few, or values explode.
  const maxLength = Object.keys(types).length === 0 ? 20 : 4
  const flat = fc.array(item, { maxLength }).map(list)
  const bounded = flat.map((one) => ({ text: `[3:7]=${one.text}`, json: one.json }))
  const square = fc.array(fc.tuple(item, item).map(list), { minLength: 1, maxLength: 3 }).map(list)
  const oid = ++lastOid
  return {
    oid,
    types: { ...types, [oid]: { is: 'array', element, delimiter } },
    samples: fc.oneof(flat, bounded, square),
  }
}

/** https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX: a quote and a backslash are doubled. */
function compositeOf(fields: readonly Described[], names: readonly string[]): Described {
  const attributes = fields.map((field, i) => ({ name: `${i}${names[i] ?? ''}`, typeOid: field.oid }))
  const oid = ++lastOid
  const values = fields.map(({ samples }) => fc.option(samples, { freq: 5 }))
  return {
    oid,
    types: Object.assign({}, ...fields.map(({ types }) => types), {
      [oid]: { is: 'composite', attributes, dropped: false },
    }) as Described['types'],
    samples: fc.tuple(...values).map((row) => ({
      text: `(${row.map((one) => (one === null ? '' : isBare(one.text) ? one.text : `"${one.text.replaceAll(/["\\]/g, '$&$&')}"`)).join(',')})`,
      json: `{${row.map((one, i) => `${JSON.stringify(attributes[i]!.name)}:${one?.json ?? 'null'}`).join(',')}}`,
    })),
  }
}

const { type } = fc.letrec<{ readonly type: Described; readonly parts: Described }>((tie) => ({
  type: fc.oneof({ maxDepth: 3 }, fc.constantFrom(...SCALARS), tie('parts')),
  parts: fc.oneof(
    fc.tuple(tie('type'), fc.constantFrom(...SEPARATORS)).map(([element, delimiter]) => arrayOf(element, delimiter)),
    fc
      .tuple(fc.array(tie('type'), { maxLength: 4 }), fc.array(fc.string({ maxLength: 20 }), { maxLength: 4 }))
      .map(([fields, names]) => compositeOf(fields, names)),
  ),
}))

describe('a value', () => {
  it('is written as what it is made of, in no more bytes than were reckoned', () => {
    const typed = type.chain((one) => one.samples.map((sample) => ({ one, sample })))
    fc.assert(
      fc.property(typed, fc.nat(9), fc.nat(9), ({ one, sample }, before, at) => {
        const compiled = valueType(one.oid, DEFAULT_VALUES, one.types)
        const content = Buffer.from(sample.text)
        const from = Buffer.concat([Buffer.alloc(before, '"\\'), content, Buffer.from('"\\,})')])
        const end = writeValue(compiled, from, before, before + content.length, OUT, at)
        expect(OUT.toString('utf8', at, end)).toBe(sample.json)
        expect(end - at).toBeLessThanOrEqual(valueBytes(compiled, from, before, before + content.length))
      }),
      { numRuns: 1000 },
    )
  })
})

it.each([1, 2, 20])(
  'an array of rows of %i columns is reckoned at what is written, and at no many times of it',
  (count) => {
    const names = Array.from({ length: count }, (_, i) => `attribute_with_a_long_name_for_nothing_that_is_shorter_${i}`)
    const attributes = names.map((name) => ({ name, typeOid: 25 }))
    const types = { 1: { is: 'array', element: 2, delimiter: ',' }, 2: { is: 'composite', attributes, dropped: false } }
    const compiled = valueType(1, DEFAULT_VALUES, types as Described['types'])
    // The less there is of it, the more labels count.
    const element = `"(${names.map(() => '').join(',')})"`
    const from = Buffer.from(`{${Array<string>(1000).fill(element).join(',')}}`)
    const out = Buffer.alloc(4_000_000)
    const written = writeValue(compiled, from, 0, from.length, out, 0)
    const reckoned = valueBytes(compiled, from, 0, from.length)
    expect(reckoned).toBeGreaterThanOrEqual(written)
    expect(reckoned).toBeLessThan(3 * written)
  },
)

describe('the bytes that are reckoned for a row', () => {
  const column = fc.record({
    type: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...SCALARS.slice(0, -1)) }, { weight: 1, arbitrary: type }),
    name: fc.string({ maxLength: 20 }),
    key: fc.boolean(),
  })
  const rows = fc.array(column, { minLength: 1, maxLength: 8 }).chain((columns) => {
    const cells = columns.map(({ type: { samples } }) =>
      fc.oneof(
        { weight: 8, arbitrary: samples.map((sample): Cell => sample.text) },
        { weight: 1, arbitrary: fc.constantFrom<Cell>(NULL, UNCHANGED, OMITTED) },
      ),
    )
    return fc.record({ columns: fc.constant(columns), row: fc.tuple(...cells), old: fc.tuple(...cells) })
  })

  it('are enough for all that is written of it', () => {
    const writer = new RowWriter()
    fc.assert(
      fc.property(rows, ({ columns, row, old }) => {
        const table = compileTable({
          relation: relationOf(
            columns.map(({ name, key, type: { oid: typeOid } }, i) => ({
              name: `${i}${name}`,
              typeOid,
              // A key is always sent.
              key: key && typeof row[i] === 'string',
            })),
          ),
          topic: { name: 't', partitions: 1 },
          types: Object.assign({}, ...columns.map(({ type: { types } }) => types)) as Described['types'],
          values: DEFAULT_VALUES,
          envelope: envelope('evert', { pipeline: '', database: '', version: '' }),
        })
        const [after, before] = [tupleOf(row), tupleOf(old)]
        // What stands around the rows takes all of its own part.
        const constant = table.constantBytes - table.source.length - table.heads!.c.withoutBefore.length
        const alone = writer.writeAbsent(table, after, before, OUT, writer.writeRow(table, after, OUT, 0))
        expect(alone).toBeLessThanOrEqual(tupleBytes(table, after) + constant)
        const both = writer.writeRow(table, before, OUT, alone)
        expect(both).toBeLessThanOrEqual(rowsBytes(table, after, before, false) + constant)
        expect(writer.writeKey(table, after, OUT, 0)).toBeLessThanOrEqual(keyBytes(table, after) + table.constantBytes)
      }),
      { numRuns: 500 },
    )
  })
})
