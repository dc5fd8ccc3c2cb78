/**
 * Transcoder: from text tuples to the bytes of events, in the envelope of the format, without an object that outlives its row. It knows the
 * transaction at hand, counts its ordinals, and gives each record to the sink.
 *
 *   {"op":"u","before":null,"after":{…},"unchanged":["notes"],"source":{"schema","table","txId","lsn","ts_us","position"}}
 */
import { assert } from '../base/assert.js'
import { dropped } from '../base/dropped.js'
import { EvertError } from '../base/errors.js'
import { formatLsn, LSN_ZERO } from './lsn.js'
import { JSON_NULL, writeBytes, writeConstant } from './json.js'
import type { Envelope, Operation, Origin } from './envelope.js'
import { PlainHeaders } from './plain-headers.js'
import type { Position } from './position.js'
import { encodedRecord, keyAndHeadersBytes } from './record.js'
import type { Relation } from './relation.js'
import {
  EVENT_BYTES,
  keyBytes,
  makeRoom,
  omitLargest,
  type OldTuple,
  rowsBytes,
  takeUnchanged,
  tupleBytes,
} from './row.js'
import { RowWriter } from './row-writer.js'
import { schemaRecord } from './schema-record.js'
import type { EncodedRecord, RecordHeader, RecordSink, Room, SinkTopic } from './sink.js'
import type { CompiledTable } from './table.js'
import { type TransactionStart, TransactionStamp } from './transaction-stamp.js'
import { sameValue, type Tuple } from './tuple.js'

const MESSAGE = Buffer.from(',"message":')
const EMPTY_KEY = Buffer.from('{}')
const NO_KEY = -1
/** The scratch buffer for keys and messages: grows for a large one, and is given back after it. */
const SCRATCH_BYTES = 256 * 1024
/** A multiple of three, so that parts can be joined. */
const BASE64_PART_BYTES = 3 * 1024 * 1024

/** What becomes of a record that is larger than its topic takes, where that is known beforehand. */
export interface LargeValues {
  /** True to leave out its largest values, and name them; false to skip it. */
  readonly omit: boolean
  /** Told of each record that is skipped. */
  readonly onSkip: (record: { readonly table: Relation; readonly bytes: number; readonly position: Position }) => void
}

export interface LogicalMessage {
  readonly prefix: string
  readonly content: Buffer
}

export class Transcoder {
  readonly #sink: RecordSink
  readonly #envelope: Envelope
  readonly #largeValues: LargeValues
  /** The record at hand. */
  readonly #record = encodedRecord({ key: EMPTY_KEY, value: EMPTY_KEY, timestampMs: 0 })
  #out = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
  /** What was asked for the value at hand: where the buffer ends, bytes beyond it may be lost without a word. */
  #reserved = 0
  readonly #stamp: TransactionStamp
  /** Where the event is the row alone. */
  readonly #plainHeaders: PlainHeaders | null
  readonly #rows = new RowWriter()

  /** `after` is the LSN that the transactions before the first one ended at. */
  constructor(sink: RecordSink, envelope: Envelope, largeValues: LargeValues, after = LSN_ZERO) {
    this.#sink = sink
    this.#largeValues = largeValues
    this.#envelope = envelope
    this.#stamp = new TransactionStamp(envelope, after)
    this.#plainHeaders = envelope.name === 'plain' ? new PlainHeaders(this.#stamp) : null
  }

  /** Ordinal of the next change: how many changes this transaction has published. It is set back for one of which nothing was appended. */
  get ordinal(): number {
    return this.#stamp.ordinal
  }

  set ordinal(ordinal: number) {
    this.#stamp.ordinal = ordinal
  }

  begin(transaction: TransactionStart): void {
    this.#stamp.begin(transaction)
    this.#plainHeaders?.begin(null)
  }

  /** Names the replication origin that the transaction at hand came through. */
  origin(origin: Origin): void {
    this.#stamp.origin(origin)
    this.#plainHeaders?.begin(origin.name)
  }

  insert(table: CompiledTable, lsnHigh: number, lsnLow: number, row: Tuple): void {
    this.#write(table, 'c', lsnHigh, lsnLow, row, null)
  }

  /** One row of a snapshot; the transaction that was begun stands for the snapshot. */
  snapshotRow(table: CompiledTable, lsnHigh: number, lsnLow: number, row: Tuple): void {
    this.#write(table, 'r', lsnHigh, lsnLow, row, null)
  }

  update(table: CompiledTable, lsnHigh: number, lsnLow: number, row: Tuple, old: Tuple | null, kind: OldTuple): void {
    if (old === null) {
      this.#write(table, 'u', lsnHigh, lsnLow, row, null)
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
    if (table.composite) this.#rows.writeRow(table, row, this.#reserve(table.constantBytes + tupleBytes(table, row)), 0)
    const names = this.#envelope.keyHeaders
    const oldKey = { key: names.old, value: this.#keyOf(table, old) }
    const newKey = { key: names.new, value: this.#keyOf(table, row) }
    this.#writeDelete(table, high, low, old, kind, newKey)
    this.#write(table, 'c', high, low, row, oldKey)
  }

  delete(table: CompiledTable, lsnHigh: number, lsnLow: number, old: Tuple, kind: OldTuple): void {
    this.#writeDelete(table, lsnHigh, lsnLow, old, kind, null)
  }

  /**
   * A truncate goes to every partition of the topic, under one position. Its key is the empty object where the table has a
   * key: a compacted topic refuses a null one.
   */
  truncate(table: CompiledTable, lsnHigh: number, lsnLow: number): void {
    const out = this.#reserve(this.#bound(table.constantBytes))
    const { heads } = table
    const record = this.#event(this.#headers('t', null, null, null))
    let at = 0
    if (heads !== null) {
      at = writeConstant(heads.t.withoutBefore, out, at)
      at = writeBytes(JSON_NULL, 0, 4, out, at)
      at = this.#stamp.write(table.source, lsnHigh, lsnLow, out, at)
      record.valueStart = 0
      record.valueEnd = at
    }
    if (table.keyColumns.length > 0) {
      record.keyStart = at
      record.keyEnd = writeConstant(EMPTY_KEY, out, at)
    }
    this.#sink.appendToAll(table.topic, record)
  }

  /** A record that tells the shape of a table from the next change on; it has no ordinal of its own. */
  schema(topic: SinkTopic, relation: Relation, description: Parameters<typeof schemaRecord>[1]): void {
    const position = { commitLsn: this.#stamp.commitLsn, ordinal: this.#stamp.ordinal }
    const { key, value } = schemaRecord(relation, description, position)
    this.#sink.append(topic, encodedRecord({ key, value, timestampMs: this.#stamp.timestampMs }))
  }

  message(topic: SinkTopic, lsnHigh: number, lsnLow: number, message: LogicalMessage): void {
    const prefix = JSON.stringify(message.prefix)
    const key = `{"prefix":${prefix}}`
    const head = this.#envelope.head('m', null)
    const source = this.#envelope.source(null)
    const { content } = message
    const bytes = this.#bound(Math.ceil(content.length / 3) * 4 + 3 * Buffer.byteLength(key) + 4096)
    const out = this.#reserve(bytes)
    let at = 0
    if (head !== null) at = writeConstant(MESSAGE, out, out.write(head, 0))
    at += out.write(`{"prefix":${prefix},"content":"`, at)
    // In parts, for a string cannot be as long as a message.
    for (let from = 0; from < content.length; from += BASE64_PART_BYTES) {
      const part = content.subarray(from, from + BASE64_PART_BYTES)
      at += out.write(part.toString('base64'), at, 'latin1')
    }
    at += out.write('"}', at)
    if (head !== null) at = this.#stamp.write(Buffer.from(source), lsnHigh, lsnLow, out, at)
    const record = this.#event(this.#headers('m', null, null, null))
    record.valueStart = 0
    record.valueEnd = record.keyStart = at
    record.keyEnd = at + out.write(key, at)
    assert(record.keyEnd <= bytes, 'a message is larger than was reckoned')
    this.#sink.append(topic, record)
  }

  /** Insert, snapshot row, and update without an old tuple: about 0.4 µs for four columns. */
  #write(
    table: CompiledTable,
    operation: 'c' | 'u' | 'r',
    high: number,
    low: number,
    row: Tuple,
    keyHeader: RecordHeader | null,
  ): void {
    const room = this.#open(table, operation, row, null, keyHeader)
    if (room === null) return
    const { bytes: out } = room
    const { heads } = table
    let at = heads === null ? room.start : writeConstant(heads[operation].withoutBefore, out, room.start)
    at = this.#rows.writeRow(table, row, out, at)
    if (heads !== null) {
      at = this.#rows.writeAbsent(table, row, null, out, at)
      at = this.#stamp.write(table.source, high, low, out, at)
    }
    if (!this.#close(table, room.start, at, row, null)) this.#write(table, operation, high, low, row, keyHeader)
  }

  #writeUpdate(table: CompiledTable, high: number, low: number, row: Tuple, old: Tuple, kind: OldTuple): void {
    const { heads } = table
    if (heads === null) {
      this.#write(table, 'u', high, low, row, null)
      return
    }
    const room = this.#open(table, 'u', row, old, null)
    if (room === null) return
    const { bytes: out } = room
    let at = writeConstant(heads.u.before, out, room.start)
    at = this.#writeOld(table, old, kind, out, at)
    at = writeConstant(heads.u.between, out, at)
    at = this.#rows.writeRow(table, row, out, at)
    at = this.#rows.writeAbsent(table, row, old, out, at)
    at = this.#stamp.write(table.source, high, low, out, at)
    if (!this.#close(table, room.start, at, row, old)) this.#writeUpdate(table, high, low, row, old, kind)
  }

  /** The delete, and a tombstone under the same key for compaction, which has no ordinal; of the row alone, the tombstone is the delete. */
  #writeDelete(
    table: CompiledTable,
    high: number,
    low: number,
    old: Tuple,
    kind: OldTuple,
    keyHeader: RecordHeader | null,
  ): void {
    const { heads } = table
    if (heads === null) {
      this.#sink.append(table.topic, this.#keyed(table, old, this.#headers('d', null, null, keyHeader)))
      return
    }
    const room = this.#open(table, 'd', old, null, keyHeader)
    if (room === null) return
    const { bytes: out } = room
    let at = writeConstant(heads.d.before, out, room.start)
    at = this.#writeOld(table, old, kind, out, at)
    at = writeConstant(heads.d.between, out, at)
    at = writeBytes(JSON_NULL, 0, 4, out, at)
    if (kind === 'full') at = this.#rows.writeAbsent(table, old, null, out, at)
    at = this.#stamp.write(table.source, high, low, out, at)
    if (!this.#close(table, room.start, at, old, null)) this.#writeDelete(table, high, low, old, kind, keyHeader)
    else this.#tombstone(table)
  }

  /** A delete of which only the key is known, as an earlier event had it. */
  deleteKey(table: CompiledTable, high: number, low: number, key: Buffer): void {
    const { heads } = table
    const record = this.#event(this.#headers('d', null, null, null))
    record.bytes = key
    record.keyStart = 0
    record.keyEnd = key.length
    if (heads === null) {
      this.#sink.append(table.topic, record)
      return
    }
    const room = this.#sink.open(table.topic, record, this.#bound(table.constantBytes + key.length))
    if (room === null) return
    const { bytes: out } = room
    let at = writeConstant(heads.d.before, out, room.start)
    at += key.copy(out, at)
    at = writeConstant(heads.d.between, out, at)
    at = writeBytes(JSON_NULL, 0, 4, out, at)
    at = this.#stamp.write(table.source, high, low, out, at)
    this.#sink.close(at)
    this.#tombstone(table)
  }

  /** Under the key of the record at hand. */
  #tombstone(table: CompiledTable): void {
    const record = this.#record
    if (record.keyStart === NO_KEY) return
    record.headers = null
    this.#sink.append(table.topic, record)
  }

  /** A record with the key of a row, and room for its value. */
  #open(
    table: CompiledTable,
    operation: Operation,
    row: Tuple,
    old: Tuple | null,
    keyHeader: RecordHeader | null,
  ): Readonly<Room> | null {
    const rowBytes = rowsBytes(table, row, old, this.#largeValues.omit)
    const record = this.#keyed(table, row, this.#headers(operation, table, row, keyHeader))
    const bytes = this.#bound(table.constantBytes + rowBytes)
    // A delete whose key changes is followed by an insert out of the same buffer.
    if (row.given && (operation !== 'd' || keyHeader === null))
      record.into = makeRoom(table, row, old, rowBytes, bytes + keyAndHeadersBytes(record))
    const room = this.#sink.open(table.topic, record, bytes)
    record.into = null
    return room
  }

  #keyed(table: CompiledTable, row: Tuple, headers: readonly RecordHeader[] | null): EncodedRecord {
    const record = this.#event(headers)
    if (table.keyColumns.length === 0) return record
    const out = this.#reserve(table.constantBytes + keyBytes(table, row))
    record.bytes = out
    record.keyStart = 0
    record.keyEnd = this.#rows.writeKey(table, row, out, 0)
    return record
  }

  /**
   * Appends the record at hand; false where it is too large for its topic, and is to be written again without its largest value. One that is
   * to be skipped, or has nothing that can be left out, is told of.
   */
  #close(table: CompiledTable, start: number, end: number, row: Tuple, old: Tuple | null): boolean {
    assert(end - start <= this.#reserved, 'an event is larger than was reckoned')
    const bytes = table.maxRecordBytes === Infinity ? 0 : end - start + keyAndHeadersBytes(this.#record)
    if (bytes <= table.maxRecordBytes) {
      this.#sink.close(end)
      return true
    }
    if (!this.#largeValues.omit || !omitLargest(table, row, old, bytes - table.maxRecordBytes)) {
      const position = { commitLsn: this.#stamp.commitLsn, ordinal: this.#stamp.ordinal - 1 }
      this.#largeValues.onSkip({ table: table.relation, bytes, position })
      return true
    }
    this.#stamp.ordinal--
    return false
  }

  /** Null for most. Where the event is the row alone, they hold what the envelope would, and the next ordinal. */
  #headers(
    operation: Operation,
    table: CompiledTable | null,
    row: Tuple | null,
    keyHeader: RecordHeader | null,
  ): readonly RecordHeader[] | null {
    const plain = this.#plainHeaders
    if (plain !== null) return plain.of(operation, table === null || row === null ? null : { table, row }, keyHeader)
    const { headers } = this.#envelope
    return keyHeader === null ? headers : [...(headers ?? []), keyHeader]
  }

  /** `before`: what Postgres sent of the old row. */
  #writeOld(table: CompiledTable, old: Tuple, kind: OldTuple, out: Buffer, at: number): number {
    return kind === 'full' ? this.#rows.writeRow(table, old, out, at) : this.#rows.writeKey(table, old, out, at)
  }

  /** A key alone, as a copy: for the headers of a key change. */
  #keyOf(table: CompiledTable, row: Tuple): Buffer {
    const { bytes, keyEnd } = this.#keyed(table, row, null)
    return Buffer.from(bytes.subarray(0, keyEnd))
  }

  /** A record of this transaction, with nothing in it. */
  #event(headers: readonly RecordHeader[] | null): EncodedRecord {
    const record = this.#record
    record.bytes = this.#out
    record.keyStart = NO_KEY
    record.keyEnd = NO_KEY
    record.valueStart = -1
    record.valueEnd = -1
    record.timestampMs = this.#stamp.timestampMs
    record.headers = headers
    return record
  }

  #beyondKafka(bytes: number): EvertError {
    return new EvertError('RECORD_TOO_LARGE', {
      message: `a change in the transaction at ${formatLsn(this.#stamp.commitLsn)} may take ${bytes} bytes; a record batch holds no more than ${EVENT_BYTES}`,
      hint: 'leave the column out of the publication: alter publication … set table … (…)',
    })
  }

  /** What a value of that many bytes and the stamp take at most. */
  #bound(rowBytes: number): number {
    const bytes = rowBytes + this.#stamp.bytes
    if (bytes > EVENT_BYTES) throw this.#beyondKafka(bytes)
    this.#reserved = bytes
    return bytes
  }

  /** A buffer of so many bytes, for what is not written in place. */
  #reserve(bytes: number): Buffer {
    if (bytes > EVENT_BYTES) throw this.#beyondKafka(bytes)
    if (bytes > this.#out.length || (this.#out.length > SCRATCH_BYTES && bytes <= SCRATCH_BYTES)) {
      dropped(this.#out)
      this.#out = Buffer.allocUnsafeSlow(Math.max(bytes, SCRATCH_BYTES))
    }
    return this.#out
  }
}
