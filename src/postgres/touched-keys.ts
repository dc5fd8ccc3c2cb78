/**
 * Touched keys: which rows of one table the stream has just published, and by which transaction. A row that was read under a snapshot
 * which does not see that transaction is older than what the log has, and must not follow it.
 */
import type { EncodedRecord, RecordSink, Room, SinkTopic, TopicRequest } from '../event/sink.js'
import type { Visibility } from './visibility.js'

/** More than these are not remembered: what was read meanwhile is read again. */
const KEYS = 50_000

/** Stands before the sink of the stream; about 5 ns a record while no table is watched. */
export class TouchedKeys implements RecordSink {
  readonly #sink: RecordSink
  #topic: string | null = null
  #xid = 0
  readonly #keys = new Map<string, number>()
  #truncatedBy: number | null = null
  #flooded = false

  constructor(sink: RecordSink) {
    this.#sink = sink
  }

  get bytes(): number {
    return this.#sink.bytes
  }

  get records(): number {
    return this.#sink.records
  }

  /** From now on the keys of one topic; of none for null. */
  watch(topic: string | null): void {
    this.#topic = topic
    this.#keys.clear()
    this.#truncatedBy = null
    this.#flooded = false
  }

  /** True where there were more than can be remembered. */
  get flooded(): boolean {
    return this.#flooded
  }

  begin(xid: number): void {
    this.#xid = xid
  }

  /** Whether the stream has published something newer than a row with that key, read under that snapshot. */
  isNewer(record: EncodedRecord, snapshot: Visibility): boolean {
    if (this.#truncatedBy !== null && !snapshot.sees(this.#truncatedBy)) return true
    const xid = this.#keys.get(keyOf(record))
    return xid !== undefined && !snapshot.sees(xid)
  }

  /** What that snapshot sees, every later one sees too. */
  forget(snapshot: Visibility): void {
    for (const [key, xid] of this.#keys) if (snapshot.sees(xid)) this.#keys.delete(key)
    if (this.#truncatedBy !== null && snapshot.sees(this.#truncatedBy)) this.#truncatedBy = null
  }

  topic(request: TopicRequest): SinkTopic | Promise<SinkTopic> {
    return this.#sink.topic(request)
  }

  append(topic: SinkTopic, record: EncodedRecord): void {
    if (this.#topic !== null) this.#touch(topic, record)
    this.#sink.append(topic, record)
  }

  appendToAll(topic: SinkTopic, record: EncodedRecord): void {
    if (topic.name === this.#topic) this.#truncatedBy = this.#xid
    this.#sink.appendToAll(topic, record)
  }

  /** One that is not closed in the end, because it is too large for its topic, is newer than what was read all the same. */
  open(topic: SinkTopic, record: EncodedRecord, valueBytes: number): Room | null {
    if (this.#topic !== null) this.#touch(topic, record)
    return this.#sink.open(topic, record, valueBytes)
  }

  close(valueEnd: number): void {
    this.#sink.close(valueEnd)
  }

  #touch(topic: SinkTopic, record: EncodedRecord): void {
    if (topic.name !== this.#topic || record.keyStart < 0 || this.#flooded) return
    this.#keys.set(keyOf(record), this.#xid)
    if (this.#keys.size <= KEYS) return
    this.#flooded = true
    this.#keys.clear()
  }
}

function keyOf({ bytes, keyStart, keyEnd }: EncodedRecord): string {
  return bytes.toString('latin1', keyStart, keyEnd)
}
