/**
 * Linger: how long what was decoded waits for more to share its log transaction, which costs evert and the broker a millisecond or two each,
 * whatever it holds: where a log answers at once, a fast stream would be published in hundreds of small ones a second.
 */
import type { Clock, Timer } from '../base/clock.js'
import type { BatchLimits } from './batch.js'

/** 13 MB/s of events. */
const FAST_BYTES_PER_MS = 13_000
/** From one batch to the next, where the stream is fast; and over less than this there is no pace: a burst of a thousand rows makes nothing wait. */
const SHARED_MS = 40

export class Linger {
  readonly #clock: Clock
  readonly #onOld: () => void
  #aging: Timer | null = null
  #old = false
  #takenMs = 0
  #fast = false
  /** Since when, and what, was taken that the pace is not yet known of. */
  #sinceMs = 0
  #bytes = 0

  /** `onOld` is told when what waits is old enough. */
  constructor(clock: Clock, onOld: () => void) {
    this.#clock = clock
    this.#onOld = onOld
  }

  /** Asked where a batch could be taken; true from then on for as long as it may wait. The timer says when that is over: a clock may be early. */
  waits({ ageMs }: BatchLimits): boolean {
    if (this.#old || (ageMs === 0 && !this.#fast)) return false
    if (this.#aging !== null) return true
    const waitMs = ageMs === 0 ? SHARED_MS - (this.#clock.elapsedMs() - this.#takenMs) : ageMs
    if (waitMs <= 0) return false
    this.#aging = this.#clock.after(waitMs, () => {
      this.#old = true
      this.#onOld()
    })
    return true
  }

  /** A batch of so many bytes was taken. */
  taken(bytes: number): void {
    const nowMs = this.#clock.elapsedMs()
    this.#takenMs = nowMs
    this.#bytes += bytes
    const ms = nowMs - this.#sinceMs
    if (ms >= SHARED_MS) {
      this.#fast = this.#bytes >= FAST_BYTES_PER_MS * ms
      this.#sinceMs = nowMs
      this.#bytes = 0
    }
    this.stop()
    this.#old = false
  }

  stop(): void {
    this.#aging?.cancel()
    this.#aging = null
  }
}
