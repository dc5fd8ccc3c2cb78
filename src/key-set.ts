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
/** In front of the key: the partition that it was read from. */
const PARTITION_BYTES = 4

export class KeySet {
  readonly #folder = mkdtempSync(join(tmpdir(), 'evert-keys-'))
  readonly #database: RootDatabase<Buffer, Buffer>
  /** By id; null takes the key out. */
  #changes: { readonly id: Buffer; readonly value: Buffer | null }[] = []

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
      for await (const { key, value } of log.read({ topic: name, partition, from: earliest, until: end, signal })) {
        if (key === null) continue
        if (key.toString() === EVERY_ROW) this.#truncate(name, partition)
        else this.#change(idOf(name, key), value === null ? null : withPartition(partition, key))
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
    }
  }

  /** The keys of a topic that are left, as the set is now. */
  *left(topic: string): Generator<Buffer> {
    this.#flush()
    const { start, end } = rangeOf(topic)
    for (const { value } of this.#database.getRange({ start, end })) yield Buffer.from(value.subarray(PARTITION_BYTES))
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

  /** A truncate is in every partition, and counts for the rows that came before it there. */
  #truncate(topic: string, partition: number): void {
    this.#flush()
    const { start, end } = rangeOf(topic)
    for (const { key, value } of this.#database.getRange({ start, end })) {
      if (value.readUInt32BE(0) === partition) this.#change(Buffer.from(key), null)
    }
    this.#flush()
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

function withPartition(partition: number, key: Buffer): Buffer {
  const bytes = Buffer.alloc(PARTITION_BYTES)
  bytes.writeUInt32BE(partition)
  return Buffer.concat([bytes, key])
}
