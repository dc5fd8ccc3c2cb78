/** Key set: the keys that the log holds rows of, on disk, so that memory does not grow with the table. */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import type { EncodedRecord, RecordSink, SinkTopic } from './event/sink.js'
import type { Log, TopicDescription } from './log/log.js'

/** What a truncate is published under. */
const EVERY_ROW = '{}'
/** The set is changed in transactions of this many. */
const CHANGES_AT_ONCE = 5000
/** In front of the key: the partition and the offset of its last record. */
const PLACE_BYTES = 12

export class KeySet {
  readonly #folder = mkdtempSync(join(tmpdir(), 'evert-keys-'))
  readonly #database: RootDatabase<Buffer, Buffer>
  /** By id; null takes the key out. */
  #changes: { readonly id: Buffer; readonly value: Buffer | null }[] = []
  /** By topic and partition, the offset of the last truncate. */
  readonly #truncated = new Map<string, bigint>()

  constructor() {
    this.#database = open<Buffer, Buffer>({
      path: this.#folder,
      noSubdir: false,
      encoding: 'binary',
      keyEncoding: 'binary',
      noSync: true, // it does not outlive the process
    })
  }

  /** Adds the rows that a topic holds now: keys whose last record is not a tombstone. */
  async addTopic(log: Log, { name, partitions }: TopicDescription, signal: AbortSignal): Promise<void> {
    for (let partition = 0; partition < partitions; partition++) {
      const { earliest, end } = await log.offsets(name, partition)
      const records = log.read({ topic: name, partition, from: earliest, until: end, signal })
      for await (const { key, value, offset } of records) {
        if (key === null) continue
        if (key.toString() === EVERY_ROW) this.#truncated.set(`${name}/${partition}`, offset)
        else this.#change(idOf(name, key), value === null ? null : placed({ partition, offset, key }))
      }
      signal.throwIfAborted()
    }
  }

  /** A sink that takes the key of every record that goes through it out of the set. */
  seenBy(sink: RecordSink): RecordSink {
    return {
      get bytes() {
        return sink.bytes
      },
      get records() {
        return sink.records
      },
      topic: (request) => sink.topic(request),
      append: (topic, record) => {
        this.#seen(topic, record)
        sink.append(topic, record)
      },
      appendToAll: (topic, record) => sink.appendToAll(topic, record),
      skipped: (topic, record) => this.#seen(topic, record),
    }
  }

  /** The keys of a topic that are left, as the set is now. */
  *left(topic: string): Generator<Buffer> {
    this.#flush()
    const { start, end } = rangeOf(topic)
    for (const { value } of this.#database.getRange({ start, end })) {
      // A truncate is in every partition, and counts for the rows that came before it there.
      const truncated = this.#truncated.get(`${topic}/${value.readUInt32BE(0)}`) ?? -1n
      if (value.readBigUInt64BE(4) > truncated) yield Buffer.from(value.subarray(PLACE_BYTES))
    }
  }

  async close(): Promise<void> {
    await this.#database.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #seen(topic: SinkTopic, { bytes, keyStart, keyEnd }: EncodedRecord): void {
    if (keyStart >= 0) this.#change(idOf(topic.name, bytes.subarray(keyStart, keyEnd)), null)
  }

  #change(id: Buffer, value: Buffer | null): void {
    this.#changes.push({ id, value })
    if (this.#changes.length >= CHANGES_AT_ONCE) this.#flush()
  }

  #flush(): void {
    const changes = this.#changes
    this.#changes = []
    this.#database.transactionSync(() => {
      for (const { id, value } of changes) {
        if (value === null) this.#database.removeSync(id)
        else this.#database.putSync(id, value)
      }
    })
  }
}

/** A key may be longer than LMDB takes: its digest stands for it. */
function idOf(topic: string, key: Buffer): Buffer {
  return Buffer.concat([rangeOf(topic).start, createHash('sha256').update(key).digest()])
}

/** The ids of a topic: 16 bytes of its digest, then 32 of the key's. */
function rangeOf(topic: string): { readonly start: Buffer; readonly end: Buffer } {
  const start = createHash('sha256').update(topic).digest().subarray(0, 16)
  return { start, end: Buffer.concat([start, Buffer.alloc(33, 0xff)]) }
}

function placed(of: { readonly partition: number; readonly offset: bigint; readonly key: Buffer }): Buffer {
  const bytes = Buffer.alloc(PLACE_BYTES)
  bytes.writeUInt32BE(of.partition)
  bytes.writeBigUInt64BE(of.offset, 4)
  return Buffer.concat([bytes, of.key])
}
