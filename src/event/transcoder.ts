/**
 * Transcoder: from text tuples to the bytes of events, in the default envelope, without an object per row. It knows the
 * transaction at hand, counts its ordinals, and gives each record to the sink.
 *
 *   {"op":"u","before":null,"after":{…},"unchanged":["notes"],"source":{"schema","table","txId","lsn","ts_us","position"}}
 */
import { assert } from '../base/assert.js'
import { EvertError } from '../base/errors.js'
import { formatLsn } from './lsn.js'
import { writeBytes, writeConstant } from './json.js'
import { encodedRecord } from './record.js'
import type { Relation, RelationDescription } from './relation.js'
import { schemaRecord } from './schema-record.js'
import type { EncodedRecord, RecordHeader, RecordSink, SinkTopic } from './sink.js'
import type { CompiledTable } from './table.js'
import { type TransactionStart, TransactionStamp } from './transaction-stamp.js'
import { NULL, sameValue, TEXT, type Tuple, UNCHANGED } from './tuple.js'
import { valueBytes, writeValue } from './values.js'

const OPEN = 0x7b
const CLOSE = 0x7d
const COMMA = 0x2c
const BEFORE_NULL_AFTER = { c: constant('c'), u: constant('u'), r: constant('r') } as const
const BEFORE = { u: Buffer.from('{"op":"u","before":'), d: Buffer.from('{"op":"d","before":') } as const
const AFTER = Buffer.from(',"after":')
const AFTER_NULL = Buffer.from(',"after":null')
const UNCHANGED_LIST = Buffer.from(',"unchanged":[')
const SOURCE = Buffer.from(',"source":{')
const TRUNCATE = Buffer.from('{"op":"t","before":null,"after":null')
const MESSAGE_END = Buffer.from('"}')
const JSON_NULL = Buffer.from('null')
const EMPTY_KEY = Buffer.from('{}')

function constant(op: string): Buffer {
  return Buffer.from(`{"op":"${op}","before":null,"after":`)
}

const NO_KEY = -1
const NOT_SENT = -2
/** The scratch buffer for one event: grows for a large row, and is given back after it. */
const SCRATCH_BYTES = 256 * 1024

/** A multiple of three, so that parts can be joined. */
const BASE64_PART_BYTES = 3 * 1024 * 1024

/** What the old tuple of an update or delete holds: the key columns, or the whole row. */
export type OldTuple = 'key' | 'full'

export interface LogicalMessage {
  readonly prefix: string
  readonly content: Buffer
}

export class Transcoder {
  readonly #sink: RecordSink
  readonly #record: EncodedRecord
  #out = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
  readonly #stamp = new TransactionStamp()
  /** Where the values of key columns lie in the event just written. */
  readonly #keyStart = new Int32Array(1664)
  readonly #keyEnd = new Int32Array(1664)

  constructor(sink: RecordSink) {
    this.#sink = sink
    this.#record = {
      bytes: this.#out,
      keyStart: NO_KEY,
      keyEnd: NO_KEY,
      valueStart: 0,
      valueEnd: 0,
      timestampMs: 0,
      headers: null,
    }
  }

  /** Ordinal of the next change: how many changes this transaction has published. */
  get ordinal(): number {
    return this.#stamp.ordinal
  }

  begin(transaction: TransactionStart): void {
    this.#stamp.begin(transaction)
  }

  /** Names the replication origin that the transaction at hand came through. */
  origin(name: string): void {
    this.#stamp.origin(name)
  }

  insert(table: CompiledTable, lsnHigh: number, lsnLow: number, row: Tuple): void {
    this.#write(table, BEFORE_NULL_AFTER.c, lsnHigh, lsnLow, row, null)
  }

  /** One row of a snapshot; the transaction that was begun stands for the snapshot. */
  snapshotRow(table: CompiledTable, lsnHigh: number, lsnLow: number, row: Tuple): void {
    this.#write(table, BEFORE_NULL_AFTER.r, lsnHigh, lsnLow, row, null)
  }

  update(table: CompiledTable, lsnHigh: number, lsnLow: number, row: Tuple, old: Tuple | null, kind: OldTuple): void {
    if (old === null) {
      this.#write(table, BEFORE_NULL_AFTER.u, lsnHigh, lsnLow, row, null)
      return
    }
    takeUnchanged(table, row, old, kind)
    if (table.keyColumns.every((column) => sameValue(row, old, column))) {
      this.#writeUpdate(table, lsnHigh, lsnLow, row, old, kind)
      return
    }
    this.#changeKey(table, lsnHigh, lsnLow, row, old, kind)
  }

  /** A changed key is a delete and a tombstone under the old key, then an insert under the new one; each names the other key. */
  #changeKey(table: CompiledTable, high: number, low: number, row: Tuple, old: Tuple, kind: OldTuple): void {
    // Two records must both go in, or neither: what may be refused is tried first.
    if (table.composite) this.#writeRow(table, row, this.#reserve(table.constantBytes + tupleBytes(table, row)), 0)
    const oldKey = this.#keyOf(table, old)
    const newKey = this.#keyOf(table, row)
    this.#writeDelete(table, high, low, old, kind, [{ key: 'evert.newkey', value: newKey }])
    this.#write(table, BEFORE_NULL_AFTER.c, high, low, row, [{ key: 'evert.oldkey', value: oldKey }])
  }

  delete(table: CompiledTable, lsnHigh: number, lsnLow: number, old: Tuple, kind: OldTuple): void {
    this.#writeDelete(table, lsnHigh, lsnLow, old, kind, null)
  }

  /**
   * A truncate goes to every partition of the topic, under one position. Its key is the empty object where the table has a
   * key: a compacted topic refuses a null one.
   */
  truncate(table: CompiledTable, lsnHigh: number, lsnLow: number): void {
    const out = this.#reserve(table.constantBytes)
    let at = writeConstant(TRUNCATE, out, 0)
    at = this.#writeSource(table.source, lsnHigh, lsnLow, out, at)
    const record = this.#event(0, at)
    if (table.keyColumns.length > 0) {
      record.keyStart = at
      record.keyEnd = writeConstant(EMPTY_KEY, out, at)
    }
    this.#sink.appendToAll(table.topic, record)
  }

  /** A record that tells the shape of a table from the next change on; it has no ordinal of its own. */
  schema(topic: SinkTopic, relation: Relation, description: RelationDescription): void {
    const position = { commitLsn: this.#stamp.commitLsn, ordinal: this.#stamp.ordinal }
    const { key, value } = schemaRecord(relation, description, position)
    this.#sink.append(topic, encodedRecord({ key, value, timestampMs: this.#stamp.timestampMs }))
  }

  message(topic: SinkTopic, lsnHigh: number, lsnLow: number, message: LogicalMessage): void {
    const head = `{"op":"m","message":{"prefix":${JSON.stringify(message.prefix)},"content":"`
    const key = `{"prefix":${JSON.stringify(message.prefix)}}`
    const { content } = message
    const out = this.#reserve(2 * Buffer.byteLength(head) + Math.ceil(content.length / 3) * 4 + 1024)
    let at = out.write(head, 0)
    // In parts, for a string cannot be as long as a message.
    for (let from = 0; from < content.length; from += BASE64_PART_BYTES) {
      const part = content.subarray(from, from + BASE64_PART_BYTES)
      at += out.write(part.toString('base64'), at, 'latin1')
    }
    at = writeConstant(MESSAGE_END, out, at)
    at = writeConstant(SOURCE, out, at)
    at = this.#stamp.write(lsnHigh, lsnLow, out, at)
    const record = this.#event(0, at)
    record.keyStart = at
    record.keyEnd = at + out.write(key, at)
    this.#sink.append(topic, record)
  }

  /** Insert, snapshot row, and update without an old tuple: about 0.4 µs for four columns. */
  #write(
    table: CompiledTable,
    head: Buffer,
    high: number,
    low: number,
    row: Tuple,
    headers: readonly RecordHeader[] | null,
  ): void {
    const out = this.#reserve(table.constantBytes + tupleBytes(table, row))
    let at = writeConstant(head, out, 0)
    at = this.#writeRow(table, row, out, at)
    at = this.#writeUnchanged(table, row, out, at)
    at = this.#writeSource(table.source, high, low, out, at)
    const record = this.#event(0, at)
    record.headers = headers
    this.#appendKey(table, record, out, at)
    this.#sink.append(table.topic, record)
  }

  #writeUpdate(table: CompiledTable, high: number, low: number, row: Tuple, old: Tuple, kind: OldTuple): void {
    const out = this.#reserve(table.constantBytes + tupleBytes(table, row) + tupleBytes(table, old))
    let at = writeConstant(BEFORE.u, out, 0)
    at = kind === 'full' ? this.#writeRow(table, old, out, at) : this.#writeKeyColumns(table, old, out, at)
    at = writeConstant(AFTER, out, at)
    at = this.#writeRow(table, row, out, at)
    at = this.#writeUnchanged(table, row, out, at)
    at = this.#writeSource(table.source, high, low, out, at)
    const record = this.#event(0, at)
    this.#appendKey(table, record, out, at)
    this.#sink.append(table.topic, record)
  }

  /** The delete, and a tombstone under the same key for compaction; the tombstone has no ordinal. */
  #writeDelete(
    table: CompiledTable,
    high: number,
    low: number,
    old: Tuple,
    kind: OldTuple,
    headers: readonly RecordHeader[] | null,
  ): void {
    const out = this.#reserve(table.constantBytes + tupleBytes(table, old))
    let at = writeConstant(BEFORE.d, out, 0)
    at = kind === 'full' ? this.#writeRow(table, old, out, at) : this.#writeKeyColumns(table, old, out, at)
    at = writeConstant(AFTER_NULL, out, at)
    at = this.#writeSource(table.source, high, low, out, at)
    const record = this.#event(0, at)
    record.headers = headers
    this.#appendKey(table, record, out, at)
    this.#sink.append(table.topic, record)
    if (record.keyStart === NO_KEY) return
    record.headers = null
    record.valueStart = -1
    record.valueEnd = -1
    this.#sink.append(table.topic, record)
  }

  /** Every column that was sent. The constant comma-and-label loop is what makes the difference between formats. */
  #writeRow(table: CompiledTable, row: Tuple, out: Buffer, at: number): number {
    const { columns } = table
    const from = row.bytes
    let separator = OPEN
    for (let i = 0; i < columns.length; i++) {
      const state = row.state[i]
      const column = columns[i]!
      if (state === UNCHANGED) {
        if (column.key) this.#keyStart[i] = NOT_SENT
        continue
      }
      out[at++] = separator
      separator = COMMA
      at = writeConstant(column.label, out, at)
      if (column.key) this.#keyStart[i] = at
      at =
        state === NULL
          ? writeBytes(JSON_NULL, 0, 4, out, at)
          : writeValue(column.type, from, row.start[i]!, row.end[i]!, out, at)
      if (column.key) this.#keyEnd[i] = at
    }
    if (separator === OPEN) out[at++] = OPEN
    out[at++] = CLOSE
    return at
  }

  /** `before` of a table that sends only its key. */
  #writeKeyColumns(table: CompiledTable, old: Tuple, out: Buffer, at: number): number {
    let separator = OPEN
    for (const i of table.keyColumns) {
      const column = table.columns[i]!
      out[at++] = separator
      separator = COMMA
      at = writeConstant(column.label, out, at)
      this.#keyStart[i] = at
      at =
        old.state[i] === TEXT
          ? writeValue(column.type, old.bytes, old.start[i]!, old.end[i]!, out, at)
          : writeBytes(JSON_NULL, 0, 4, out, at)
      this.#keyEnd[i] = at
    }
    if (separator === OPEN) out[at++] = OPEN
    out[at++] = CLOSE
    return at
  }

  #writeUnchanged(table: CompiledTable, row: Tuple, out: Buffer, at: number): number {
    let first = true
    for (let i = 0; i < table.columns.length; i++) {
      if (row.state[i] !== UNCHANGED) continue
      if (first) at = writeConstant(UNCHANGED_LIST, out, at)
      else out[at++] = COMMA
      first = false
      at = writeConstant(table.columns[i]!.name, out, at)
    }
    if (!first) out[at++] = 0x5d
    return at
  }

  #writeSource(source: Buffer, high: number, low: number, out: Buffer, at: number): number {
    at = writeConstant(SOURCE, out, at)
    at = writeConstant(source, out, at)
    return this.#stamp.write(high, low, out, at)
  }

  /** The key, copied from the values just written: `{"id":1}`. */
  #appendKey(table: CompiledTable, record: EncodedRecord, out: Buffer, at: number): void {
    const { keyColumns } = table
    if (keyColumns.length === 0) return
    record.keyStart = at
    let separator = OPEN
    for (let k = 0; k < keyColumns.length; k++) {
      const i = keyColumns[k]!
      out[at++] = separator
      separator = COMMA
      if (this.#keyStart[i] === NOT_SENT) throw this.#keyNotSent(table)
      at = writeConstant(table.columns[i]!.label, out, at)
      at = writeBytes(out, this.#keyStart[i]!, this.#keyEnd[i]!, out, at)
    }
    out[at++] = CLOSE
    record.keyEnd = at
  }

  /** A key alone, as a copy: for the headers of a key change. */
  #keyOf(table: CompiledTable, row: Tuple): Buffer {
    if (table.keyColumns.some((column) => row.state[column] === UNCHANGED)) throw this.#keyNotSent(table)
    const out = this.#reserve(table.constantBytes + tupleBytes(table, row))
    return Buffer.from(out.subarray(0, this.#writeKeyColumns(table, row, out, 0)))
  }

  #keyNotSent(table: CompiledTable): EvertError {
    const { schema, table: name } = table.relation
    return new EvertError('PROTOCOL', {
      message: `Postgres did not send the key of an updated row of "${schema}"."${name}" in the transaction at ${formatLsn(this.#stamp.commitLsn)}`,
      hint: 'the server needs its newest minor version: early ones of 14 leave out large key values that did not change',
    })
  }

  #event(start: number, end: number): EncodedRecord {
    const record = this.#record
    record.bytes = this.#out
    record.keyStart = NO_KEY
    record.keyEnd = NO_KEY
    record.valueStart = start
    record.valueEnd = end
    record.timestampMs = this.#stamp.timestampMs
    record.headers = null
    return record
  }

  #reserve(bytes: number): Buffer {
    if (bytes > this.#out.length) this.#out = Buffer.allocUnsafeSlow(bytes)
    else if (this.#out.length > SCRATCH_BYTES && bytes <= SCRATCH_BYTES)
      this.#out = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
    return this.#out
  }
}

/** Under REPLICA IDENTITY FULL the old row carries what the new one leaves out; otherwise the old key may. */
function takeUnchanged(table: CompiledTable, row: Tuple, old: Tuple, kind: OldTuple): void {
  for (let i = 0; i < table.columns.length; i++) {
    if (row.state[i] !== UNCHANGED || old.state[i] === UNCHANGED) continue
    if (kind === 'key' && !(table.columns[i]!.key && old.state[i] === TEXT)) continue
    assert(row.bytes === old.bytes, 'old and new row lie in one message')
    row.state[i] = old.state[i]!
    row.start[i] = old.start[i]!
    row.end[i] = old.end[i]!
  }
}

/** An upper bound of what a row's values take, written at most twice: in the row and in the key. */
function tupleBytes(table: CompiledTable, row: Tuple): number {
  let bytes = 0
  for (let i = 0; i < table.columns.length; i++) {
    if (row.state[i] !== TEXT) continue
    const { type, key } = table.columns[i]!
    bytes += (key ? 2 : 1) * valueBytes(type, row.bytes, row.start[i]!, row.end[i]!)
  }
  return bytes
}
