/** Clock: what is asked for the time and for timers, so that a test can let years pass in a second. */
import { setTimeout as wait } from 'node:timers/promises'

export interface Timer {
  cancel(): void
  /** It alone does not keep the process alive. */
  unref(): void
}

export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  elapsedMs(): number
  /** Milliseconds since 1970. */
  nowMs(): number
  after(ms: number, work: () => void): Timer
  every(ms: number, work: () => void): Timer
  /** Rejected by an abort of the signal. */
  delay(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  elapsedMs: () => performance.now(),
  nowMs: () => Date.now(),
  after: (ms, work) => timer(setTimeout(work, ms)),
  every: (ms, work) => timer(setInterval(work, ms)),
  delay: (ms, signal) => wait(ms, undefined, signal === undefined ? {} : { signal }),
}

function timer(timeout: NodeJS.Timeout): Timer {
  return { cancel: () => clearTimeout(timeout), unref: () => void timeout.unref() }
}
