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
  readonly #isAlive: () => Promise<boolean>
  readonly #onLost: (error: Error) => void
  #lastReads = 0
  #silentMs = 0

  constructor(
    socket: Pick<CopySocket, 'reads' | 'paused'>,
    { isAlive, onLost }: { readonly isAlive: () => Promise<boolean>; readonly onLost: (error: Error) => void },
  ) {
    this.#socket = socket
    this.#isAlive = isAlive
    this.#onLost = onLost
  }

  /** So long after the last time: asks each time that it has been too long once more. */
  listen(ms: number): void {
    const { reads, paused } = this.#socket
    this.#silentMs = reads === this.#lastReads && !paused ? this.#silentMs + ms : 0
    this.#lastReads = reads
    if (this.#silentMs === 0 || this.#silentMs % SILENCE_MS !== 0) return
    const silent = `the server has been silent for ${this.#silentMs / 1000} s`
    this.#isAlive().then(
      (alive) => {
        if (!alive) this.#onLost(lost(`${silent}, and no longer sends to this connection`))
      },
      (error: Error) => this.#onLost(lost(`${silent}: ${error.message}`)),
    )
  }
}

export function lost(what: string): EvertError {
  return new EvertError('POSTGRES_CONNECTION_LOST', { message: `the connection to Postgres is lost: ${what}` })
}
