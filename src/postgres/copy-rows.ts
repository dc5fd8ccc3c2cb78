/** Copy rows: `COPY … TO STDOUT` in text format, each row a tuple in place. https://www.postgresql.org/docs/current/sql-copy.html */
import type net from 'node:net'
import { assert } from '../base/assert.js'
import { type ErrorCode, EvertError } from '../base/errors.js'
import { NULL, TEXT, Tuple } from '../event/tuple.js'
import { CopySocket } from './copy-socket.js'
import { isGiven } from './framer.js'
import { passesByItself, readServerError } from './server-error.js'

const TAB = 0x09
const BACKSLASH = 0x5c
const LETTER_N = 0x4e

/** What COPY writes after a backslash for a byte that it cannot write as it is; anything else stands for itself. */
const UNESCAPED = new Uint8Array(256).map((_, byte) => byte)
for (const [letter, byte] of [
  ['b', 0x08],
  ['f', 0x0c],
  ['n', 0x0a],
  ['r', 0x0d],
  ['t', 0x09],
  ['v', 0x0b],
] as const) {
  UNESCAPED[letter.charCodeAt(0)] = byte
}

export interface CopyRequest {
  readonly statement: string
  readonly columns: number
  /** The table, for errors. */
  readonly table: string
  readonly onRow: (row: Tuple) => void
  /** True while the reader should rest; asked after every row. */
  readonly full: () => boolean
}

/**
 * A connection's socket after its transaction was set up: runs one COPY after the other. `copy` yields whenever `full` says so, and
 * reads no further before it is asked to.
 */
export class CopyRows {
  readonly #socket: CopySocket
  readonly #row = new Tuple()
  #request: CopyRequest | null = null
  #done = false
  #resting = false
  #error: Error | null = null
  #wake: (() => void) | null = null

  constructor(socket: net.Socket) {
    this.#socket = new CopySocket(socket)
    this.#socket.takeOver({
      onMessage: (tag, bytes, start, end) => this.#onMessage(tag, bytes, start, end),
      onRead: () => this.#onRead(),
      onClose: (error) => {
        this.#error ??= error
        this.#wake?.()
      },
    })
  }

  async *copy(request: CopyRequest, signal: AbortSignal): AsyncGenerator<void> {
    this.#request = request
    this.#done = false
    const onAbort = (): void => this.#wake?.()
    signal.addEventListener('abort', onAbort)
    this.#socket.query(request.statement)
    try {
      while (!this.#done) {
        if (this.#error !== null) throw this.#error
        if (signal.aborted) return
        if (!request.full()) {
          if (this.#resting) this.#socket.resume()
          this.#resting = false
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
          this.#wake = null
        }
        if (this.#error === null && !this.#done && request.full()) yield
      }
      if (this.#error !== null) throw this.#error
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#request = null
    }
  }

  close(): void {
    this.#socket.destroy()
  }

  #onMessage(tag: number, bytes: Buffer, start: number, end: number): void {
    if (tag === 0x64) {
      this.#onRow(bytes, start, end)
    } else if (tag === 0x45) {
      const error = readServerError(bytes, start, end)
      this.#error ??= new EvertError(copyError(error.code), {
        message: `table ${this.#request?.table ?? '?'} cannot be copied: ${error.message}`,
        ...(error.code === '42501' ? { hint: `grant select on ${this.#request?.table ?? '…'} to …` } : {}),
      })
    } else if (tag === 0x5a) {
      this.#done = true
    }
  }

  #onRead(): void {
    if (this.#done || this.#error !== null || this.#resting) this.#wake?.()
  }

  /**
   * Splits a line at its tabs and takes the escapes out where they stand; they only shrink. Each message is one row
   * (https://www.postgresql.org/docs/current/protocol-message-formats.html, CopyData). About 1 ns a byte.
   */
  #onRow(bytes: Buffer, start: number, end: number): void {
    const request = this.#request
    assert(request !== null, 'a row came without a COPY')
    const row = this.#row
    const stop = end - 1 // the newline
    let column = 0
    let at = start
    while (column < request.columns) {
      const from = at
      let byte = 0
      // Up to the first escape everything stands where it should.
      while (at < stop && (byte = bytes[at]!) !== TAB && byte !== BACKSLASH) at++
      let to = at
      let isNull = false
      if (at < stop && byte === BACKSLASH) {
        // `\N` alone: no value is ever written with that escape.
        isNull = at === from && bytes[at + 1] === LETTER_N
        while (at < stop && (byte = bytes[at]!) !== TAB) {
          if (byte === BACKSLASH) byte = UNESCAPED[bytes[++at]!]!
          bytes[to++] = byte
          at++
        }
      }
      row.start[column] = from
      row.end[column] = to
      row.state[column] = isNull ? NULL : TEXT
      column++
      if (at >= stop) break
      at++
    }
    if (column !== request.columns || at < stop) {
      throw new EvertError('PROTOCOL', {
        message: `a row copied from ${request.table} does not have its table's ${request.columns} columns`,
      })
    }
    row.bytes = bytes
    row.given = isGiven(bytes)
    row.count = column
    row.size = end - start
    request.onRow(row)
    if (!request.full()) return
    this.#resting = true
    this.#socket.rest()
  }
}

function copyError(sqlState: string): ErrorCode {
  if (sqlState === '42501') return 'POSTGRES_PERMISSION'
  // Somebody has had the table for himself for longer than lock_timeout.
  if (sqlState === '55P03') return 'SNAPSHOT_OVERTAKEN'
  return passesByItself(sqlState) ? 'POSTGRES_CONNECTION_LOST' : 'POSTGRES_QUERY'
}
