/**
 * Database: a WAL that random transactions write, several at a time, with commit records that may follow each other without a byte
 * between them: there one transaction's end LSN is the next one's commit LSN.
 */
import { type Committed, type Expected, Ledger, type RelationNeeded, type Snapshot } from '../ledger.js'
import type { World } from '../world.js'
import { begin, commit, insert, message, relation, remove, truncate, update, walData } from './messages.js'
import { type Fields, makeTables, type Table } from './tables.js'

/** A commit record. */
const COMMIT_BYTES = 0x30n
const EPOCH_US = 1_772_366_400_000_000n
const KEYS = 6

interface Change {
  readonly lsn: bigint
  readonly table: Table
  readonly relation: RelationNeeded
  readonly payload: Buffer
  /** Without positions, which only the commit gives them. */
  readonly records: readonly Omit<Expected, 'position' | 'topic' | 'everywhere'>[]
}

interface OpenTransaction {
  readonly xid: number
  readonly changes: (Change | { readonly lsn: bigint; readonly content: string })[]
  readonly locked: Set<string>
}

export class Database {
  readonly ledger = new Ledger()
  readonly tables = makeTables()
  readonly #world: World
  readonly #pipeline: string
  readonly #open: OpenTransaction[] = []
  /** Rows that an open transaction has touched are nobody else's. */
  readonly #locks = new Set<string>()
  #insertLsn: bigint
  #xid = 700
  #values = 0

  constructor(world: World, pipeline: string) {
    this.#world = world
    this.#pipeline = pipeline
    // Sometimes across the 4 GB where an LSN's low half wraps around.
    this.#insertLsn = world.random.chance(0.3) ? 0xfffff000n : 0x1_5000_0000n
  }

  /** Where the next record goes; everything before it is flushed. */
  get insertLsn(): bigint {
    return this.#insertLsn
  }

  /** Rows that were there before the slot, which only a snapshot can show. */
  fill(): void {
    for (const table of this.tables) {
      for (let i = this.#world.random.below(8); i > 0; i--) {
        const row = this.#row(table)
        table.rows.set(table.key(row), row)
      }
    }
  }

  /** Null while a transaction runs. */
  snapshot(): Snapshot | null {
    if (this.#open.length > 0) return null
    const shown = new Map<string, Fields>()
    const tables = this.tables.map((table) => {
      for (const [key, row] of table.rows) shown.set(`${this.#topic(table)} ${key}`, table.shown(row))
      const rows = [...table.rows.values()].map((row) => table.text(row))
      return { relation: table.relation, version: table.version, rows }
    })
    const snapshot = { lsn: this.#insertLsn, tables, shown }
    // Two at one LSN would be one.
    this.#write(8n)
    this.ledger.snapshots.push(snapshot)
    this.#world.say(() => `postgres exports a snapshot at ${snapshot.lsn.toString(16)} of ${shown.size} rows`)
    return snapshot
  }

  #topic(table: Table): string {
    return `${this.#pipeline}.public.${table.relation.table}`
  }

  /** Something happens in the database. */
  step(): void {
    const { random } = this.#world
    const dice = random.next()
    if (dice < 0.12 && this.#open.length < 3) this.#start()
    else if (dice < 0.6) this.#change(this.#open[random.below(this.#open.length)] ?? this.#start())
    else if (dice < 0.85) this.#commitSome()
    else if (dice < 0.9)
      this.#write(BigInt(random.between(8, 500))) // somebody else's
    else if (dice < 0.93) this.#messageOutside()
    else if (dice < 0.97) this.#alter()
    else this.burst()
  }

  commitAll(): void {
    for (const transaction of this.#open.slice()) this.#commit(transaction)
  }

  #write(bytes: bigint): bigint {
    const start = this.#insertLsn
    this.#insertLsn += bytes
    return start
  }

  #start(): OpenTransaction {
    const transaction = { xid: this.#xid++, changes: [], locked: new Set<string>() }
    this.#open.push(transaction)
    return transaction
  }

  /** Waits, like every alter table, for whoever has touched the table. */
  #alter(): void {
    const table = this.#someTable()
    if (this.#touched(table)) return
    table.addColumn()
    this.#write(200n)
    // Its new shape is then the first thing of a transaction.
    if (this.#open.length < 3) this.#change(this.#start(), table)
    if (this.#world.random.chance(0.5)) this.commitAll()
  }

  #someTable(): Table {
    return this.tables[this.#world.random.below(this.tables.length)]!
  }

  #touched(table: Table): boolean {
    return [...this.#locks].some((lock) => lock.startsWith(table.relation.table))
  }

  /** One or several, whose commit records are neighbours. */
  #commitSome(): void {
    const { random } = this.#world
    const count = random.chance(0.5) ? 1 : this.#open.length
    for (let i = 0; i < count; i++) {
      const transaction = this.#open[random.below(this.#open.length)]
      if (transaction === undefined) return
      this.#commit(transaction)
      if (random.chance(0.2)) this.#write(BigInt(random.between(1, 40)) * 8n)
    }
  }

  /** Larger than a log transaction is cut at. */
  burst(): void {
    const transaction = this.#start()
    for (let i = this.#world.random.between(8, 40); i > 0; i--) this.#change(transaction)
    if (this.#world.random.chance(0.7)) this.#commit(transaction)
  }

  #change(transaction: OpenTransaction, table = this.#someTable()): void {
    const { random } = this.#world
    const lsn = this.#write(BigInt(random.between(4, 30)) * 8n)
    if (random.chance(0.06)) {
      transaction.changes.push({ lsn, content: `message ${this.#values++}` })
      return
    }
    if (random.chance(0.02) && !this.#touched(table)) {
      this.#lock(transaction, table, null)
      table.rows.clear()
      this.#add(transaction, lsn, table, truncate(table.relation.oid), [{ op: 't', key: '{}', after: null }])
      return
    }
    const row = this.#row(table)
    const key = table.key(row)
    if (!this.#lock(transaction, table, key)) return
    const old = table.rows.get(key)
    if (old === undefined) this.#insert(transaction, lsn, table, row)
    else if (random.chance(0.3)) this.#delete(transaction, lsn, table, old)
    else this.#update(transaction, lsn, table, old)
  }

  /** False where another transaction has it: a session that waits does nothing. */
  #lock(transaction: OpenTransaction, table: Table, key: string | null): boolean {
    const whole = `${table.relation.table} *`
    const lock = key === null ? whole : `${table.relation.table} ${key}`
    const free = (name: string): boolean => !this.#locks.has(name) || transaction.locked.has(name)
    if (!free(lock) || !free(whole)) return false
    transaction.locked.add(lock)
    this.#locks.add(lock)
    return true
  }

  #row(table: Table): Fields {
    const { random } = this.#world
    const value = this.#values++
    const row: Record<string, number | string | null> = {}
    for (const { name, typeOid } of table.relation.columns) row[name] = typeOid === 23 ? value : `value ${value}`
    for (const name of table.primaryKey) {
      const choice = random.below(KEYS)
      row[name] = typeof row[name] === 'number' ? choice : `p${choice}`
    }
    return row
  }

  #insert(transaction: OpenTransaction, lsn: bigint, table: Table, row: Fields): void {
    table.rows.set(table.key(row), row)
    const record = { op: 'c', key: table.key(row), after: table.shown(row) }
    this.#add(transaction, lsn, table, insert(table.relation.oid, table.text(row)), [record])
  }

  #delete(transaction: OpenTransaction, lsn: bigint, table: Table, old: Fields): void {
    const key = table.key(old)
    table.rows.delete(key)
    const records = [
      { op: 'd', key, after: null },
      { op: null, key, after: null },
    ]
    this.#add(transaction, lsn, table, remove(table.relation.oid, this.#old(table, old)), records)
  }

  #old(table: Table, old: Fields): { row: ReturnType<Table['text']>; kind: 'K' | 'O' } {
    return table.relation.replicaIdentity === 'full'
      ? { row: table.text(old), kind: 'O' }
      : { row: table.keyText(old), kind: 'K' }
  }

  /** A changed key is a delete, a tombstone and an insert. */
  #update(transaction: OpenTransaction, lsn: bigint, table: Table, old: Fields): void {
    const fresh = this.#row(table)
    const kept = Object.fromEntries(table.primaryKey.map((name) => [name, old[name] ?? null]))
    const moves =
      this.#world.random.chance(0.25) &&
      !table.rows.has(table.key(fresh)) &&
      this.#lock(transaction, table, table.key(fresh))
    const row = moves ? fresh : { ...fresh, ...kept }
    table.rows.delete(table.key(old))
    table.rows.set(table.key(row), row)
    const changed = table.key(row) !== table.key(old)
    const sent = changed || table.relation.replicaIdentity === 'full' ? this.#old(table, old) : null
    const after = table.shown(row)
    const records = changed
      ? [
          { op: 'd', key: table.key(old), after: null },
          { op: null, key: table.key(old), after: null },
          { op: 'c', key: table.key(row), after },
        ]
      : [{ op: 'u', key: table.key(row), after }]
    this.#add(transaction, lsn, table, update(table.relation.oid, table.text(row), sent), records)
  }

  #add(transaction: OpenTransaction, lsn: bigint, table: Table, payload: Buffer, records: Change['records']): void {
    const { oid } = table.relation
    const needed = { oid, version: table.version, description: walData(0n, relation(table.relation)) }
    transaction.changes.push({ lsn, table, relation: needed, payload, records })
  }

  #commit(transaction: OpenTransaction): void {
    this.#open.splice(this.#open.indexOf(transaction), 1)
    for (const lock of transaction.locked) this.#locks.delete(lock)
    const startLsn = this.#write(COMMIT_BYTES)
    const endLsn = this.#insertLsn
    const timeUs = EPOCH_US + BigInt(Math.floor(this.#world.nowMs * 1000))
    const stream: Committed['stream'][number][] = [walData(startLsn, begin(startLsn, timeUs, transaction.xid))]
    const expected: Expected[] = []
    let ordinal = 0
    for (const change of transaction.changes) {
      if ('content' in change) {
        stream.push(walData(change.lsn, message(change.lsn, true, change.content)))
        expected.push(this.#message(position(startLsn, ordinal++)))
        continue
      }
      stream.push(change.relation, walData(change.lsn, change.payload))
      const topic = this.#topic(change.table)
      for (const record of change.records) {
        const at = position(startLsn, record.op === null ? ordinal - 1 : ordinal++)
        expected.push({ ...record, topic, position: at, everywhere: record.op === 't' })
      }
    }
    stream.push(walData(endLsn, commit(startLsn, endLsn, timeUs)))
    this.#remember({ startLsn, endLsn, stream, expected })
  }

  /** pg_logical_emit_message outside of a transaction: its LSN is the end of its record. */
  #messageOutside(): void {
    const startLsn = this.#write(BigInt(this.#world.random.between(5, 9)) * 8n)
    const endLsn = this.#insertLsn
    const stream = [walData(endLsn, message(endLsn, false, `message ${this.#values++}`))]
    this.#remember({ startLsn, endLsn, stream, expected: [this.#message(position(endLsn - 1n, 0))] })
  }

  #message(at: string): Expected {
    const key = JSON.stringify({ prefix: 'sim' })
    return { topic: `${this.#pipeline}.message`, position: at, op: 'm', key, after: null, everywhere: false }
  }

  #remember(entry: Omit<Committed, 'turn'>): void {
    const turn = this.ledger.committed.length
    this.ledger.add({ ...entry, turn })
    this.#world.say(() => `postgres commits #${turn} ${entry.startLsn.toString(16)}..${entry.endLsn.toString(16)}`)
  }
}

function position(commitLsn: bigint, ordinal: number): string {
  return `${commitLsn.toString(16).padStart(16, '0')}-${ordinal.toString(16).padStart(8, '0')}`
}
