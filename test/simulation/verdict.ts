/**
 * Verdict: holds what is seen against the ledger after every step. It knows nothing of how evert works: what Postgres has committed is
 * in the ledger, what a read_committed consumer sees comes from the partitions, what evert acknowledges from the wire.
 */
import { committedBatches } from '../../src/log/kafka/reader.js'
import { nextOffset, type StoredBatch, type StoredRecord } from './kafka/batch.js'
import type { TransactionView } from './kafka/coordinator.js'
import type { Partition } from './kafka/partition.js'
import { type Committed, type Expected, type Ledger, nameOf, snapshotAt } from './ledger.js'
import { Violation } from './world.js'

interface Seen {
  /** The next offset to look at. */
  offset: number
  lastPosition: string
}

/** A record of the log, by what it says of itself. */
interface Identified {
  readonly name: string
  readonly position: string
  readonly key: string | null
  readonly event: { readonly op: string; readonly after?: unknown } | null
}

export class Verdict {
  readonly #ledger: Ledger
  readonly #pipeline: string
  readonly #partitionsOf: (topic: string) => number
  /** Of log transactions that are decided. */
  readonly #batches = new Set<StoredBatch>()
  /** How often each record is in log transactions that are decided. */
  readonly #decided = new Map<string, number>()
  /** Whole entries of the ledger that are decided, by turn. */
  readonly #durable = new Set<number>()
  /** Every entry before this one is durable. */
  #durableTurn = 0
  #progress = 0n
  /** Rows of snapshots in log transactions that are decided, and those that are seen. */
  readonly #rowsDecided = new Set<string>()
  readonly #rowsSeen = new Set<string>()
  #copied = false
  readonly #seen = new Map<Partition, Seen>()
  readonly #visible = new Map<string, number>()
  readonly #places = new Map<string, number>()
  readonly #shapes = new Set<string>()
  #visibleRecords = 0

  constructor(options: { ledger: Ledger; pipeline: string; partitionsOf: (topic: string) => number }) {
    this.#ledger = options.ledger
    this.#pipeline = options.pipeline
    this.#partitionsOf = options.partitionsOf
  }

  get progress(): bigint {
    return this.#progress
  }

  /** A log transaction is decided: nothing can take it back. It must hold whole transactions, and the progress that fits them. */
  onCommit({ producerId, partitions }: TransactionView): void {
    const touched = new Set<Committed>()
    let progress: LoggedProgress | null = null
    let records = 0
    for (const partition of partitions) {
      const found = this.#undecided(partition.openBatches(producerId)).flatMap((batch) => batch.records)
      records += found.length
      if (partition.topic === `${this.#pipeline}.progress`) progress = progressOf(found)
      else if (partition.topic !== `${this.#pipeline}.schema`) {
        for (const entry of this.#decide(found, partition.topic)) touched.add(entry)
      }
    }
    if (records === 0) return
    if (progress === null) throw new Violation('a log transaction committed without progress')
    const { endLsn } = progress
    if (endLsn < this.#progress) throw new Violation('the progress goes back')
    this.#progress = endLsn
    if (progress.snapshot === 'complete') this.#requireCopied()
    for (const entry of touched) {
      if (!this.#whole(entry)) throw new Violation(`#${entry.turn} is not whole in its log transaction`)
      if (entry.startLsn >= endLsn)
        throw new Violation(`the progress does not count #${entry.turn}, which is in the log`)
      this.#durable.add(entry.turn)
    }
    const missing = this.#firstMissingBefore(endLsn)
    if (missing !== null) throw new Violation(`the progress counts #${missing.turn}, which is not in the log`)
  }

  /** What an earlier log transaction has left without a marker was decided with that one. */
  #undecided(open: readonly StoredBatch[]): StoredBatch[] {
    const batches = open.filter((batch) => !this.#batches.has(batch))
    for (const batch of batches) this.#batches.add(batch)
    return batches
  }

  #decide(records: readonly StoredRecord[], topic: string): Committed[] {
    const entries: Committed[] = []
    for (const { name, position, key, event } of identify(records, topic, '')) {
      if (event?.op === 'r') {
        take(this.#rowsDecided, `${position.slice(0, 16)} ${topic} ${key}`)
        continue
      }
      const found = this.#ledger.find(name)
      if (found === undefined) throw new Violation(`${name} was never committed`)
      const count = (this.#decided.get(name) ?? 0) + 1
      this.#decided.set(name, count)
      if (count > this.#copies(found.expected)) throw new Violation(`${name} is in the log twice`)
      entries.push(found.entry)
    }
    return entries
  }

  #seeRow(row: string, position: string, after: unknown): void {
    take(this.#rowsSeen, `${position.slice(0, 16)} ${row}`)
    const shown = snapshotAt(this.#ledger, position)?.shown.get(row)
    if (JSON.stringify(after) !== JSON.stringify(shown)) throw new Violation(`${row} is not in its snapshot`)
    this.#visibleRecords++
  }

  /** The first time that a snapshot is said to be complete, the last one of which there are rows must be. */
  #requireCopied(): void {
    if (this.#copied) return
    this.#copied = true
    let complete = false
    for (const { lsn, shown } of this.#ledger.snapshots) {
      const at = (lsn - 1n).toString(16).padStart(16, '0')
      const missing = [...shown.keys()].filter((row) => !this.#rowsDecided.has(`${at} ${row}`))
      if (missing.length < shown.size || shown.size === 0) complete = missing.length === 0
    }
    if (!complete) throw new Violation('a snapshot is complete, and rows of it are not in the log')
  }

  /** A snapshot is complete. */
  get copied(): boolean {
    return this.#copied
  }

  #copies(expected: Expected): number {
    return expected.everywhere ? this.#partitionsOf(expected.topic) : 1
  }

  #whole(entry: Committed): boolean {
    return entry.expected.every((expected) => this.#decided.get(nameOf(expected)) === this.#copies(expected))
  }

  /** The first entry that starts before an LSN and is not durable. */
  #firstMissingBefore(lsn: bigint): Committed | null {
    const { committed } = this.#ledger
    for (let entry = committed[this.#durableTurn]; entry !== undefined; entry = committed[this.#durableTurn]) {
      if (entry.expected.length > 0 && !this.#durable.has(entry.turn)) break
      this.#durableTurn++
    }
    const entry = committed[this.#durableTurn]
    return entry !== undefined && entry.startLsn < lsn ? entry : null
  }

  /** Evert tells Postgres that it may drop the WAL before an LSN. */
  onAcknowledge(lsn: bigint, insertLsn: bigint): void {
    if (lsn > insertLsn) throw new Violation('WAL is acknowledged that is not written yet')
    const missing = this.#firstMissingBefore(lsn)
    if (missing !== null) throw new Violation(`#${missing.turn} is acknowledged, and not in the log`)
  }

  /** Looks at what a read_committed consumer can see by now. */
  look(partitions: readonly Partition[]): void {
    for (const partition of partitions) {
      let seen = this.#seen.get(partition)
      if (seen === undefined) this.#seen.set(partition, (seen = { offset: 0, lastPosition: '' }))
      if (partition.stable > seen.offset) this.#lookAt(partition, seen)
    }
  }

  #lookAt(partition: Partition, seen: Seen): void {
    const { topic, stable } = partition
    for (const { batch, visible } of read(partition, seen.offset)) {
      if (batch.baseOffset < seen.offset) continue
      requireRight(partition, batch, visible)
      if (visible && topic === `${this.#pipeline}.schema`) this.#seeShapes(batch)
      else if (visible && topic !== `${this.#pipeline}.progress`) this.#see(batch, partition, seen)
      seen.offset = nextOffset(batch)
    }
    seen.offset = Math.max(seen.offset, stable)
  }

  /** Each shape of a table is told once. */
  #seeShapes({ records }: StoredBatch): void {
    for (const { value } of records) {
      const { position: _, ...shape } = JSON.parse(value ?? '{}') as Record<string, unknown>
      const text = JSON.stringify(shape)
      if (this.#shapes.has(text)) throw new Violation(`a shape is told twice: ${text}`)
      this.#shapes.add(text)
    }
  }

  #see({ records }: StoredBatch, partition: Partition, seen: Seen): void {
    for (const { name, position, key, event } of identify(records, partition.topic, seen.lastPosition)) {
      if (position < seen.lastPosition) throw new Violation(`${name} is seen after ${seen.lastPosition}`)
      seen.lastPosition = position
      if (event?.op === 'r') {
        this.#seeRow(`${partition.topic} ${key}`, position, event.after)
        continue
      }
      const found = this.#ledger.find(name)
      if (found === undefined) throw new Violation(`${name} is seen, and was never committed`)
      const { expected } = found
      this.#requireSame(name, { key, event }, expected, partition)
      const count = (this.#visible.get(name) ?? 0) + 1
      this.#visible.set(name, count)
      if (count > this.#copies(expected)) throw new Violation(`${name} is seen twice`)
      this.#visibleRecords++
    }
  }

  #requireSame(
    name: string,
    { key, event }: { readonly key: string | null; readonly event: Identified['event'] },
    expected: Expected,
    partition: Partition,
  ): void {
    if (key !== expected.key) throw new Violation(`${name} has the key ${key} instead of ${expected.key}`)
    if (expected.op === 'm') return
    if (event !== null && JSON.stringify(event.after) !== JSON.stringify(expected.after)) {
      throw new Violation(`${name} is seen as ${JSON.stringify(event)}`)
    }
    if (expected.everywhere) return
    const place = this.#places.get(`${expected.topic} ${key}`)
    if (place === undefined) this.#places.set(`${expected.topic} ${key}`, partition.index)
    else if (place !== partition.index) throw new Violation(`the key ${key} is in two partitions`)
  }

  /** At the end, everything at once: what a consumer finds that comes now, with all aborted transactions in one fetch. */
  lookAgain(partitions: readonly Partition[]): void {
    for (const partition of partitions) {
      if (partition.stable !== partition.end) throw new Violation(`a transaction hangs in ${partition.topic}`)
      for (const { batch, visible } of read(partition, 0)) requireRight(partition, batch, visible)
    }
    const shapes = new Set<string>()
    for (const { stream } of this.#ledger.committed) {
      for (const message of stream) if (!Buffer.isBuffer(message)) shapes.add(`${message.oid}/${message.version}`)
    }
    const needed = shapes.size
    for (const { tables } of this.#ledger.snapshots) {
      for (const { relation, version } of tables) shapes.add(`${relation.oid}/${version}`)
    }
    if (this.#shapes.size < needed || this.#shapes.size > shapes.size) {
      throw new Violation(`of ${needed} to ${shapes.size} shapes of tables, ${this.#shapes.size} were told`)
    }
  }

  /** What is still to come: nothing, once everything that was committed is visible. */
  get missing(): number {
    let missing = 0
    for (const { expected } of this.#ledger.committed) {
      for (const record of expected) missing += this.#copies(record) - (this.#visible.get(nameOf(record)) ?? 0)
    }
    return missing
  }

  get visibleRecords(): number {
    return this.#visibleRecords
  }
}

/** A fetch from an offset on, through evert's own filter. */
function* read(partition: Partition, from: number): Generator<{ batch: StoredBatch; visible: boolean }> {
  const { batches, aborted } = partition.fetch(from)
  const result = {
    records: Buffer.concat(batches.map(({ bytes }) => bytes)),
    abortedTransactions: aborted.map((of) => ({ ...of, firstOffset: BigInt(of.firstOffset) })),
  }
  let next = 0
  for (const { visible } of committedBatches(result, { topic: partition.topic, partition: partition.index })) {
    const batch = batches[next++]
    if (batch === undefined) throw new Violation('the reader finds more batches than there are')
    yield { batch, visible }
  }
  if (next < batches.length) throw new Violation('the reader finds fewer batches than there are')
}

function requireRight({ topic }: Partition, { baseOffset, control, outcome }: StoredBatch, visible: boolean): void {
  if (visible === (control === null && outcome === 'committed')) return
  throw new Violation(`a batch at ${topic} ${baseOffset} is ${visible ? 'shown' : 'hidden'}: ${outcome}`)
}

/** A tombstone has no position of its own: it has that of the delete before it. */
function identify(records: readonly StoredRecord[], topic: string, before: string): Identified[] {
  let position = before
  return records.map(({ key, value }) => {
    if (value === null) return { name: nameOf({ topic, position, op: null }), position, key, event: null }
    const event = JSON.parse(value) as { op: string; after?: unknown; source: { position: string } }
    position = event.source.position
    return { name: nameOf({ topic, position, op: event.op }), position, key, event }
  })
}

function take(rows: Set<string>, row: string): void {
  if (rows.has(row)) throw new Violation(`the row ${row} of a snapshot is there twice`)
  rows.add(row)
}

interface LoggedProgress {
  readonly endLsn: bigint
  readonly snapshot: string
}

function progressOf(records: readonly StoredRecord[]): LoggedProgress | null {
  const entry = records.findLast(({ key }) => key === 'progress')
  if (entry === undefined || entry.value === null) return null
  const { endLsn, snapshot } = JSON.parse(entry.value) as { endLsn: string; snapshot: string }
  const [high = '', low = ''] = endLsn.split('/')
  return { endLsn: (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`), snapshot }
}
