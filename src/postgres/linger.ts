/**
 * Linger: how long what was decoded waits for more to share its log transaction, which costs evert and the broker a millisecond each, whatever
 * it holds. Where a log answers faster than that is worth, a backlog would be published in a thousand small ones.
 */
import type { Clock, Timer } from '../base/clock.js'
import type { BatchLimits } from './batch.js'

/** In a stream that is fast enough to fill a quarter of a batch within it. */
const FAST_MS = 40
const FAST_SHARE = 1 / 4

export class Linger {
  readonly #clock: Clock
  readonly #onOld: () => void
  #aging: Timer | null = null
  #old = false
  #takenMs = 0
  #fast = false

  /** `onOld` is told when what waits is old enough. */
  constructor(clock: Clock, onOld: () => void) {
    this.#clock = clock
    this.#onOld = onOld
  }

  /** True while the oldest record is younger than it may become. The timer says when, and nothing else: by another clock it may be early. */
  waits({ ageMs }: BatchLimits): boolean {
    const waitMs = ageMs === 0 && this.#fast ? FAST_MS : ageMs
    if (waitMs === 0 || this.#old) return false
    this.#aging ??= this.#clock.after(waitMs, () => {
      this.#old = true
      this.#onOld()
    })
    return true
  }

  /** A batch of so many bytes was taken. */
  taken(bytes: number, limits: BatchLimits): void {
    const nowMs = this.#clock.elapsedMs()
    this.#fast = bytes * FAST_MS >= limits.bytes * FAST_SHARE * (nowMs - this.#takenMs)
    this.#takenMs = nowMs
    this.#aging?.cancel()
    this.#aging = null
    this.#old = false
  }
}
