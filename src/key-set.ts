/** Key set: keys of rows on which the log and a table differ, on disk, so that memory does not grow with them. */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { unwritable } from './spill-file.js'

/** Keys are added in transactions of this many. */
const KEYS_AT_ONCE = 5000
/** LMDB maps its file before the room for it is there, and where that never comes, the process dies without a word. */
const LEAST_ROOM_BYTES = 64 * 1024 ** 2

interface Entry {
  readonly id: Buffer
  readonly value: Buffer
}

export class KeySet {
  readonly #folder: string
  readonly #database: RootDatabase<Buffer, Buffer>
  #added: Entry[] = []

  /** Error: OUTPUT_FAILED. */
  constructor() {
    try {
      requireRoom()
      this.#folder = mkdtempSync(join(tmpdir(), 'evert-keys-'))
      this.#database = open<Buffer, Buffer>({
        path: this.#folder,
        noSubdir: false,
        encoding: 'binary',
        keyEncoding: 'binary',
        noSync: true, // it does not outlive the process
      })
      // From here on only this process has it, where the system allows that: however it ends, nothing stays.
      remove(this.#folder)
    } catch (error) {
      throw unwritable(error)
    }
  }

  add(table: number, key: Buffer): void {
    this.#added.push({ id: idOf(table, key), value: Buffer.from(key) })
    if (this.#added.length >= KEYS_AT_ONCE) this.#flush()
  }

  has(table: number, key: Buffer): boolean {
    this.#flush()
    return this.#database.doesExist(idOf(table, key))
  }

  *of(table: number): Generator<Buffer> {
    this.#flush()
    const range = { start: startOf(table), end: startOf(table + 1) }
    for (const { value } of this.#database.getRange(range)) yield Buffer.from(value)
  }

  async close(): Promise<void> {
    await this.#database.close()
    remove(this.#folder)
  }

  #flush(): void {
    if (this.#added.length === 0) return
    const added = this.#added
    this.#added = []
    try {
      requireRoom()
      this.#database.transactionSync(() => {
        for (const { id, value } of added) this.#database.putSync(id, value)
      })
    } catch (error) {
      throw unwritable(error)
    }
  }
}

function remove(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true })
  } catch {
    // Something that is open is not removed everywhere.
  }
}

function requireRoom(): void {
  const { bavail, bsize } = statfsSync(tmpdir())
  if (bavail * bsize < LEAST_ROOM_BYTES) throw new Error(`less than ${LEAST_ROOM_BYTES} bytes are free`)
}

/** A key may be longer than LMDB takes: its digest stands for it. */
function idOf(table: number, key: Buffer): Buffer {
  return Buffer.concat([startOf(table), createHash('sha256').update(key).digest()])
}

function startOf(table: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(table)
  return bytes
}
