/** LSN, position and topic names: text forms that sort, and that can be undone. */
import fc from 'fast-check'
import { formatLsn, lsnFromHalves, parseLsn, toLsn } from '../../src/event/lsn.js'
import { comparePositions, formatPosition, parsePosition } from '../../src/event/position.js'
import { escapeIdentifier, messageTopic, tableTopic, unescapeIdentifier } from '../../src/event/topic-name.js'

const lsn = fc.bigInt(0n, 2n ** 64n - 1n).map(toLsn)
const position = fc.record({ commitLsn: lsn, ordinal: fc.integer({ min: 0, max: 0xffffffff }) })
/** What Postgres takes: anything but NUL, up to 63 bytes. */
const identifier = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 20 })
  .filter((text) => !text.includes('\0') && Buffer.byteLength(text) <= 63 && Buffer.from(text).toString() === text)
/** Nearly all of it is what the escaping is about. */
const awkward = fc.string({ unit: fc.constantFrom('_', 'a', '5', 'f', '.', '{'), minLength: 1, maxLength: 12 })
const anyIdentifier = fc.oneof(identifier, awkward)

describe('an LSN', () => {
  it('is read as it is written', () => {
    fc.assert(fc.property(lsn, (value) => parseLsn(formatLsn(value)) === value))
    expect(formatLsn(toLsn(0x16b3748n))).toBe('0/16B3748')
    expect(lsnFromHalves(-1, -1)).toBe(2n ** 64n - 1n)
  })

  it.each(['', '0', '0/', '/0', '0/16B3748x', '123456789/0', '0/G'])('is not %j', (text) => {
    expect(parseLsn(text)).toBeNull()
  })
})

describe('a position', () => {
  it('is read as it is written, and sorts as text as it sorts', () => {
    fc.assert(fc.property(position, (value) => comparePositions(parsePosition(formatPosition(value))!, value) === 0))
    fc.assert(
      fc.property(position, position, (a, b) => {
        const [left, right] = [formatPosition(a), formatPosition(b)]
        return Math.sign(comparePositions(a, b)) === (left < right ? -1 : left > right ? 1 : 0)
      }),
    )
  })

  it.each(['', '0-0', '00000000016c5348-0000000G', '00000000016C5348-00000002'])('is not %j', (text) => {
    expect(parsePosition(text)).toBeNull()
  })
})

describe('a topic name', () => {
  it('holds any identifier in letters that Kafka takes, and gives it back', () => {
    fc.assert(
      fc.property(anyIdentifier, (name) => {
        const escaped = escapeIdentifier(name)
        return /^[A-Za-z0-9_-]+$/.test(escaped) && unescapeIdentifier(escaped) === name
      }),
    )
  })

  it('is never shared by two tables, nor with the messages', () => {
    fc.assert(
      fc.property(anyIdentifier, anyIdentifier, anyIdentifier, anyIdentifier, (s1, t1, s2, t2) => {
        fc.pre(s1 !== s2 || t1 !== t2)
        return (
          tableTopic('shop', s1, t1) !== tableTopic('shop', s2, t2) &&
          tableTopic('shop', s1, t1) !== messageTopic('shop')
        )
      }),
    )
  })

  it.each([
    ['cart', 'cart'],
    ['order_items', 'order_items'],
    ['a.b', 'a__2eb'],
    ['a__b', 'a__5f_b'],
    ['_{', '__5f__7b'],
    ['Ä', '__c3__84'],
  ])('of %s is %s', (name, escaped) => {
    expect(escapeIdentifier(name)).toBe(escaped)
  })
})
