/** Every writer of the hot path against the plain way to say the same, wherever in a buffer its bytes lie. */
import fc from 'fast-check'
import type { FormatName, Origin, Origins } from '../../src/event/envelope.js'
import { envelope } from '../../src/event/formats.js'
import {
  stringLength,
  writeBytes,
  writeConstant,
  writeDigits,
  writeHex8,
  writeString,
  writeWhole,
} from '../../src/event/json.js'
import { type Lsn, LSN_ZERO, lsnFromHalves, toLsn } from '../../src/event/lsn.js'
import { writeScalar } from '../../src/event/scalars.js'
import { type TransactionStart, TransactionStamp } from '../../src/event/transaction-stamp.js'
import { KIND, type Kind } from '../../src/event/type-kinds.js'

const OUT = Buffer.alloc(64 * 1024)
/** Of which no writer keeps anything. */
const LARGE = Buffer.alloc(3 * 1024 * 1024)
const RUNS = { numRuns: 2000 }

/** What a writer makes of bytes that lie between others. */
function written(
  content: Buffer,
  write: (from: Buffer, start: number, end: number, out: Buffer, at: number) => number,
  place: { readonly before: number; readonly at: number; readonly large: boolean; readonly behind: boolean },
  encoding: BufferEncoding = 'utf8',
): string {
  const behind = Buffer.from(place.behind ? '"\\\n\0\x1f' : '')
  const bytes = Buffer.concat([Buffer.alloc(place.before, '"\\'), content, behind])
  const from = place.large ? LARGE : bytes
  if (place.large) bytes.copy(LARGE)
  OUT.fill(0xee)
  const end = write(from, place.before, place.before + content.length, OUT, place.at)
  // Neither in front of what was asked for nor behind what was said.
  expect(place.at === 0 || OUT[place.at - 1] === 0xee).toBe(true)
  expect(OUT[end]).toBe(0xee)
  return OUT.toString(encoding, place.at, end)
}

const place = fc.record({ before: fc.nat(9), at: fc.nat(9), large: fc.boolean(), behind: fc.boolean() })
const pad = (value: number, width = 2): string => String(value).padStart(width, '0')
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc.string({ unit: fc.constantFrom('"', '\\', '\n', '\u0001', '\u001f', ' ', '!', '#', '[', ']', 'a', 'é', '😀') }),
)

describe('the writers of bytes', () => {
  it('copy what they are given', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), place, (array, at) => {
        const content = Buffer.from(array)
        const shown = content.toString('latin1')
        expect(written(content, writeBytes, at, 'latin1')).toBe(shown)
        const constant = (_: Buffer, _start: number, _end: number, out: Buffer, to: number): number =>
          writeConstant(content, out, to)
        expect(written(content, constant, at, 'latin1')).toBe(shown)
      }),
      RUNS,
    )
  })

  it('write text as JSON.stringify does, and know its length', () => {
    fc.assert(
      fc.property(text, place, (value, at) => {
        const content = Buffer.from(value)
        // Everything from DEL on stands for itself in both; a lone surrogate is none in UTF-8.
        const json = JSON.stringify(content.toString())
        expect(written(content, writeString, at)).toBe(json)
        expect(stringLength(content, 0, content.length)).toBe(Buffer.byteLength(json))
      }),
      RUNS,
    )
  })

  it('write numbers with as many digits as are asked for', () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.nat(0x7fffffff), fc.nat(9), (hex, decimal, at) => {
        expect(OUT.toString('latin1', at, writeHex8(hex, OUT, at))).toBe(hex.toString(16).padStart(8, '0'))
        for (const digits of [String(decimal).length, 10])
          expect(OUT.toString('latin1', at, writeDigits(decimal, digits, OUT, at))).toBe(pad(decimal, digits))
      }),
      RUNS,
    )
  })

  it('write whole numbers', () => {
    fc.assert(
      fc.property(fc.oneof(fc.maxSafeNat(), fc.nat(1_000_000_000)), fc.nat(9), (whole, at) => {
        expect(OUT.toString('latin1', at, writeWhole(whole, OUT, at))).toBe(String(whole))
      }),
      RUNS,
    )
  })
})

/** Postgres' text form of a value, and the JSON that is to become of it, said in the plainest way. */
interface Sample {
  readonly text: string
  readonly json: string
}

interface Moment {
  readonly year: number
  readonly month: number
  readonly day: number
  readonly time: readonly [hour: number, minute: number, second: number]
  readonly us: number
}

const moment: fc.Arbitrary<Moment> = fc.record({
  year: fc.oneof(fc.integer({ min: -4712, max: 294_275 }), fc.integer({ min: 1900, max: 2100 })),
  month: fc.integer({ min: 1, max: 12 }),
  day: fc.integer({ min: 1, max: 28 }),
  time: fc.tuple(fc.nat(23), fc.nat(59), fc.nat(59)),
  us: fc.oneof(fc.constant(0), fc.nat(999_999)),
})

/** Of the year before 1 is 1 BC. */
function postgresDate({ year, month, day }: Moment): { readonly date: string; readonly era: string } {
  const shown = year > 0 ? year : 1 - year
  return { date: `${pad(shown, 4)}-${pad(month)}-${pad(day)}`, era: year > 0 ? '' : ' BC' }
}

/** ISO 8601's expanded form outside of the four digits, as JavaScript has it. */
function isoDate({ year, month, day }: Moment): string {
  const shown = year < 0 || year > 9999 ? `${year < 0 ? '-' : '+'}${pad(Math.abs(year), 6)}` : pad(year, 4)
  return `${shown}-${pad(month)}-${pad(day)}`
}

function clock({ time: [hour, minute, second], us }: Moment): string {
  const fraction = us === 0 ? '' : `.${pad(us, 6).replace(/0+$/, '')}`
  return `${pad(hour)}:${pad(minute)}:${pad(second)}${fraction}`
}

function stamp(at: Moment, zone: '' | '+00'): Sample {
  const { date, era } = postgresDate(at)
  const json = JSON.stringify(`${isoDate(at)}T${clock(at)}${zone === '' ? '' : 'Z'}`)
  return { text: `${date} ${clock(at)}${zone}${era}`, json }
}

/** Date counts milliseconds in the same calendar, up to the year 275760. */
function epoch(at: Moment): Sample {
  const { year, month, day, time, us } = at
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  date.setUTCHours(...time)
  return { text: stamp(at, '').text, json: String(BigInt(date.getTime()) * 1000n + BigInt(us)) }
}

const infinity = fc.constantFrom('infinity', '-infinity').map((value) => ({ text: value, json: `"${value}"` }))
const bytes = fc.uint8Array({ maxLength: 100 }).map((array) => Buffer.from(array))
const same = (value: string): Sample => ({ text: value, json: value })
const quoted = (value: string): Sample => ({ text: value, json: JSON.stringify(value) })

const SCALARS: readonly (readonly [name: string, kind: Kind, samples: fc.Arbitrary<Sample>])[] = [
  ['integers', KIND.integer, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => same(String(value)))],
  [
    'floats',
    KIND.float,
    fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => same(String(value))),
      fc.constantFrom('NaN', 'Infinity', '-Infinity').map(quoted),
    ),
  ],
  ['booleans', KIND.boolean, fc.boolean().map((value) => ({ text: value ? 't' : 'f', json: String(value) }))],
  ['text', KIND.text, text.map((value) => quoted(Buffer.from(value).toString()))],
  ['ascii', KIND.ascii, fc.stringMatching(/^[ !#-[\]-~]{0,100}$/).map(quoted)],
  ['nested JSON', KIND.nested, fc.json().map(same)],
  [
    'dates',
    KIND.date,
    fc.oneof(
      moment.map((at) => {
        const { date, era } = postgresDate(at)
        return { text: `${date}${era}`, json: JSON.stringify(isoDate(at)) }
      }),
      infinity,
    ),
  ],
  [
    'timestamps',
    KIND.timestamp,
    fc.oneof(
      moment.map((at) => stamp(at, '')),
      infinity,
    ),
  ],
  [
    'timestamps with time zone',
    KIND.timestamptz,
    fc.oneof(
      moment.map((at) => stamp(at, '+00')),
      infinity,
    ),
  ],
  [
    'timestamps as microseconds',
    KIND.epochUs,
    fc.oneof(moment.filter(({ year }) => year < 275_000).map(epoch), infinity),
  ],
  [
    'bytea as base64',
    KIND.bytea,
    bytes.map((value) => ({ text: `\\x${value.toString('hex')}`, json: `"${value.toString('base64')}"` })),
  ],
  [
    'bytea as hexadecimal digits',
    KIND.hex,
    bytes.map((value) => ({ text: `\\x${value.toString('hex')}`, json: `"${value.toString('hex')}"` })),
  ],
  [
    'money',
    KIND.money,
    fc
      .tuple(fc.constantFrom('', '-'), fc.bigInt({ min: 0n, max: 2n ** 56n }), fc.nat(99))
      .map(([sign, whole, cents]) => ({
        text: `${sign}$${whole.toLocaleString('en')}.${pad(cents)}`,
        json: `"${sign}${whole}.${pad(cents)}"`,
      })),
  ],
]

describe('the writer of scalars', () => {
  it.each(SCALARS)('writes %s', (_, kind, samples) => {
    fc.assert(
      fc.property(samples, place, (sample, at) => {
        const write = (from: Buffer, start: number, end: number, out: Buffer, to: number): number =>
          writeScalar(kind, from, start, end, out, to)
        expect(written(Buffer.from(sample.text), write, at)).toBe(sample.json)
      }),
      RUNS,
    )
  })

  it('has every kind that is one', () => {
    const others: Kind[] = [KIND.array, KIND.composite, KIND.hstore]
    const tested = SCALARS.map(([, kind]) => kind)
    expect([...tested, ...others].toSorted((a, b) => a - b)).toEqual(Object.values(KIND))
  })
})

/** What a stamp says of one change. */
interface Stamped extends TransactionStart {
  readonly origin: Origin | null
  readonly lastLsn: Lsn | null
  readonly lsn: Lsn
  readonly position: string
}

const ORIGINS: Origins = { pipeline: 'shop', database: 'shop', version: '1.0' }
/** Members with a comma behind each, of which those that are not said are left out. */
const members = (fields: Readonly<Record<string, string | null>>): string =>
  Object.entries(fields)
    .map(([name, json]) => (json === null ? '' : `"${name}":${json},`))
    .join('')

const LAYOUTS: readonly (readonly [FormatName, (stamped: Stamped) => string])[] = [
  [
    'evert',
    ({ xid, origin, lsn, timeUs, position }) =>
      `${members({ txId: xid === null ? null : String(xid), origin: origin && JSON.stringify(origin.name) })}"lsn":${lsn},"ts_us":${timeUs},"position":"${position}"}}`,
  ],
  [
    // The LSN stands in it twice: https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-create-events
    'debezium',
    ({ xid, origin, lastLsn, lsn, timeUs, position, snapshot }) => {
      const times = `"ts_ms":${timeUs / 1000n},"ts_us":${timeUs},"ts_ns":${timeUs * 1000n}`
      const sequence = JSON.stringify([lastLsn === null ? null : String(lastLsn), String(lsn)])
      const fields = members({
        snapshot: `"${snapshot}"`,
        origin: JSON.stringify(origin?.name ?? null),
        origin_lsn: String(origin?.lsn ?? null),
        sequence: JSON.stringify(sequence),
        txId: String(xid),
        xmin: 'null',
        lsn: String(lsn),
      })
      return `${times},${fields}"position":"${position}"},"transaction":null,${times}}`
    },
  ],
  [
    'cloudevents',
    ({ xid, origin, lsn, timeUs, position }) => {
      const toSeconds = new Date(Number(timeUs / 1000n)).toISOString().slice(0, 19)
      const fields = members({
        time: `"${toSeconds}.${String(timeUs % 1_000_000n).padStart(6, '0')}Z"`,
        everttxid: xid === null ? null : `"${xid}"`,
        evertorigin: origin && JSON.stringify(origin.name),
        evertlsn: `"${lsn}"`,
      })
      return `${fields}"id":"${position}"}`
    },
  ],
]

describe('the stamp of a transaction', () => {
  const SOURCES = [Buffer.from('"table":"one",'), Buffer.from('"table":"another",')] as const
  const half = fc.nat(0xffffffff)
  const high = fc.oneof(half, fc.nat(3), fc.nat(0x1fffff))
  // Few enough that some come again, in one half or both.
  const few = fc.tuple(fc.nat(1), fc.nat(1))
  const change = fc.oneof(few, fc.tuple(high, fc.oneof(half, fc.nat(99_999_999))))
  // Those of real servers are small ones.
  const largest = [2n ** 64n, 2n ** 53n, 2n ** 40n].map((beyond) => fc.bigInt({ min: 0n, max: beyond - 1n }))
  const lsn = fc.oneof(...largest).map(toLsn)
  // To the year 9999, where Date's own form of it ends.
  const time = fc.oneof(...[253_402_300_799_999_999n, 2n ** 53n].map((max) => fc.bigInt({ min: 0n, max })))
  // Few enough that kinds of transactions come again.
  const name = fc.oneof(
    fc.constantFrom('one', 'another'),
    text.map((utf8) => Buffer.from(utf8).toString()),
  )
  const transaction = fc.record({
    commitLsn: lsn,
    timeUs: time,
    xid: fc.option(half),
    snapshot: fc.boolean(),
    ordinal: fc.oneof(fc.constant(0), fc.nat(0xffffff00)),
    origin: fc.option(fc.record({ name, lsn })),
    // For its room, before its origin is known.
    asked: fc.boolean(),
    changes: fc.array(change, { maxLength: 10 }),
  })
  const transactions = fc.array(transaction, { minLength: 1, maxLength: 6 })

  it.each(LAYOUTS)('is its fields, with one ordinal after the other, in %s', (format, plain) => {
    fc.assert(
      fc.property(transactions, fc.oneof(lsn, fc.constant(LSN_ZERO)), fc.nat(9), (begun, after, at) => {
        const stamped = new TransactionStamp(envelope(format, ORIGINS), after)
        let last = after
        for (const { changes, origin, asked, ...start } of begun) {
          stamped.begin(start)
          expect(stamped.timestampMs).toBe(Number(start.timeUs / 1000n))
          if (asked) expect(stamped.bytes).toBeGreaterThan(0)
          if (origin !== null) stamped.origin(origin)
          for (const [i, [top, low]] of changes.flatMap((one) => [one, one]).entries()) {
            const ordinal = (start.ordinal + i).toString(16).padStart(8, '0')
            const position = `${start.commitLsn.toString(16).padStart(16, '0')}-${ordinal}`
            const lastLsn = last === 0n ? null : last
            // Of two tables, and each LSN twice: what rows of a snapshot have in common is kept.
            const source = SOURCES[i % 3 === 0 ? 1 : 0]!
            const end = stamped.write(source, top, low, OUT, at)
            const expected = plain({ ...start, origin, lastLsn, lsn: lsnFromHalves(top, low), position })
            expect(OUT.toString('utf8', at, end)).toBe(`${source.toString()}${expected}`)
            expect(end - at - source.length).toBeLessThanOrEqual(stamped.bytes)
          }
          last = start.commitLsn
        }
      }),
      { numRuns: 500 },
    )
  })

  it('is its position alone where an event is the row alone', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(lsn, fc.nat(0xffffffff))), fc.nat(9), (begun, at) => {
        const stamped = new TransactionStamp(envelope('plain', ORIGINS), toLsn(0n))
        for (const [commitLsn, ordinal] of begun) {
          stamped.begin({ commitLsn, timeUs: 0n, xid: null, snapshot: false, ordinal })
          const end = stamped.writePosition(OUT, at)
          const expected = `${commitLsn.toString(16).padStart(16, '0')}-${ordinal.toString(16).padStart(8, '0')}`
          expect(OUT.toString('latin1', at, end)).toBe(expected)
        }
      }),
      RUNS,
    )
  })
})
