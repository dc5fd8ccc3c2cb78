/**
 * Changes: turns the messages of the stream into records of the sink, and knows where a log transaction may end: only where a
 * Postgres transaction does.
 */
import { assert } from '../base/assert.js'
import { EvertError } from '../base/errors.js'
import { type EndLsn, formatLsn, type Lsn, LSN_ZERO, lsnFromHalves, toLsn } from '../event/lsn.js'
import type { Relation } from '../event/relation.js'
import type { RecordSink, SinkTopic } from '../event/sink.js'
import { type CompiledTable, compileTable } from '../event/table.js'
import { messageTopic, tableTopic } from '../event/topic-name.js'
import { type OldTuple, Transcoder } from '../event/transcoder.js'
import type { Tuple } from '../event/tuple.js'
import type { PgoutputHandler } from './pgoutput.js'

export interface ChangesOptions {
  readonly pipeline: string
  readonly sink: RecordSink
  /** Whether a table is to be published. */
  readonly matches: (schema: string, table: string) => boolean
  /** The key columns of a table under REPLICA IDENTITY FULL, where the stream flags every column. */
  readonly keyOf: (relation: Relation) => Promise<readonly string[]>
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
  readonly #tables = new Map<number, TableState>()
  #lastOid = -1
  #lastTable: TableState = null
  #messages: SinkTopic | null = null
  #commitLsn: Lsn = LSN_ZERO
  #skipping = false
  #inTransaction = false
  #ordinalAtBegin = 0
  /** The first byte after the last whole transaction that the sink holds or has held. */
  #endLsn: EndLsn

  constructor(options: ChangesOptions) {
    this.#options = options
    this.#sink = options.sink
    this.#transcoder = new Transcoder(options.sink)
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
    assert(!this.#inTransaction, 'a transaction began inside another')
    this.#inTransaction = true
    this.#skipping = commitLsn < this.#options.from
    if (this.#skipping) return
    assert(commitLsn > this.#commitLsn, `the transaction at ${formatLsn(commitLsn)} came after a later one`)
    this.#commitLsn = commitLsn
    this.#transcoder.begin({ commitLsn, timeUs, xid })
    this.#ordinalAtBegin = this.#transcoder.ordinal
  }

  commit(_commitHigh: number, _commitLow: number, endHigh: number, endLow: number): void {
    this.#inTransaction = false
    if (this.#skipping) return
    const end = lsnFromHalves(endHigh, endLow)
    if (end > this.#endLsn) this.#endLsn = end
  }

  origin(name: string): void {
    if (!this.#skipping) this.#transcoder.origin(name)
  }

  relation(relation: Relation): void {
    this.#lastOid = -1
    if (!this.#options.matches(relation.schema, relation.table)) {
      this.#tables.set(relation.oid, null)
      return
    }
    if (relation.replicaIdentity === 'full') {
      this.#options.waitFor(this.#compileFull(relation))
      return
    }
    this.#compile(relation)
  }

  async #compileFull(relation: Relation): Promise<void> {
    const keyColumns = await this.#options.keyOf(relation)
    const columns = relation.columns.map((column) => ({ ...column, key: keyColumns.includes(column.name) }))
    this.#compile({ ...relation, columns })
  }

  #compile(relation: Relation): void {
    const name = tableTopic(this.#options.pipeline, relation.schema, relation.table)
    const topic = this.#sink.topic({ name, keyed: relation.columns.some((column) => column.key) })
    const remember = (known: SinkTopic): void => void this.#tables.set(relation.oid, compileTable(relation, known))
    if (topic instanceof Promise) this.#options.waitFor(topic.then(remember))
    else remember(topic)
  }

  #table(oid: number): TableState {
    if (oid === this.#lastOid) return this.#lastTable
    const table = this.#tables.get(oid)
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
    if (this.#skipping) return null
    const table = this.#table(oid)
    if (table !== null && row.count !== table.columns.length) {
      throw new EvertError('PROTOCOL', {
        message: `a row of "${table.relation.schema}"."${table.relation.table}" in the transaction at ${formatLsn(this.#commitLsn)} has ${row.count} columns, its table ${table.columns.length}`,
      })
    }
    return table
  }

  insert(oid: number, lsnHigh: number, lsnLow: number, row: Tuple): void {
    const table = this.#tableOf(oid, row)
    if (table !== null) this.#transcoder.insert(table, lsnHigh, lsnLow, row)
  }

  update(oid: number, lsnHigh: number, lsnLow: number, row: Tuple, old: Tuple | null, kind: OldTuple): void {
    const table = this.#tableOf(oid, row)
    if (table !== null) this.#transcoder.update(table, lsnHigh, lsnLow, row, old, kind)
  }

  delete(oid: number, lsnHigh: number, lsnLow: number, old: Tuple, kind: OldTuple): void {
    const table = this.#tableOf(oid, old)
    if (table !== null) this.#transcoder.delete(table, lsnHigh, lsnLow, old, kind)
  }

  truncate(oids: readonly number[], lsnHigh: number, lsnLow: number): void {
    if (this.#skipping) return
    for (const oid of oids) {
      const table = this.#table(oid)
      if (table !== null) this.#transcoder.truncate(table, lsnHigh, lsnLow)
    }
  }

  message(message: { transactional: boolean; lsnHigh: number; lsnLow: number; prefix: string; content: Buffer }): void {
    const lsn = lsnFromHalves(message.lsnHigh, message.lsnLow)
    if (message.transactional ? this.#skipping : lsn <= this.#options.from) return
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
    assert(!this.#inTransaction, 'a message outside a transaction came inside one')
    const commitLsn = toLsn(lsn - 1n)
    this.#commitLsn = commitLsn
    this.#transcoder.begin({ commitLsn, timeUs: this.#options.nowUs(), xid: null })
    this.#transcoder.message(topic, message.lsnHigh, message.lsnLow, message)
    this.#endLsn = lsn
  }
}
