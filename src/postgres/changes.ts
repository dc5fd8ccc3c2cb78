/**
 * Changes: turns the messages of the stream into records of the sink, and knows where a log transaction may end: only where a
 * Postgres transaction does.
 */
import { EvertError } from '../base/errors.js'
import { type EndLsn, formatLsn, type Lsn, LSN_ZERO, lsnFromHalves, toLsn } from '../event/lsn.js'
import type { Relation } from '../event/relation.js'
import type { RecordSink, SinkTopic } from '../event/sink.js'
import type { CompiledTable } from '../event/table.js'
import { messageTopic } from '../event/topic-name.js'
import type { OldTuple } from '../event/row.js'
import { Transcoder } from '../event/transcoder.js'
import { extentOf, moveTo, type Tuple } from '../event/tuple.js'
import { TypeAltered, ValueMalformed } from '../event/value-types.js'
import type { PgoutputHandler } from './pgoutput.js'
import { Tables, type TablesOptions } from './tables.js'

/** Who looks on while the stream passes, and may publish something of his own between two transactions. */
export interface Bystander {
  /** A transaction begins that is not in the log yet. */
  begin(xid: number): void
  /** Changes that follow are of this version of a table. */
  relation(relation: Relation): void
  /** A message that is meant for evert. */
  request(content: Buffer): void
  /**
   * Between transactions: everything that committed before the LSN has been told, and nothing that commits after it. True where something
   * was published or remembered; where it takes a while, the stream waits.
   */
  between(endLsn: EndLsn): boolean | Promise<void>
  /** Before the first transaction that commits at or after it the stream stops; null for nowhere. */
  readonly stop: Lsn | null
  /**
   * There: everything that commits before it has been told. Until this is settled the stream waits; then what was published and remembered is
   * taken, and after that the parts, if there are any, which are one log transaction.
   */
  stopped(): Promise<Parts | null>
}

/** Publishes something, and yields whenever the sink may be full. */
export type Parts = AsyncIterable<void>

/** The prefix of messages that are meant for evert. */
const REQUEST_PREFIX = 'evert'

export interface ChangesOptions extends TablesOptions {
  readonly bystander?: Bystander
  /** Whether a table is to be published. */
  readonly matches: (schema: string, table: string) => boolean
  /** Whether what came through a replication origin is left out. */
  readonly skipsOrigin: (name: string) => boolean
  /** Transactions that commit before it are in the log already. */
  readonly from: EndLsn
  /** Microseconds since 1970: the time of a message outside a transaction, which has no commit time. */
  readonly nowUs: () => bigint
  /** Stops the decoding until the promise is settled. */
  readonly waitFor: (promise: Promise<void>) => void
}

/** What is known of a table: compiled, or not to be published. */
type TableState = CompiledTable | null

export class Changes implements PgoutputHandler {
  readonly #options: ChangesOptions
  readonly #sink: RecordSink
  readonly #transcoder: Transcoder
  readonly #tables: Tables
  readonly #known = new Map<number, TableState>()
  /** Versions of tables that are opened with their first change. Of a partition that is published as its root, none comes. */
  readonly #described = new Map<number, Relation>()
  #lastOid = -1
  #lastTable: TableState = null
  #messages: SinkTopic | null = null
  #commitLsn: Lsn = LSN_ZERO
  #skipping = false
  /** The transaction at hand came through an origin that is not to be published. */
  #foreign = false
  #inTransaction = false
  #begunHigh = 0
  #begunLow = 0
  #ordinalAtBegin = 0
  /** Of the change at hand. */
  #ordinal = 0
  /** The first byte after the last whole transaction that the sink holds or has held. */
  #endLsn: EndLsn

  constructor(options: ChangesOptions) {
    this.#options = options
    this.#sink = options.sink
    this.#transcoder = new Transcoder(options.sink, options.envelope, options.largeValues, options.from)
    this.#tables = new Tables(options, this.#transcoder)
    this.#endLsn = options.from
  }

  get endLsn(): EndLsn {
    return this.#endLsn
  }

  /** The commit LSN of the transaction at hand, or of the last one. */
  get commitLsn(): Lsn {
    return this.#commitLsn
  }

  get inTransaction(): boolean {
    return this.#inTransaction
  }

  /** True while the sink has records of a transaction whose commit has not come yet. */
  get midTransaction(): boolean {
    return this.#inTransaction && !this.#skipping && this.#transcoder.ordinal > this.#ordinalAtBegin
  }

  /** Nothing is pending up to here: the server says so in a keepalive. */
  advance(walEnd: Lsn): void {
    if (!this.#inTransaction && walEnd > this.#endLsn) this.#endLsn = walEnd
  }

  begin(commitHigh: number, commitLow: number, timeUs: bigint, xid: number): void {
    const commitLsn = lsnFromHalves(commitHigh, commitLow)
    if (this.#inTransaction) throw outOfOrder(commitLsn, 'began inside another')
    this.#inTransaction = true
    this.#begunHigh = commitHigh
    this.#begunLow = commitLow
    this.#skipping = commitLsn < this.#options.from
    if (this.#skipping) return
    if (commitLsn <= this.#commitLsn) throw outOfOrder(commitLsn, 'came after a later one')
    this.#commitLsn = commitLsn
    this.#foreign = false
    this.#options.bystander?.begin(xid)
    this.#transcoder.begin({ commitLsn, timeUs, xid, snapshot: false })
    this.#ordinalAtBegin = this.#transcoder.ordinal
  }

  commit(commitHigh: number, commitLow: number, endHigh: number, endLow: number): void {
    const end = lsnFromHalves(endHigh, endLow)
    if (!this.#inTransaction || commitHigh !== this.#begunHigh || commitLow !== this.#begunLow) {
      throw outOfOrder(lsnFromHalves(commitHigh, commitLow), 'ended without having begun')
    }
    this.#inTransaction = false
    if (this.#skipping) return
    if (end <= this.#commitLsn) throw outOfOrder(this.#commitLsn, `ended at ${formatLsn(end)}`)
    if (end > this.#endLsn) this.#endLsn = end
  }

  origin(name: string, lsn: Lsn): void {
    if (this.#skipping) return
    this.#foreign = this.#options.skipsOrigin(name)
    this.#transcoder.origin({ name, lsn })
  }

  relation(relation: Relation): void {
    this.#lastOid = -1
    if (!this.#options.matches(relation.schema, relation.table)) {
      this.#described.delete(relation.oid)
      this.#known.set(relation.oid, null)
      return
    }
    this.#options.bystander?.relation(relation)
    this.#known.delete(relation.oid)
    this.#described.set(relation.oid, relation)
  }

  /** Whether a change is the first one of its table's version. */
  #isFirst(oid: number): boolean {
    return oid !== this.#lastOid && this.#inTransaction && !this.#skipping && !this.#foreign && this.#described.has(oid)
  }

  /** Opens the table, and writes what could not be written before. */
  #openFirst(oid: number, tuples: readonly Tuple[], write: () => void): void {
    const relation = this.#described.get(oid)!
    this.#described.delete(oid)
    keep(tuples)
    const opened = this.#tables.open(relation).then((table) => {
      this.#known.set(oid, table)
      write()
    })
    this.#options.waitFor(opened)
  }

  #table(oid: number): TableState {
    if (oid === this.#lastOid) return this.#lastTable
    const table = this.#known.get(oid)
    if (table === undefined) {
      throw new EvertError('PROTOCOL', {
        message: `the transaction at ${formatLsn(this.#commitLsn)} changes table ${oid}, which was not described`,
      })
    }
    this.#lastOid = oid
    this.#lastTable = table
    return table
  }

  /** The table of a row that is to be published, or null. */
  #tableOf(oid: number, row: Tuple): TableState {
    if (!this.#inTransaction) throw outOfOrder(this.#commitLsn, 'is followed by a change that is in none')
    if (this.#skipping || this.#foreign) return null
    const table = this.#table(oid)
    if (table !== null) this.#requireColumns(table, row)
    this.#ordinal = this.#transcoder.ordinal
    return table
  }

  #requireColumns(table: CompiledTable, row: Tuple): void {
    if (row.count === table.columns.length) return
    throw this.#protocolError(table, `has ${row.count} columns, its table ${table.columns.length}`)
  }

  /** Why a change could not be written: then it took no ordinal. Anything else is thrown, what is wrong with a value with where that was. */
  #altered(error: unknown, table: CompiledTable): TypeAltered {
    if (error instanceof ValueMalformed) throw this.#protocolError(table, `cannot be read: ${error.message}`)
    if (!(error instanceof TypeAltered)) throw error
    this.#transcoder.ordinal = this.#ordinal
    return error
  }

  #protocolError({ relation }: CompiledTable, what: string): EvertError {
    return new EvertError('PROTOCOL', {
      message: `a row of "${relation.schema}"."${relation.table}" in the transaction at ${formatLsn(this.#commitLsn)} ${what}`,
    })
  }

  insert(oid: number, lsnHigh: number, lsnLow: number, row: Tuple): void {
    if (this.#isFirst(oid)) return this.#openFirst(oid, [row], () => this.insert(oid, lsnHigh, lsnLow, row))
    const table = this.#tableOf(oid, row)
    if (table === null) return
    try {
      this.#transcoder.insert(table, lsnHigh, lsnLow, row)
    } catch (error) {
      this.#again(error, table, [row], (renewed) => this.#transcoder.insert(renewed, lsnHigh, lsnLow, row))
    }
  }

  update(oid: number, lsnHigh: number, lsnLow: number, row: Tuple, old: Tuple | null, kind: OldTuple): void {
    if (this.#isFirst(oid)) {
      const again = (): void => this.update(oid, lsnHigh, lsnLow, row, old, kind)
      return this.#openFirst(oid, tuplesOf(row, old), again)
    }
    const table = this.#tableOf(oid, row)
    if (table === null) return
    if (old !== null) this.#requireColumns(table, old)
    try {
      this.#transcoder.update(table, lsnHigh, lsnLow, row, old, kind)
    } catch (error) {
      const write = (renewed: CompiledTable): void => this.#transcoder.update(renewed, lsnHigh, lsnLow, row, old, kind)
      this.#again(error, table, tuplesOf(row, old), write)
    }
  }

  delete(oid: number, lsnHigh: number, lsnLow: number, old: Tuple, kind: OldTuple): void {
    if (this.#isFirst(oid)) return this.#openFirst(oid, [old], () => this.delete(oid, lsnHigh, lsnLow, old, kind))
    const table = this.#tableOf(oid, old)
    if (table === null) return
    try {
      this.#transcoder.delete(table, lsnHigh, lsnLow, old, kind)
    } catch (error) {
      this.#again(error, table, [old], (renewed) => this.#transcoder.delete(renewed, lsnHigh, lsnLow, old, kind))
    }
  }

  /**
   * A change that could not be written because a composite type was altered, which the stream does not tell: the catalog is asked
   * again, and the change written with what it says. Nothing of it has been appended yet.
   */
  #again(
    error: unknown,
    table: CompiledTable,
    tuples: readonly Tuple[],
    write: (renewed: CompiledTable) => void,
  ): void {
    this.#altered(error, table)
    keep(tuples)
    this.#lastOid = -1
    this.#options.waitFor(this.#writeRenewed(table.relation, write))
  }

  /**
   * The catalog may have moved on since the value was written: one with fewer fields then has the first of them, if none was ever dropped.
   * A value whose fields nobody can name any more is its Postgres text.
   */
  async #writeRenewed(relation: Relation, write: (renewed: CompiledTable) => void): Promise<void> {
    const opaque = new Set<number>()
    const renewed = await this.#tables.open(relation, { renew: true, prefixes: false, opaque })
    this.#known.set(relation.oid, renewed)
    let table = renewed
    for (;;) {
      try {
        write(table)
        return
      } catch (error) {
        const { typeOid } = this.#altered(error, table)
        if (table !== renewed) opaque.add(typeOid)
      }
      table = await this.#tables.open(relation, { renew: false, prefixes: true, opaque })
    }
  }

  truncate(oids: readonly number[], lsnHigh: number, lsnLow: number): void {
    if (this.#skipping || this.#foreign) return
    const first = oids.find((oid) => this.#isFirst(oid))
    if (first !== undefined) return this.#openFirst(first, [], () => this.truncate(oids, lsnHigh, lsnLow))
    for (const oid of oids) {
      const table = this.#table(oid)
      if (table !== null) this.#transcoder.truncate(table, lsnHigh, lsnLow)
    }
  }

  message(message: { transactional: boolean; lsnHigh: number; lsnLow: number; prefix: string; content: Buffer }): void {
    const lsn = lsnFromHalves(message.lsnHigh, message.lsnLow)
    if (message.transactional ? this.#skipping || this.#foreign : lsn <= this.#options.from) return
    if (message.prefix === REQUEST_PREFIX) {
      this.#options.bystander?.request(message.content)
      if (!message.transactional) this.#endLsn = lsn
      return
    }
    const known = this.#messages
    if (known !== null) {
      this.#publish(known, message, lsn)
      return
    }
    const topic = this.#sink.topic({ name: messageTopic(this.#options.pipeline), keyed: false })
    const first = (ready: SinkTopic): void => {
      this.#messages = ready
      this.#publish(ready, message, lsn)
    }
    if (topic instanceof Promise) this.#options.waitFor(topic.then(first))
    else first(topic)
  }

  /**
   * A message outside a transaction is a transaction of its own. Its LSN is the end of its record, where the next
   * transaction's commit record may start: the byte before it orders the message and belongs to nobody else.
   */
  #publish(
    topic: SinkTopic,
    message: { transactional: boolean; lsnHigh: number; lsnLow: number; prefix: string; content: Buffer },
    lsn: Lsn,
  ): void {
    if (message.transactional) {
      this.#transcoder.message(topic, message.lsnHigh, message.lsnLow, message)
      return
    }
    if (this.#inTransaction) throw outOfOrder(lsn, 'is a message of its own, inside another one')
    const commitLsn = toLsn(lsn - 1n)
    this.#commitLsn = commitLsn
    this.#transcoder.begin({ commitLsn, timeUs: this.#options.nowUs(), xid: null, snapshot: false })
    this.#transcoder.message(topic, message.lsnHigh, message.lsnLow, message)
    this.#endLsn = lsn
  }
}

function tuplesOf(row: Tuple, old: Tuple | null): readonly Tuple[] {
  return old === null ? [row] : [row, old]
}

/** Copies the values of tuples that share their bytes: the framer's own may be moved while the stream waits. */
function keep(tuples: readonly Tuple[]): void {
  const [first] = tuples
  if (first === undefined || first.given) return
  const { from, to } = extentOf(tuples)
  moveTo(Buffer.from(first.bytes.subarray(from, to)), -from, tuples)
}

function outOfOrder(lsn: Lsn, what: string): EvertError {
  return new EvertError('PROTOCOL', { message: `the transaction at ${formatLsn(lsn)} ${what}` })
}
