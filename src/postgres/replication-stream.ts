/**
 * Replication stream: START_REPLICATION on a socket of our own, the changes of whole transactions into a sink, and the
 * acknowledgements back. https://www.postgresql.org/docs/current/protocol-replication.html
 *
 * Opening it takes the slot, which is the lock of a pipeline: nothing is read before `changes` is called.
 */
import { type Clock, systemClock, type Timer } from '../base/clock.js'
import { EvertError } from '../base/errors.js'
import { formatLsn, type EndLsn, type Lsn, LSN_ZERO, lsnFromHalves } from '../event/lsn.js'
import type { CopySocket } from './copy-socket.js'
import { Changes, type ChangesOptions } from './changes.js'
import { PgoutputDecoder } from './pgoutput.js'
import { readServerError, replicationError } from './server-error.js'
import { quoteIdentifier, quoteLiteral } from './sql.js'
import { StandbyStatus } from './standby-status.js'

/** What is taken out of the stream at once: records of whole transactions, or a part of a large one. */
export interface Batch<Records> {
  readonly records: Records
  /** Where the last whole transaction ends; null for a part: the log transaction stays open. */
  readonly endLsn: EndLsn | null
  /** The last transaction that the batch holds something of. */
  readonly commitLsn: Lsn
}

export interface StreamOptions {
  readonly slot: string
  readonly publication: string
  /** Of the server, milliseconds; 0 for none. */
  readonly walSenderTimeoutMs: number
  /** Asks the server, on another connection, whether it is still sending to us. Its error is the stream's. */
  readonly isAlive: () => Promise<boolean>
  readonly clock?: Clock
}

export interface BatchLimits {
  /** A log transaction that holds this much is cut where it stands; as much again may fill meanwhile before the socket is paused. */
  readonly bytes: number
  /** How long a transaction may wait for others to share its log transaction; 0 publishes at once. */
  readonly ageMs: number
}

export interface ChangesRequest<Records> extends Omit<ChangesOptions, 'waitFor'> {
  readonly cut: () => Records
  readonly limits: BatchLimits
  /** Ends the iteration before the first transaction that commits at or after it. */
  readonly until?: Lsn
  readonly signal: AbortSignal
}

const COPY_BOTH = 0x57 // W
const COPY_DATA = 0x64 // d
const COPY_DONE = 0x63 // c
const ERROR = 0x45 // E
const READY = 0x5a // Z
const WAL_DATA = 0x77 // w
const KEEPALIVE = 0x6b // k
const COPY_DONE_MESSAGE = Buffer.from([COPY_DONE, 0, 0, 0, 4])
const TERMINATE_MESSAGE = Buffer.from([0x58, 0, 0, 0, 4])

/** How often an idle pipeline moves its slot along, so that a busy server need not keep WAL for it. */
const IDLE_MS = 2000

/**
 * The server answers every status of an idle pipeline. One that is silent for so long has lost the connection, or, before 16, decodes a
 * huge transaction of tables that are not published: it is asked which, on another connection.
 */
const SILENCE_MS = 10_000

/** How long a large transaction that is half in the log may take to come to its end after an abort. */
const FINISH_MS = 5000

interface Deferred {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class ReplicationStream {
  readonly #socket: CopySocket
  readonly #options: StreamOptions
  readonly #clock: Clock
  readonly #decoder: PgoutputDecoder
  readonly #status: StandbyStatus
  #opened: Deferred | null = null
  #ended: Deferred | null = null
  #error: Error | null = null
  #request: ChangesRequest<unknown> | null = null
  #changes: Changes | null = null
  /** Wakes the iteration that waits for a batch. */
  #wake: (() => void) | null = null
  #taken: Batch<unknown> | null = null
  /** The end LSN of the last batch that was taken whole. */
  #takenEnd: EndLsn = LSN_ZERO
  #partial = false
  #idle = false
  #waiting = 0
  #reached = false
  #closing = false
  #firstRecordAtMs = 0
  #timer: Timer | null = null
  #lastReads = 0
  #silentMs = 0

  constructor(socket: CopySocket, connection: Parameters<CopySocket['takeOver']>[0], options: StreamOptions) {
    this.#socket = socket
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#status = new StandbyStatus((message) => socket.write(message), this.#clock)
    this.#decoder = new PgoutputDecoder({
      begin: (high, low, timeUs, xid) => this.#begin(high, low, timeUs, xid),
      commit: (high, low, endHigh, endLow) => this.#commit(high, low, endHigh, endLow),
      origin: (name, lsn) => this.#reader().origin(name, lsn),
      relation: (relation) => this.#reader().relation(relation),
      insert: (oid, high, low, row) => this.#reader().insert(oid, high, low, row),
      update: (oid, high, low, row, old, kind) => this.#reader().update(oid, high, low, row, old, kind),
      delete: (oid, high, low, old, kind) => this.#reader().delete(oid, high, low, old, kind),
      truncate: (oids, high, low) => this.#reader().truncate(oids, high, low),
      message: (message) => this.#reader().message(message),
    })
    socket.takeOver(connection, {
      onMessage: (tag, bytes, start, end) => this.#onMessage(tag, bytes, start, end),
      onRead: () => this.#onRead(),
      onClose: (error) => this.#fail(error),
    })
  }

  /** Takes the slot. Errors: SLOT_ACTIVE where another process has it, SLOT_LOST, PUBLICATION_MISSING, … */
  async open(): Promise<void> {
    const { slot, publication } = this.#options
    const started = new Promise<void>((resolve, reject) => (this.#opened = { resolve, reject }))
    const publications = quoteLiteral(quoteIdentifier(publication))
    this.#socket.query(
      `START_REPLICATION SLOT ${quoteIdentifier(slot)} LOGICAL 0/0 (proto_version '1', publication_names ${publications}, messages 'true')`,
    )
    const late = this.#clock.after(SILENCE_MS, () => this.#fail(lost('the server does not answer')))
    await started.finally(() => late.cancel())
    const period = Math.min(
      this.#options.walSenderTimeoutMs > 0 ? this.#options.walSenderTimeoutMs / 3 : 10_000,
      10_000,
    )
    this.#status.every(period)
    this.#timer = this.#clock.every(IDLE_MS, () => this.#onIdle())
  }

  /** Batches of the stream from `from` on. May be called again after it ended at `until`. */
  async *changes<Records>(request: ChangesRequest<Records>): AsyncGenerator<Batch<Records>> {
    this.#start(request)
    let givenUp = false
    const onAbort = (): void => {
      const late = (): void => {
        givenUp = true
        this.#wake?.()
      }
      this.#clock.after(FINISH_MS, late).unref()
      this.#wake?.()
    }
    request.signal.addEventListener('abort', onAbort)
    try {
      for (;;) {
        // Between log transactions an abort counts at once; one that is half written may still come to its end.
        if (request.signal.aborted && (givenUp || !this.#partial)) return
        this.#take()
        const taken = this.#taken as Batch<Records> | null
        this.#taken = null
        if (taken !== null) {
          yield taken
          continue
        }
        if (this.#error !== null) throw this.#error
        if (this.#reached) return
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        this.#wake = null
      }
    } finally {
      request.signal.removeEventListener('abort', onAbort)
    }
  }

  #start(request: ChangesRequest<unknown>): void {
    this.#request = request
    if (this.#changes === null) {
      this.#takenEnd = request.from
      this.#changes = new Changes({ ...request, waitFor: (promise) => this.#waitFor(promise) })
      // What is in the log already may be acknowledged at once.
      this.#status.acknowledge(request.from)
    }
    this.#reached = false
    if (this.#waiting === 0) this.#socket.release()
  }

  /** Tells Postgres that everything before it is in the log. Exactly the end LSN: one byte more would lose a transaction. */
  acknowledge(endLsn: EndLsn): void {
    this.#status.acknowledge(endLsn)
  }

  get acknowledged(): EndLsn {
    return this.#status.flushed
  }

  /** Leaves the COPY, so that the slot is free at once. Waits no longer than a second for the server's part. */
  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    this.#status.stop()
    this.#timer?.cancel()
    if (this.#error === null) {
      await new Promise<void>((resolve) => {
        const late = this.#clock.after(1000, resolve)
        const done = (): void => {
          late.cancel()
          resolve()
        }
        this.#ended = { resolve: done, reject: done }
        this.#socket.write(COPY_DONE_MESSAGE)
        this.#socket.release()
      })
      this.#socket.write(TERMINATE_MESSAGE)
    }
    this.#socket.destroy()
  }

  #onMessage(tag: number, bytes: Buffer, start: number, end: number): void {
    if (tag === COPY_DATA) {
      if (this.#closing) return
      if (bytes[start] === WAL_DATA) {
        // 'w', start LSN, end LSN, send time: 25 bytes, then the pgoutput message.
        this.#decoder.decode(bytes, start + 25, end, bytes.readUInt32BE(start + 1), bytes.readUInt32BE(start + 5))
      } else if (bytes[start] === KEEPALIVE) this.#keepalive(bytes, start)
      return
    }
    if (tag === COPY_BOTH) {
      // Nothing is decoded before somebody asks for changes.
      this.#socket.hold()
      this.#opened?.resolve()
      this.#opened = null
    } else if (tag === ERROR) {
      this.#fail(replicationError(readServerError(bytes, start, end), this.#options.slot))
    } else if (tag === READY) this.#ended?.resolve()
  }

  /** 'k', end of WAL, send time, whether an answer is wanted at once. */
  #keepalive(bytes: Buffer, start: number): void {
    const walEnd = lsnFromHalves(bytes.readUInt32BE(start + 1), bytes.readUInt32BE(start + 5))
    const changes = this.#reader()
    changes.advance(walEnd)
    const until = this.#request?.until
    if (until !== undefined && walEnd >= until && !changes.inTransaction) this.#reach()
    if (bytes[start + 17] !== 1) return
    this.#status.send()
    this.#idle = true
  }

  #begin(high: number, low: number, timeUs: bigint, xid: number): void {
    this.#reader().begin(high, low, timeUs, xid)
    const until = this.#request?.until
    if (until !== undefined && lsnFromHalves(high, low) >= until) this.#reach()
  }

  #commit(high: number, low: number, endHigh: number, endLow: number): void {
    this.#reader().commit(high, low, endHigh, endLow)
    if (this.#wake !== null) this.#take()
  }

  #reader(): Changes {
    const changes = this.#changes
    if (changes === null) throw new Error('the stream was read before changes() was called')
    return changes
  }

  /** Everything before `until` has been decoded: the stream rests until changes() is called again. */
  #reach(): void {
    this.#reached = true
    this.#socket.hold()
  }

  #waitFor(promise: Promise<void>): void {
    this.#waiting++
    this.#socket.hold()
    promise.then(
      () => {
        this.#waiting--
        if (this.#waiting === 0 && !this.#reached) this.#socket.release()
      },
      (error: Error) => this.#fail(error),
    )
  }

  #onRead(): void {
    const request = this.#request
    if (request === null || this.#changes === null) return
    if (this.#wake !== null) this.#take()
    if (this.#wake !== null && (this.#reached || this.#error !== null)) this.#wake()
    // Postgres feels a log that does not keep up.
    if (this.#wake === null && request.sink.bytes >= request.limits.bytes) this.#socket.pause()
  }

  #onIdle(): void {
    this.#idle = true
    this.#listen()
    this.#status.send(true)
    if (this.#wake !== null) this.#take()
  }

  #listen(): void {
    const { reads, paused } = this.#socket
    this.#silentMs = reads === this.#lastReads && !paused ? this.#silentMs + IDLE_MS : 0
    this.#lastReads = reads
    if (this.#silentMs === 0 || this.#silentMs % SILENCE_MS !== 0) return
    const silent = `the server has been silent for ${this.#silentMs / 1000} s`
    this.#options.isAlive().then(
      (alive) => {
        if (!alive) this.#fail(lost(`${silent}, and no longer sends to this connection`))
      },
      (error: Error) => this.#fail(lost(`${silent}: ${error.message}`)),
    )
  }

  /** Takes a batch where one may end here, and wakes who waits for it. */
  #take(): void {
    const request = this.#request
    const changes = this.#changes
    if (request === null || changes === null || this.#taken !== null || this.#error !== null) return
    const { sink, limits } = request
    const full = sink.bytes >= limits.bytes
    const moved = changes.endLsn > this.#takenEnd
    // Before a transaction's first change, the shapes of its tables alone may fill the sink: then they are a part of it.
    const whole = !changes.midTransaction && (moved || this.#partial || !full)
    if (whole) {
      if (!moved && !this.#partial) return
      if (sink.records === 0 && !this.#partial && !this.#idle && !this.#reached) return
      if (sink.records > 0 && !full && !this.#reached && this.#young(limits.ageMs)) return
    } else if (!full) return
    const endLsn = whole ? changes.endLsn : null
    this.#taken = { records: request.cut(), endLsn, commitLsn: changes.commitLsn }
    if (endLsn !== null) this.#takenEnd = endLsn
    this.#partial = !whole
    this.#idle = false
    this.#firstRecordAtMs = 0
    this.#wake?.()
    if (this.#waiting === 0 && !this.#reached) this.#socket.resume()
  }

  /** True while the oldest record in the sink is younger than the limit; then a timer asks again. */
  #young(ageMs: number): boolean {
    if (ageMs === 0) return false
    const now = this.#clock.elapsedMs()
    if (this.#firstRecordAtMs === 0) {
      this.#firstRecordAtMs = now
      this.#clock.after(ageMs, () => {
        if (this.#wake !== null) this.#take()
      })
      return true
    }
    return now - this.#firstRecordAtMs < ageMs
  }

  #fail(error: Error): void {
    this.#error ??= error
    this.#status.stop()
    this.#timer?.cancel()
    this.#opened?.reject(error)
    this.#opened = null
    this.#ended?.reject(error)
    this.#wake?.()
  }

  /** For log lines. */
  toString(): string {
    return `slot "${this.#options.slot}", acknowledged ${formatLsn(this.#status.flushed)}`
  }
}

function lost(what: string): EvertError {
  return new EvertError('POSTGRES_CONNECTION_LOST', { message: `the connection to Postgres is lost: ${what}` })
}
