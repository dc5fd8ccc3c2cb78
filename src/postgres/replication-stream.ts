/**
 * Replication stream: START_REPLICATION on a socket of our own, the changes of whole transactions into a sink, and the
 * acknowledgements back. https://www.postgresql.org/docs/current/protocol-replication.html
 *
 * Opening it takes the slot, which is the lock of a pipeline: nothing is read before `changes` is called.
 */
import { type Clock, systemClock, type Timer } from '../base/clock.js'
import { type EndLsn, LSN_ZERO, lsnFromHalves, readLsn } from '../event/lsn.js'
import type { CopySocket } from './copy-socket.js'
import type { Batch, ChangesRequest } from './batch.js'
import { type Bystander, Changes } from './changes.js'
import { uint32 } from './framer.js'
import { Linger } from './linger.js'
import { PgoutputDecoder } from './pgoutput.js'
import { readServerError, replicationError } from './server-error.js'
import { lost, Silence, SILENCE_MS } from './silence.js'
import { quoteIdentifier, quoteLiteral } from './sql.js'
import { StandbyStatus } from './standby-status.js'

export interface StreamOptions {
  readonly slot: string
  readonly publication: string
  /** Of the server, milliseconds; 0 for none. */
  readonly walSenderTimeoutMs: number
  /** Asks the server, on another connection, whether it is still sending to us. Its error is the stream's. */
  readonly isAlive: () => Promise<boolean>
  readonly clock?: Clock
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

/** How long a large transaction that is half in the log may take to come to its end after an abort. */
const FINISH_MS = 5000

type Deferred = { readonly resolve: () => void; readonly reject: (error: Error) => void }

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
  /** Something was published, or is to be remembered, beside the stream. */
  #published = false
  #partial = false
  /** What the sink held of others when the transaction at hand began. */
  #heldAtBegin = 0
  /** It was full, and nothing was taken since: what is written meanwhile does not make that undone. */
  #resting = false
  /** What comes in parts, beside the stream, is not at its end. */
  #parting = false
  /** Tells who waits for it that a batch was taken. */
  #onTaken: () => void = () => undefined
  #idle = false
  #waiting = 0
  #reached = false
  #closing = false
  readonly #linger: Linger
  #timer: Timer | null = null
  readonly #silence: Silence

  constructor(socket: CopySocket, options: StreamOptions) {
    this.#socket = socket
    this.#silence = new Silence(socket, { isAlive: options.isAlive, onLost: (error) => this.#fail(error) })
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#status = new StandbyStatus((message) => socket.write(message), this.#clock)
    this.#linger = new Linger(this.#clock, () => {
      if (this.#wake !== null) this.#take()
    })
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
    socket.takeOver({
      onMessage: (tag, bytes, start, end) => this.#onMessage(tag, bytes, start, end),
      onRead: () => this.#onRead(),
      onClose: (error) => this.#fail(error),
    })
  }

  /** Takes the slot. Errors: SLOT_ACTIVE where another process has it, SLOT_LOST, PUBLICATION_MISSING, … */
  async open(): Promise<void> {
    const { slot, publication, walSenderTimeoutMs } = this.#options
    const started = new Promise<void>((resolve, reject) => (this.#opened = { resolve, reject }))
    const publications = quoteLiteral(quoteIdentifier(publication))
    this.#socket.query(
      `START_REPLICATION SLOT ${quoteIdentifier(slot)} LOGICAL 0/0 (proto_version '1', publication_names ${publications}, messages 'true')`,
    )
    const late = this.#clock.after(SILENCE_MS, () => this.#fail(lost('the server does not answer')))
    await started.finally(() => late.cancel())
    this.#status.every(walSenderTimeoutMs > 0 ? Math.min(walSenderTimeoutMs / 3, 10_000) : 10_000)
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
        if (request.signal.aborted && (givenUp || this.#parting || !this.#partial)) return
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
    this.#linger.stop()
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
        this.#socket.resume()
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
        this.#decoder.decode(bytes, start + 25, end, uint32(bytes, start + 1), uint32(bytes, start + 5))
      } else if (bytes[start] === KEEPALIVE) this.#keepalive(bytes, start)
      if (this.#request !== null) this.#restWhenFull(this.#request)
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
    const walEnd = readLsn(bytes, start + 1)
    const changes = this.#reader()
    changes.advance(walEnd)
    this.#between()
    const until = this.#request?.until
    if (until !== undefined && walEnd >= until && !changes.inTransaction) this.#reach()
    if (bytes[start + 17] !== 1) return
    this.#status.send()
    this.#idle = true
  }

  #begin(high: number, low: number, timeUs: bigint, xid: number): void {
    this.#reader().begin(high, low, timeUs, xid)
    const { until, bystander, sink } = this.#request ?? {}
    this.#heldAtBegin = sink?.bytes ?? 0
    if (until !== undefined && lsnFromHalves(high, low) >= until) this.#reach()
    const stop = bystander?.stop ?? null
    if (stop !== null && lsnFromHalves(high, low) >= stop) this.#stopFor(bystander!)
  }

  #commit(high: number, low: number, endHigh: number, endLow: number): void {
    this.#reader().commit(high, low, endHigh, endLow)
    this.#between()
    if (this.#wake !== null) this.#take()
  }

  /** Between two transactions somebody else may publish something. */
  #between(): void {
    const changes = this.#reader()
    const bystander = this.#request?.bystander
    if (bystander === undefined || changes.inTransaction || this.#waiting > 0) return
    const published = bystander.between(changes.endLsn)
    if (published === true) this.#published = true
    else if (published !== false) this.#waitFor(published.then(() => void (this.#published = true)))
    if (bystander.stop !== null && changes.endLsn >= bystander.stop) this.#stopFor(bystander)
  }

  /** What comes in parts is a log transaction of its own, behind what the sink holds. */
  #stopFor(bystander: Bystander): void {
    const handOn = async (): Promise<void> => {
      const parts = await bystander.stopped()
      if (parts === null) return
      this.#published = true
      await this.#takenWhile(() => this.#published || this.#partial || sink.records > 0)
      this.#parting = true
      for await (const _ of parts) await this.#takenWhile(() => sink.bytes >= limits.bytes)
      this.#parting = false
      this.#published = true
      await this.#takenWhile(() => this.#published)
    }
    const { sink, limits, signal } = this.#request!
    // After an abort it is left as it is, and nothing of it commits.
    this.#waitFor(handOn().catch((error: unknown) => (signal.aborted ? undefined : Promise.reject(error as Error))))
  }

  async #takenWhile(is: () => boolean): Promise<void> {
    while (is()) {
      const taken = new Promise<void>((resolve) => (this.#onTaken = resolve))
      if (this.#wake !== null) this.#take()
      await taken
    }
  }

  /** Has the server say how far it is, so that what waits for that does not wait for a transaction. */
  ask(): void {
    this.#status.send(true)
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
    if (this.#changes === null || this.#wake === null) return
    this.#take()
    if (this.#reached || this.#error !== null) this.#wake?.()
  }

  /** Postgres feels a log that does not keep up. One read of the socket can hold several times what is taken at once. */
  #restWhenFull(request: ChangesRequest<unknown>): void {
    if (!this.#full(request)) return
    if (this.#wake !== null && this.#taken === null) return this.#take()
    this.#resting = true
    this.#socket.rest()
  }

  #onIdle(): void {
    this.#idle = true
    this.#silence.listen(IDLE_MS)
    this.#status.send(true)
    if (this.#wake !== null) this.#take()
  }

  /** Takes a batch where one may end here, and wakes who waits for it. */
  #take(): void {
    const request = this.#request
    const changes = this.#changes
    if (request === null || changes === null || this.#taken !== null || this.#error !== null) return
    const { sink, limits } = request
    const full = this.#full(request)
    const moved = changes.endLsn > this.#takenEnd || this.#published
    // Before a transaction's first change, the shapes of its tables alone may fill the sink: then they are a part of it.
    const whole = moved && !changes.midTransaction && !this.#parting
    if (whole) {
      if (sink.records === 0 && !this.#partial && !this.#idle && !this.#reached && !this.#published) return
      const ends = full || this.#reached || this.#waiting > 0 // nothing more can come
      if (sink.records > 0 && !ends && this.#linger.waits(limits)) return
    } else if (!full) return
    const endLsn = whole ? changes.endLsn : null
    this.#linger.taken(sink.bytes)
    this.#taken = { records: request.cut(), endLsn, commitLsn: changes.commitLsn }
    if (endLsn !== null) {
      this.#takenEnd = endLsn
      this.#published = false
    }
    this.#heldAtBegin = 0
    this.#resting = false
    this.#partial = !whole
    this.#idle = false
    this.#onTaken()
    this.#wake?.()
    this.#socket.resume()
  }

  /**
   * A batch that ends within a transaction commits nothing, and where the log is slower than the stream, each would: so the end of one is
   * waited for, unless it is large by itself, and what is there at the end of one that is, is taken.
   */
  #full({ sink, limits }: ChangesRequest<unknown>): boolean {
    const { midTransaction, endLsn } = this.#reader()
    if (this.#resting || (this.#partial && !midTransaction && endLsn > this.#takenEnd)) return true
    return sink.bytes - (midTransaction ? this.#heldAtBegin : 0) >= limits.bytes
  }

  #fail(error: Error): void {
    this.#error ??= error
    this.#status.stop()
    this.#linger.stop()
    this.#timer?.cancel()
    this.#opened?.reject(error)
    this.#opened = null
    this.#ended?.reject(error)
    this.#wake?.()
  }
}
