/** The verdict itself: a sound log gives none, and each way to spoil it is found. */
import type { ConsumedRecord } from '../support/independent-consumer.js'
import { deleted, inserted, Ledger, type Table, updated } from './harness/ledger.js'
import type { LogTransactionOf } from './harness/log-transactions.js'
import { CLEAN, type Counts, judge, judgeSample, type Verdict } from './harness/verdict.js'

interface Event {
  readonly table: Table
  readonly partition: number
  readonly offset: number
  readonly op: string
  readonly id: number
  readonly tag?: string
  readonly step?: number
  readonly n?: number
  readonly xid: number
  readonly position: string
}

function record({ table, partition, offset, op, id, tag, step, n, xid, position }: Event): ConsumedRecord {
  const row = { id, tx: tag, step, ...(n === undefined ? {} : { n }) }
  const value = { op, before: op === 'd' ? { id } : null, after: op === 'd' ? null : row }
  return {
    topic: `name.public.${table}`,
    partition,
    offset: BigInt(offset),
    key: `{"id":${id}}`,
    value: JSON.stringify({ ...value, source: { txId: xid, position: full(position) } }),
    headers: {},
  }
}

/** 16 hex digits, and 8. */
function full(position: string): string {
  const [commitLsn = '', ordinal = ''] = position.split('-')
  return `${commitLsn.padStart(16, '0')}-${ordinal.padStart(8, '0')}`
}

function tombstone(of: ConsumedRecord): ConsumedRecord {
  return { ...of, offset: of.offset + 1n, value: null }
}

/** Three transactions over two tables; a commit marker after each of the first and the others. */
const ledger = new Ledger()
ledger.present('account', 1)
const change = (table: Table, key: number, identity: string, rank: number) => ({
  table,
  key: `${table} ${key}`,
  identity,
  rank,
})
const counter = (tag: string, n: number, step: number) =>
  change('account', 1, updated({ table: 'account', id: 1, tag, step, detail: n }), n)
ledger.commit({
  tag: 'a',
  effects: [
    change('mover', 5, inserted({ table: 'mover', id: 5, tag: 'a', step: 0, detail: 0 }), 0),
    counter('a', 1, 1),
  ],
})
ledger.commit({ tag: 'b', effects: [change('mover', 5, deleted('mover', 5, 12), 10_000), counter('b', 2, 1)] })
ledger.commit({ tag: 'c', effects: [counter('c', 3, 0)] })

const account = (offset: number, tag: string, n: number, position: string): ConsumedRecord =>
  record({
    table: 'account',
    partition: 0,
    offset,
    op: 'u',
    id: 1,
    tag,
    step: tag === 'c' ? 0 : 1,
    n,
    xid: 10 + n,
    position,
  })
const snapshotRow = record({ table: 'account', partition: 0, offset: 0, op: 'r', id: 1, xid: 1, position: '1-0' })
const born = record({
  table: 'mover',
  partition: 1,
  offset: 0,
  op: 'c',
  id: 5,
  tag: 'a',
  step: 0,
  xid: 11,
  position: '2-0',
})
const died = record({ table: 'mover', partition: 1, offset: 2, op: 'd', id: 5, xid: 12, position: '3-0' })
const [a, b, c] = [account(2, 'a', 1, '2-1'), account(4, 'b', 2, '3-1'), account(5, 'c', 3, '4-0')]
const SOUND = [snapshotRow, a, b, c, born, died, tombstone(died)]

const without = (gone: ConsumedRecord): ConsumedRecord[] => SOUND.filter((one) => one !== gone)
const replaced = (old: ConsumedRecord, ...by: ConsumedRecord[]): ConsumedRecord[] =>
  SOUND.flatMap((one) => (one === old ? by : [one]))

/** What was done to the log, and what is found. Moving offsets on makes room for a marker, as a second log transaction does. */
const CASES: readonly [string, readonly ConsumedRecord[], Partial<Counts>][] = [
  ['a sound log', SOUND, {}],
  ['a lost row of the snapshot', without(snapshotRow), { missing: 1 }],
  ['a lost transaction', without(c), { missing: 1 }],
  ['a lost half', without(a), { missing: 1, halfVisible: 1 }],
  ['a lost tombstone', SOUND.slice(0, -1), { missing: 1 }],
  ['an event twice', [...SOUND.slice(0, 4), account(7, 'c', 3, '5-0'), ...SOUND.slice(4)], { repeated: 1 }],
  ['what was rolled back', [...SOUND.slice(0, 4), account(7, 'x', 4, '5-0'), ...SOUND.slice(4)], { repeated: 1 }],
  ['a tombstone too many', [...SOUND, { ...tombstone(died), offset: 4n }], { repeated: 1 }],
  ['a position that goes back', replaced(c, account(5, 'c', 3, '3-0')), { outOfOrder: 1 }],
  [
    'changes of a key in the wrong order',
    [snapshotRow, a, account(4, 'c', 3, '3-1'), account(6, 'b', 2, '4-0'), born, died, tombstone(died)],
    { outOfOrder: 1 },
  ],
  [
    'a key in two partitions',
    replaced(died, { ...died, partition: 2 }).map((one) => (one.value === null ? { ...one, partition: 2 } : one)),
    { outOfOrder: 1 },
  ],
  [
    'a tombstone in the next log transaction',
    [...SOUND.slice(0, -1), { ...tombstone(died), offset: 4n }],
    { halfVisible: 1 },
  ],
]

/** Of one producer: a commit marker takes an offset, so what lies between two gaps is one log transaction. */
function betweenGaps(records: readonly ConsumedRecord[]): LogTransactionOf {
  const there = new Set(records.map(({ topic, partition, offset }) => `${topic}/${partition}/${offset}`))
  return ({ topic, partition, offset }) => {
    let first = offset
    while (there.has(`${topic}/${partition}/${first - 1n}`)) first--
    return `${topic}/${partition}/${first}`
  }
}

const judged = (of: Ledger, records: readonly ConsumedRecord[]): Verdict => judge(of, records, betweenGaps(records))
const sampled = (records: readonly ConsumedRecord[]): Verdict =>
  judgeSample(ledger, records, { partitions: 1, transactionOf: betweenGaps(records) })

it.each(CASES)('tells %s', (_, records, expected) => {
  expect(judged(ledger, records)).toMatchObject({ ...CLEAN, ...expected, examples: expect.anything() })
})

it('tells a transaction that two log transactions hold, though everything is there at the end', () => {
  const two = new Ledger()
  const both = ['a', 'b'].map((tag, index) => ({
    tag,
    effects: [
      counter(tag, index + 1, 1),
      change('mover', index, inserted({ table: 'mover', id: index, tag, step: 0, detail: 0 }), 0),
    ],
  }))
  for (const transaction of both) two.commit(transaction)
  const mover = (id: number, tag: string, offset: number): ConsumedRecord =>
    record({ table: 'mover', partition: 0, offset, op: 'c', id, tag, step: 0, xid: 11 + id, position: `${2 + id}-0` })
  const accounts = [account(0, 'a', 1, '2-1'), account(1, 'b', 2, '3-1')]
  expect(judged(two, [...accounts, mover(0, 'a', 0), mover(1, 'b', 1)])).toEqual(CLEAN)
  // In one table they came together, in the other one after the other.
  expect(judged(two, [...accounts, mover(0, 'a', 0), mover(1, 'b', 2)])).toMatchObject({ missing: 0, halfVisible: 1 })
})

describe('a sample of a running log', () => {
  it('does not hold a torn cut against anybody', () => {
    expect(sampled(without(born).slice(0, 2))).toEqual(CLEAN)
  })

  it('tells a half where a later transaction is in every partition', () => {
    const entry = record({
      table: 'entry',
      partition: 0,
      offset: 0,
      op: 'c',
      id: 9,
      tag: 'z',
      step: 0,
      xid: 40,
      position: '9-1',
    })
    const later = record({
      table: 'mover',
      partition: 0,
      offset: 1,
      op: 'c',
      id: 9,
      tag: 'z',
      step: 0,
      xid: 40,
      position: '9-0',
    })
    const records = [snapshotRow, a, b, c, account(9, 'z', 4, '9-2'), entry, later]
    expect(sampled(records)).toMatchObject({ missing: 0, halfVisible: 2 })
  })
})
