/** The LMDB environment under an embedded log: opening it, its format version, transactions, and errors that say what to do. http://www.lmdb.tech/doc/ */
import { type RootDatabase, open } from 'lmdb'
import { closeSync, existsSync, openSync, readSync, readdirSync, statSync, statfsSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { assert } from '../../base/assert.js'
import { EvertError } from '../../base/errors.js'
import { FORMAT_KEY } from './keys.js'

const FORMAT = Buffer.from('evert log 1')
const DATA_FILE = 'data.mdb'
/** What a directory for a new log may hold: the lock of a process that opens it too, and what a new file system comes with. */
const HARMLESS_FILES = ['lock.mdb', 'lost+found']

export interface Entry {
  readonly key: Buffer
  readonly value: Buffer
}

export interface RangeOptions {
  readonly start: Buffer
  readonly end: Buffer
  /** Goes from start down to end, which then is the smaller. */
  readonly reverse?: boolean
  readonly limit?: number
}

/** What LMDB says of itself, as far as it is used here. */
interface Stats {
  readonly entryCount: number
  readonly lastTxnId: number
  readonly pageSize: number
  readonly lastPageNumber: number
}

export class Environment {
  readonly directory: string
  readonly #database: RootDatabase<Buffer, Buffer>
  readonly #listeners = new Set<() => void>()
  #isOpen = true

  /** `create` makes the directory where there is none. Errors: LOG_FORMAT, LOG_DISK_FULL. */
  constructor(options: { readonly directory: string; readonly create: boolean }) {
    this.directory = options.directory
    checkDirectory(options.directory, options.create)
    try {
      this.#database = open<Buffer, Buffer>({
        path: options.directory,
        // Otherwise a directory with a dot in its name is taken for a file.
        noSubdir: false,
        encoding: 'binary',
        keyEncoding: 'binary',
        noMemInit: true,
        // A transaction is on the disk when it returns: what is acknowledged afterwards is gone at its source.
        overlappingSync: false,
      })
    } catch (cause) {
      throw notALog(options.directory, `cannot be opened (${reason(cause)})`, cause)
    }
    this.#requireWhole()
    // Processes that were killed while they read hold back the pages they saw.
    this.#database.readerCheck()
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Writes the format version into a new environment and checks that of an old one. Errors: LOG_FORMAT, LOG_DISK_FULL. */
  checkFormat(): void {
    const stored = this.read(() => this.get(FORMAT_KEY))
    if (stored === undefined && this.#stats().entryCount === 0) {
      this.write(() => this.put(FORMAT_KEY, FORMAT))
    } else if (stored === undefined) {
      throw notALog(this.directory, 'is an LMDB environment of another program')
    } else if (!stored.equals(FORMAT)) {
      throw notALog(
        this.directory,
        `has the format "${stored.toString()}", and this version reads "${FORMAT.toString()}"`,
      )
    }
  }

  /** Runs synchronously and sees one state of the log: the latest that any process has committed. */
  read<T>(work: () => T): T {
    assert(this.#isOpen, 'the embedded log is read after it was closed')
    this.#database.resetReadTxn()
    return work()
  }

  /** Runs synchronously in one LMDB transaction; nothing of it stays where `work` throws or the disk is full. Errors: LOG_DISK_FULL. */
  write<T>(work: () => T): T {
    assert(this.#isOpen, 'the embedded log is written after it was closed')
    try {
      const result = this.#database.transactionSync(work)
      for (const listener of this.#listeners) listener()
      return result
    } catch (error) {
      throw this.#isDiskFull(error) ? this.#diskFull(error) : error
    }
  }

  get(key: Buffer): Buffer | undefined {
    return this.#database.get(key)
  }

  put(key: Buffer, value: Buffer): void {
    this.#database.putSync(key, value)
  }

  remove(key: Buffer): void {
    this.#database.removeSync(key)
  }

  /** Entries of a range, the end excluded, taken at once. */
  range(options: RangeOptions): readonly Entry[] {
    return [...this.#database.getRange(options)].map(({ key, value }) => ({ key, value }))
  }

  /** Keys of a range, the end excluded, taken at once. */
  keys(options: RangeOptions): readonly Buffer[] {
    return [...this.#database.getKeys(options)]
  }

  /** Grows by one with every transaction of any process. */
  get lastTransaction(): number {
    return this.#stats().lastTxnId
  }

  /** Calls back after each transaction of this process. Returns how to end that. */
  onWrite(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    await this.#database.close()
  }

  #stats(): Stats {
    return this.#database.getStats() as Stats
  }

  /** LMDB maps the file, and a page that lies behind its end crashes the process. Error: LOG_FORMAT. */
  #requireWhole(): void {
    const { pageSize, lastPageNumber, entryCount } = this.#stats()
    const bytes = statSync(join(this.directory, DATA_FILE)).size
    const least = (lastPageNumber + 1) * pageSize
    if (entryCount === 0 || bytes >= least) return
    void this.#database.close()
    throw new EvertError('LOG_FORMAT', {
      message: `the log "${this.directory}" is cut short: its ${DATA_FILE} has ${bytes} bytes of at least ${least}`,
      hint: 'restore the file from a copy; or name a new directory (--log): evert run --on-loss resnapshot then publishes all rows',
    })
  }

  /**
   * LMDB grows its map by itself, so only the disk, a quota or a limit of file sizes ends it. A write that the disk takes in part
   * is an I/O error to LMDB, which is what a full disk looks like more often than not.
   */
  #isDiskFull(error: unknown): boolean {
    const { EDQUOT, EFBIG, EIO, ENOSPC } = constants.errno
    const MDB_MAP_FULL = -30792
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    return [EDQUOT, EFBIG, EIO, ENOSPC, MDB_MAP_FULL].some((full) => full === code)
  }

  #diskFull(cause: unknown): EvertError {
    const { bavail, bsize } = statfsSync(this.directory)
    const free = Math.floor((bavail * bsize) / 1_048_576)
    return new EvertError('LOG_DISK_FULL', {
      message: `the log "${this.directory}" cannot grow: ${reason(cause)}, with ${free} MiB free on its disk; what was being written is not in the log`,
      hint: `df -h ${this.directory}; make room (or raise a quota, or "ulimit -f") and start again`,
      cause,
    })
  }
}

/** LMDB crashes the process on a file that is not its own, and would put its files into any directory: both are looked at first. */
function checkDirectory(directory: string, create: boolean): void {
  if (!existsSync(directory)) {
    if (!create) throw notALog(directory, 'does not exist')
    return
  }
  if (!statSync(directory).isDirectory()) throw notALog(directory, 'is not a directory')
  const dataFile = join(directory, DATA_FILE)
  if (!existsSync(dataFile)) {
    const foreign = readdirSync(directory).some((name) => !HARMLESS_FILES.includes(name))
    if (!create || foreign) throw notALog(directory, `holds no ${DATA_FILE}`)
    return
  }
  const bytes = statSync(dataFile).size
  if (bytes > 0 && !hasMagic(dataFile)) throw notALog(directory, `holds a ${DATA_FILE} that is not LMDB's`)
}

/** The meta page of LMDB as lmdb-js builds it: a page header of 24 bytes, then the magic number in the machine's byte order. */
function hasMagic(file: string): boolean {
  const bytes = new Uint32Array(1)
  const descriptor = openSync(file, 'r')
  try {
    readSync(descriptor, bytes, 0, 4, 24)
  } finally {
    closeSync(descriptor)
  }
  return bytes[0] === 0xbeefc0de
}

function notALog(directory: string, what: string, cause?: unknown): EvertError {
  return new EvertError('LOG_FORMAT', {
    message: `"${directory}" is not a log: it ${what}`,
    hint: 'name an empty or new directory, or one that evert has written',
    cause,
  })
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
