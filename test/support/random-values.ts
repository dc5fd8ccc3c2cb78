/** Random values: for each type, SQL literals as people and machines write them, the rare corners more often than their share. */
import fc from 'fast-check'

export interface RandomType {
  readonly sql: string
  /** The text of a value, as a literal's content. */
  readonly text: fc.Arbitrary<string>
}

const digits = (most: number): fc.Arbitrary<string> =>
  fc
    .array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: most })
    .map((list) => list.join('').replace(/^0+(?=\d)/, ''))
const pad = (value: number, width = 2): string => String(value).padStart(width, '0')
const between = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max })

/** No lone surrogates: what UTF-8 can say. */
const isWellFormed = (text: string): boolean => Buffer.from(text).toString() === text

/** Whatever Postgres takes: no NUL, no lone surrogates. */
const anyText = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.string({
      unit: fc.constantFrom(
        '"',
        '\\',
        '{',
        '}',
        ',',
        '(',
        ')',
        "'",
        ' ',
        '\t',
        '\n',
        '\r',
        'é',
        '😀',
        'a',
        'N',
        '\u0001',
        '\u007f',
      ),
    }),
    fc.constantFrom('', 'NULL', 'null', '\\N', '{}', '""', ' ', '[1:2]={3,4}', 'e\u0301', '{"a": [1, "'),
  )
  .filter((text) => !text.includes('\0') && isWellFormed(text))
const word = fc.string({ unit: fc.constantFrom('a', 'b', 'Z', '0', '_'), minLength: 1, maxLength: 8 })
const jsonText = fc.oneof(
  fc.json({ maxDepth: 3 }).filter((text) => !/\\u0000|\\ud[89a-f]/i.test(text) && isWellFormed(text)),
  fc.constantFrom('{"a": 12345678901234567890.10, "a": null}', ' [1 , 2]', '"x"', 'null', '1e400'),
)
const float = fc.oneof(
  fc.double().map((value) => (Object.is(value, -0) ? '-0' : String(value))),
  fc.constantFrom('NaN', 'Infinity', '-Infinity', '1e-300', '0.1', '-0'),
)
const float4 = fc.oneof(fc.float().map(String), fc.constantFrom('NaN', 'Infinity', '-Infinity', '1e30', '1.1'))
const numeric = fc.oneof(
  fc
    .tuple(
      fc.constantFrom('', '-'),
      digits(40),
      fc.oneof(
        fc.constant(''),
        digits(30).map((d) => `.${d}`),
      ),
    )
    .map((p) => p.join('')),
  fc.constantFrom('NaN', '0', '0.00', '1e100', '1e-100', `${'9'.repeat(300)}.${'1'.repeat(300)}`),
)
const day = fc
  .tuple(fc.oneof(between(1, 9999), between(10_000, 290_000), between(1970, 2030)), between(1, 12), between(1, 28))
  .map(([y, m, d]) => `${pad(y, 4)}-${pad(m)}-${pad(d)}`)
const clock = fc
  .tuple(
    between(0, 23),
    between(0, 59),
    between(0, 59),
    fc.oneof(
      fc.constant(''),
      between(0, 999_999).map((u) => `.${pad(u, 6)}`),
    ),
  )
  .map(([h, m, s, u]) => `${pad(h)}:${pad(m)}:${pad(s)}${u}`)
const zone = fc
  .tuple(fc.constantFrom('+', '-'), between(0, 14), between(0, 59))
  .map(([sign, h, m]) => `${sign}${pad(h)}:${pad(m)}`)
const era = fc.constantFrom('', '', '', ' BC')
const beforeChrist = fc
  .tuple(between(1, 4700), between(1, 12), between(1, 28))
  .map(([y, m, d]) => `${pad(y, 4)}-${pad(m)}-${pad(d)}`)
const dates = fc.oneof(
  day,
  fc.constantFrom('infinity', '-infinity', '4714-11-24 BC', '5874897-12-31'),
  beforeChrist.map((d) => `${d} BC`),
)
const timestamps = fc.oneof(
  fc.tuple(day, clock).map(([d, c]) => `${d} ${c}`),
  fc.tuple(beforeChrist, clock, era).map(([d, c, e]) => `${d} ${c}${e}`),
  fc.constantFrom('infinity', '-infinity', '294276-12-31 23:59:59.999999', '2026-03-01 24:00:00'),
)
const zoned = fc.oneof(
  fc.tuple(day, clock, zone).map(([d, c, z]) => `${d} ${c}${z}`),
  fc.tuple(beforeChrist, clock, zone).map(([d, c, z]) => `${d} ${c}${z} BC`),
  fc.constantFrom('infinity', '-infinity', '294276-12-31 23:59:59.999999+00'),
)
const interval = fc.oneof(
  fc
    .tuple(between(-99, 99), between(-20, 20), between(-99, 99), between(-99, 99), between(-999_999, 999_999))
    .map(([y, m, d, h, us]) => `${y} years ${m} mons ${d} days ${h} hours ${us} microseconds`),
  fc.constantFrom('0', '1 month -1 day', '-00:00:00.000001'),
)
const bytes = fc.uint8Array({ maxLength: 40 }).map((list) => `\\x${Buffer.from(list).toString('hex')}`)
const bits = (length: number): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom('0', '1'), { minLength: length, maxLength: length }).map((list) => list.join(''))
const ip = fc.oneof(
  fc.ipV4(),
  fc.tuple(fc.ipV4(), between(0, 32)).map(([address, mask]) => `${address}/${mask}`),
  fc.constantFrom('::1', '2001:db8::/32', '::ffff:1.2.3.4'),
)
const mac = (count: number): fc.Arbitrary<string> =>
  fc
    .uint8Array({ minLength: count, maxLength: count })
    .map((list) => [...list].map((byte) => byte.toString(16).padStart(2, '0')).join(':'))
const coordinate = between(-1000, 1000).map((n) => String(n / 8))
const point = fc.tuple(coordinate, coordinate).map(([x, y]) => `(${x},${y})`)
const intRange = fc.oneof(
  fc
    .tuple(between(-100, 0), between(0, 100), fc.constantFrom('[', '('), fc.constantFrom(']', ')'))
    .map(([a, b, l, r]) => `${l}${a},${b}${r}`),
  fc.constantFrom('empty', '(,)', '[5,)', '(,5]'),
)
const tsRange = fc
  .tuple(between(1, 12), between(13, 28))
  .map(([a, b]) => `[2026-01-${pad(a)} 01:02:03.5,2026-01-${pad(b)})`)
const quotedList = (item: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(item, { maxLength: 4 }).map((list) => `{${list.join(',')}}`)

const SCALARS: readonly RandomType[] = [
  { sql: 'boolean', text: fc.constantFrom('t', 'f') },
  { sql: 'smallint', text: between(-32_768, 32_767).map(String) },
  { sql: 'integer', text: fc.integer().map(String) },
  { sql: 'bigint', text: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String) },
  { sql: 'oid', text: between(0, 2 ** 31 - 1).map((n) => String(n * 2 + 1)) },
  { sql: 'real', text: float4 },
  { sql: 'double precision', text: float },
  { sql: 'numeric', text: numeric },
  {
    sql: 'numeric(12,3)',
    text: fc.tuple(fc.constantFrom('', '-'), digits(9), digits(4)).map(([s, a, b]) => `${s}${a}.${b}`),
  },
  { sql: 'money', text: fc.tuple(fc.constantFrom('', '-'), digits(12), digits(2)).map(([s, a, b]) => `${s}${a}.${b}`) },
  { sql: 'text', text: anyText },
  { sql: 'varchar(40)', text: anyText.map((text) => [...text].slice(0, 40).join('')) },
  { sql: 'char(8)', text: word },
  { sql: '"char"', text: fc.constantFrom('a', '', '"', '\\\\') },
  { sql: 'name', text: word },
  { sql: 'bytea', text: bytes },
  { sql: 'bit(9)', text: bits(9) },
  { sql: 'varbit', text: between(0, 20).chain(bits) },
  { sql: 'date', text: dates },
  { sql: 'time', text: fc.oneof(clock, fc.constant('24:00:00')) },
  {
    sql: 'timetz',
    text: fc.oneof(
      fc.tuple(clock, zone).map((p) => p.join('')),
      fc.constant('12:00:00+02:30:15'),
    ),
  },
  { sql: 'timestamp', text: timestamps },
  { sql: 'timestamp(2)', text: fc.tuple(day, clock).map(([d, c]) => `${d} ${c}`) },
  { sql: 'timestamptz', text: zoned },
  { sql: 'interval', text: interval },
  { sql: 'uuid', text: fc.uuid() },
  { sql: 'inet', text: ip },
  { sql: 'cidr', text: fc.constantFrom('10.0.0.0/8', '2001:db8::/32', '1.2.3.4') },
  { sql: 'macaddr', text: mac(6) },
  { sql: 'macaddr8', text: mac(8) },
  { sql: 'json', text: jsonText },
  { sql: 'jsonb', text: jsonText.filter((text) => text !== '1e400') },
  { sql: 'tsvector', text: fc.constantFrom('a b', `'it''s':1A,2 b:3`, '') },
  { sql: 'tsquery', text: fc.constantFrom('a & b', `!'it''s' | c:*`, '') },
  { sql: 'point', text: point },
  { sql: 'line', text: fc.constantFrom('{1,2,3}', '{-1.5,0,2}') },
  { sql: 'lseg', text: fc.tuple(point, point).map((p) => `[${p.join(',')}]`) },
  { sql: 'box', text: fc.tuple(point, point).map((p) => p.join(',')) },
  { sql: 'path', text: fc.array(point, { minLength: 1, maxLength: 3 }).map((p) => `[${p.join(',')}]`) },
  { sql: 'polygon', text: fc.array(point, { minLength: 1, maxLength: 3 }).map((p) => `(${p.join(',')})`) },
  { sql: 'circle', text: fc.tuple(point, between(0, 9)).map(([p, r]) => `<${p},${r}>`) },
  { sql: 'int4range', text: intRange },
  { sql: 'tsrange', text: tsRange },
  { sql: 'int4multirange', text: quotedList(intRange) },
  { sql: 'pg_lsn', text: fc.constantFrom('0/0', '16/B374D848') },
  { sql: 'xml', text: word.map((name) => `<${name}>&lt;"'</${name}>`).filter((text) => !/<\d/.test(text)) },
  { sql: 'jsonpath', text: fc.constantFrom('$', '$."a b"[*] ? (@ > 1)') },
  { sql: 'regclass', text: fc.constantFrom('pg_class', 'pg_type') },
  // Of the schema below.
  { sql: 'mood', text: fc.constantFrom('so so', 'NULL', '', 'quo"te', 'a,b', 'é') },
  { sql: 'positive', text: between(1, 1000).map(String) },
  { sql: 'always', text: zoned },
  { sql: 'codes', text: fc.constantFrom('{1,2}', '{}', '{{1,2},{3,4}}') },
  { sql: 'hstore', text: fc.array(fc.tuple(anyText, fc.option(anyText)), { maxLength: 3 }).map(hstoreText) },
  { sql: 'citext', text: anyText },
  { sql: 'cube', text: fc.constantFrom('(1,2),(3,4)', '(0.5)') },
  { sql: 'seg', text: fc.constantFrom('1 .. 2', '<5', '6.25(+-)0.50') },
  { sql: 'ltree', text: fc.constantFrom('a.b.c', '') },
  { sql: 'ean13', text: fc.constantFrom('978-0-393-04002-9', '9780393040029') },
]

function hstoreText(pairs: readonly (readonly [string, string | null])[]): string {
  const quoted = (text: string): string => `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`
  return pairs.map(([key, value]) => `${quoted(key)}=>${value === null ? 'NULL' : quoted(value)}`).join(',')
}

const quotedItem = (text: string | null): string =>
  text === null ? 'NULL' : `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`

/** Of one dimension or two, with nulls, sometimes with bounds of its own. */
function arrayOf(type: RandomType): RandomType {
  const row = fc.array(fc.option(type.text, { freq: 6 }), { maxLength: 4 })
  const line = row.map((items) => items.map(quotedItem))
  const delimiter = type.sql === 'box' ? ';' : ','
  const flat = line.map((items) => `{${items.join(delimiter)}}`)
  const bounded = line.map((items) =>
    items.length === 0 ? '{}' : `[3:${2 + items.length}]={${items.join(delimiter)}}`,
  )
  const square = fc
    .array(fc.tuple(fc.option(type.text), fc.option(type.text)), { minLength: 1, maxLength: 3 })
    .map((rows) => `{${rows.map((pair) => `{${pair.map(quotedItem).join(delimiter)}}`).join(delimiter)}}`)
  return { sql: `${type.sql}[]`, text: fc.oneof(flat, bounded, square) }
}

function composite(sql: string, fields: readonly RandomType[]): RandomType {
  const texts = fields.map(({ text }) => fc.option(text, { freq: 6 }))
  const quoted = (text: string | null): string =>
    text === null ? '' : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '""')}"`
  return { sql, text: fc.tuple(...texts).map((values) => `(${values.map(quoted).join(',')})`) }
}

function randomType(sql: string): RandomType {
  const found = SCALARS.find((one) => one.sql === sql)
  if (found === undefined) throw new Error(`no random type ${sql}`)
  return found
}

const pair = composite('pair', [randomType('integer'), randomType('text')])
const nested = composite('nested', [
  pair,
  arrayOf(randomType('text')),
  arrayOf(pair),
  randomType('hstore'),
  randomType('always'),
  randomType('bytea'),
])

/** What the types above need. */
export const RANDOM_TYPES_SCHEMA = `
  create extension hstore; create extension citext; create extension ltree; create extension isn;
  create extension cube; create extension seg;
  create type mood as enum ('so so', 'NULL', '', 'quo"te', 'a,b', 'é');
  create domain positive as integer check (value > 0); create domain always as timestamptz; create domain codes as positive[];
  create type pair as (a int, "b ""c" text); create type nested as (p pair, words text[], pairs pair[], h hstore, at always, raw bytea);
  create domain boxed as pair; create type one as (a int); create type nothing as ()`

const one = composite('one', [randomType('integer')])
const boxed: RandomType = { sql: 'boxed', text: pair.text }
const LIKE_SCALARS = [...SCALARS, pair, nested, one, boxed]

export const RANDOM_TYPES: readonly RandomType[] = [
  ...LIKE_SCALARS,
  { sql: 'nothing', text: fc.constant('()') },
  ...LIKE_SCALARS.map(arrayOf),
]
