/** Silence: for how long the server has sent nothing, while it was listened to. */
import { EvertError } from '../base/errors.js'
import type { CopySocket } from './copy-socket.js'

/**
 * The server answers every status of an idle pipeline. One that is silent for so long has lost the connection, or, before 16, decodes a
 * huge transaction of tables that are not published: it is asked which, on another connection.
 */
export const SILENCE_MS = 10_000

export class Silence {
  readonly #socket: Pick<CopySocket, 'reads' | 'paused'>
  #lastReads = 0
  #silentMs = 0

  constructor(socket: Pick<CopySocket, 'reads' | 'paused'>) {
    this.#socket = socket
  }

  /** Looked at so long after the last time: how long it has been, each time that it is too long once more; else 0. */
  after(ms: number): number {
    const { reads, paused } = this.#socket
    this.#silentMs = reads === this.#lastReads && !paused ? this.#silentMs + ms : 0
    this.#lastReads = reads
    return this.#silentMs % SILENCE_MS === 0 ? this.#silentMs : 0
  }
}

export function lost(what: string): EvertError {
  return new EvertError('POSTGRES_CONNECTION_LOST', { message: `the connection to Postgres is lost: ${what}` })
}
