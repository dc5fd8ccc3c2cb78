/** Verdict: what the ledger says must be in the log, held against what an independent reader found there. */
import type { ConsumedRecord } from '../../support/independent-consumer.js'
import type { LogTransactionOf } from './log-transactions.js'
import { deleted, type Effect, inserted, type Ledger, snapshotted, type Table, TABLES, updated } from './ledger.js'

export interface Counts {
  /** Committed changes, and tombstones of deletions, that did not come. */
  readonly missing: number
  /** Events beyond what was committed: a second time, or of a transaction that was rolled back. */
  readonly repeated: number
  /** Positions that go backwards in a partition, changes of a key out of their order or in two partitions. */
  readonly outOfOrder: number
  /** Transactions that are there in part, or were for a moment: see `torn`. */
  readonly halfVisible: number
}

export interface Verdict extends Counts {
  readonly examples: readonly string[]
}

export const CLEAN: Verdict = { missing: 0, repeated: 0, outOfOrder: 0, halfVisible: 0, examples: [] }

/** Of a log at rest: the writer has stopped, and a change that was committed after everything else is in the log. */
export function judge(ledger: Ledger, records: readonly ConsumedRecord[], transactionOf: LogTransactionOf): Verdict {
  const reading = read(ledger, records, { transactionOf, atRest: true })
  const { found, expected, seen } = reading
  for (const identity of expected.keys()) if (!seen.has(identity)) found.add('missing', identity)
  for (const { tag, effects } of ledger.transactions) {
    const there = effects.filter(({ identity }) => seen.has(identity)).length
    if (there > 0 && there < effects.length) found.add('halfVisible', `${tag}: ${there} of ${effects.length}`)
  }
  for (const example of torn(ledger, seen)) found.add('halfVisible', example)
  return found.verdict()
}

/**
 * Of a log that is being written. A reader that takes the ends of several partitions one after the other cuts through a commit
 * whose markers are just being written: only a transaction that a later one follows in every partition must be there whole. And
 * what the writer has not yet heard of is not held against anybody.
 */
export function judgeSample(
  ledger: Ledger,
  records: readonly ConsumedRecord[],
  { partitions, transactionOf }: { readonly partitions: number; readonly transactionOf: LogTransactionOf },
): Verdict {
  const { found, seen, ends } = read(ledger, records, { transactionOf, atRest: false })
  const horizon = ends.size < partitions * TABLES.length ? '' : ([...ends.values()].toSorted()[0] ?? '')
  for (const { tag, effects } of ledger.transactions) {
    const there = effects.flatMap(({ identity }) => seen.get(identity) ?? [])
    const [first] = there
    if (first === undefined || first.commitLsn >= horizon || there.length === effects.length) continue
    found.add('halfVisible', `${tag}: ${there.length} of ${effects.length}, though later ones are everywhere`)
  }
  for (const example of torn(ledger, seen)) found.add('halfVisible', example)
  return found.verdict()
}

/** What any reader found at any time. */
export function worst(verdicts: readonly Verdict[]): Verdict {
  const most = (kind: keyof Counts): number => Math.max(...verdicts.map((verdict) => verdict[kind]))
  return {
    missing: most('missing'),
    repeated: most('repeated'),
    outOfOrder: most('outOfOrder'),
    halfVisible: most('halfVisible'),
    examples: verdicts.flatMap(({ examples }) => examples).slice(0, 20),
  }
}

class Findings {
  readonly #counts = { missing: 0, repeated: 0, outOfOrder: 0, halfVisible: 0 }
  readonly #examples: string[] = []

  add(kind: keyof Counts, example: string): void {
    this.#counts[kind]++
    if (this.#examples.length < 20) this.#examples.push(`${kind}: ${example}`)
  }

  verdict(): Verdict {
    return { ...this.#counts, examples: this.#examples }
  }
}

/** Where a change was found. */
interface Place {
  readonly partition: string
  readonly logTransaction: string
  readonly commitLsn: string
}

interface Reading {
  readonly found: Findings
  readonly expected: ReadonlyMap<string, Effect>
  readonly seen: ReadonlyMap<string, Place>
  /** The commit LSN of the last event of each partition. */
  readonly ends: ReadonlyMap<string, string>
}

/** What can be said record by record. They come partition by partition, in the order of their offsets. */
function read(
  ledger: Ledger,
  records: readonly ConsumedRecord[],
  { transactionOf, atRest }: { readonly transactionOf: LogTransactionOf; readonly atRest: boolean },
): Reading {
  const found = new Findings()
  const expected = new Map<string, Effect>()
  for (const effect of ledger.snapshot) expected.set(effect.identity, effect)
  for (const { effects } of ledger.transactions) for (const effect of effects) expected.set(effect.identity, effect)
  const seen = new Map<string, Place>()
  const ends = new Map<string, string>()
  const keys = new KeyOrder(found)
  let last: ConsumedRecord | null = null
  let lastPosition = ''
  /** The last record is a deletion: its tombstone is due. */
  let due = false
  for (const record of records) {
    const partition = `${record.topic}/${record.partition}`
    const follows: boolean = last?.topic === record.topic && last.partition === record.partition
    if (last !== null && due && (follows || atRest))
      requireTombstone(found, { deletion: last, next: follows ? record : null, transactionOf })
    if (!follows) lastPosition = ''
    const wanted = due && follows
    last = record
    due = false
    if (record.value === null) {
      if (!wanted) found.add('repeated', `a tombstone in ${partition} at ${record.offset}`)
      continue
    }
    const { op, identity, position } = parse(record.topic, record.value)
    due = op === 'd'
    if (position <= lastPosition) found.add('outOfOrder', `${partition}: ${position} after ${lastPosition}`)
    lastPosition = position
    const commitLsn = position.slice(0, 16)
    ends.set(partition, commitLsn)
    const effect = expected.get(identity)
    if (effect === undefined) {
      if (atRest) found.add('repeated', `${identity} at ${position}, which nobody committed`)
    } else if (seen.has(identity)) found.add('repeated', `${identity} at ${position}`)
    else {
      seen.set(identity, { partition, logTransaction: transactionOf(record), commitLsn })
      keys.add(effect, partition)
    }
  }
  if (last !== null && due && atRest) requireTombstone(found, { deletion: last, next: null, transactionOf })
  return { found, expected, seen, ends }
}

/** The changes of each key: one partition, and one order. */
class KeyOrder {
  readonly #found: Findings
  readonly #last = new Map<string, { rank: number; partition: string }>()

  constructor(found: Findings) {
    this.#found = found
  }

  add({ key, rank, identity }: Effect, partition: string): void {
    const last = this.#last.get(key)
    if (last !== undefined && rank < last.rank) this.#found.add('outOfOrder', `${identity}, after a later one`)
    if (last !== undefined && partition !== last.partition) {
      this.#found.add('outOfOrder', `${identity} is in ${partition}, the key was in ${last.partition}`)
    }
    this.#last.set(key, { rank, partition })
  }
}

/** A deletion's tombstone is the very next record, in the same log transaction. */
function requireTombstone(
  found: Findings,
  {
    deletion,
    next,
    transactionOf,
  }: {
    readonly deletion: ConsumedRecord
    readonly next: ConsumedRecord | null
    readonly transactionOf: LogTransactionOf
  },
): void {
  const name = `${deletion.key ?? ''} in ${deletion.topic}`
  if (next === null || next.value !== null || next.key !== deletion.key)
    found.add('missing', `the tombstone of ${name}`)
  else if (transactionOf(next) !== transactionOf(deletion)) found.add('halfVisible', `${name}, without its tombstone`)
}

function parse(topic: string, value: string): { op: string; identity: string; position: string } {
  const { op, before, after, source } = JSON.parse(value)
  const table = topic.slice(topic.lastIndexOf('.') + 1) as Table
  return { op, identity: identify(), position: source.position }

  function identify(): string {
    if (op === 'd') return deleted(table, before.id, source.txId)
    if (op === 'r') return snapshotted(table, after.id)
    const detail = after.n ?? after.note?.length ?? 0
    const change = { table, id: after.id, tag: after.tx, step: after.step, detail }
    return op === 'c' ? inserted(change) : updated(change)
  }
}

/**
 * Transactions that one log transaction does not hold whole. No reader has to be quick enough to see it: whoever shares a log transaction in
 * one partition must do so in every other. (It holds for retention without compaction.)
 */
function torn(ledger: Ledger, seen: ReadonlyMap<string, Place>): string[] {
  const groups = new Groups(ledger.transactions.length)
  const firsts = new Map<string, number>()
  const each = (visit: (index: number, place: Place) => void): void => {
    for (const [index, { effects }] of ledger.transactions.entries()) {
      for (const { identity } of effects) {
        const place = seen.get(identity)
        if (place !== undefined) visit(index, place)
      }
    }
  }
  each((index, { logTransaction }) => {
    const first = firsts.get(logTransaction)
    if (first === undefined) firsts.set(logTransaction, index)
    else groups.join(first, index)
  })
  const parts = new Map<string, string>()
  const examples = new Set<string>()
  each((index, { partition, logTransaction }) => {
    const name = `${groups.of(index)}@${partition}`
    const first = parts.get(name)
    if (first === undefined) parts.set(name, logTransaction)
    else if (first !== logTransaction) {
      examples.add(
        `${ledger.transactions[index]?.tag ?? ''}: in ${partition} it, or one that it came with, is cut in two`,
      )
    }
  })
  return [...examples]
}

/** Disjoint sets. */
class Groups {
  readonly #parents: number[]

  constructor(size: number) {
    this.#parents = Array.from({ length: size }, (_, index) => index)
  }

  of(index: number): number {
    let root = index
    while ((this.#parents[root] ?? root) !== root) root = this.#parents[root] ?? root
    this.#parents[index] = root
    return root
  }

  join(left: number, right: number): void {
    this.#parents[this.of(right)] = this.of(left)
  }
}
