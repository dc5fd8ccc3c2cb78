/**
 * Machine: one process of evert as the rest of the world sees it. It can be killed at any await and be frozen for a while. What it has
 * sent is on the wire and stays there; nothing reaches a dead one, and a frozen one hears everything when it thaws.
 */
import type { Clock, Timer } from '../../src/base/clock.js'
import type { World } from './world.js'

/** 2026-03-01, so that commit times look like some. */
const EPOCH_MS = 1_772_366_400_000

export class Machine implements Clock {
  readonly name: string
  readonly world: World
  readonly #stop = new AbortController()
  #dead = false
  #frozen = false
  /** Messages that may still be sent before it is killed in the middle of what it does. */
  #fuse = Number.POSITIVE_INFINITY
  #missed: (() => void)[] = []
  readonly #onDeath: (() => void)[] = []

  constructor(name: string, world: World) {
    this.name = name
    this.world = world
  }

  get alive(): boolean {
    return !this.#dead
  }

  get frozen(): boolean {
    return this.#frozen
  }

  /** Aborted by stop(). */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  onDeath(work: () => void): void {
    this.#onDeath.push(work)
  }

  /** SIGTERM. */
  stop(): void {
    this.deliver(() => this.#stop.abort())
  }

  /** SIGKILL: its connections end as the operating system ends them. */
  kill(): void {
    if (this.#dead) return
    this.#dead = true
    this.#missed = []
    this.world.say(() => `${this.name} dies`)
    for (const work of this.#onDeath) work()
  }

  /** Killed when it is about to send its next message but `messages`. */
  killAfter(messages: number): void {
    this.#fuse = messages
  }

  freeze(): void {
    this.#frozen = true
    this.world.say(() => `${this.name} freezes`)
  }

  thaw(): void {
    if (!this.#frozen) return
    this.#frozen = false
    this.world.say(() => `${this.name} thaws`)
    const missed = this.#missed
    this.#missed = []
    // One after the other, as a process that wakes up finds them.
    for (const work of missed) this.world.after(0, () => this.deliver(work))
  }

  /** Something arrives: a response, bytes, the time of a timer. */
  deliver(work: () => void): void {
    if (this.#dead) return
    if (this.#frozen) this.#missed.push(work)
    else work()
  }

  /**
   * A connection is lost. The known limit: a process that wakes up, begins a log transaction on what it was told before it fell asleep, and
   * is killed in that one, before it has heard of a broker that died meanwhile.
   */
  deliverLoss(work: () => void): void {
    if (this.#frozen && !this.#dead) this.#missed.unshift(work)
    else this.deliver(work)
  }

  /** Asked before every message that it sends: false where it died instead. */
  maySend(): boolean {
    if (this.#dead) return false
    if (this.#fuse-- > 0) return true
    this.kill()
    return false
  }

  elapsedMs(): number {
    return this.world.nowMs
  }

  nowMs(): number {
    return EPOCH_MS + Math.floor(this.world.nowMs)
  }

  after(ms: number, work: () => void): Timer {
    const happening = this.world.after(ms, () => this.deliver(() => happening.work !== null && work()))
    return { cancel: () => void (happening.work = null), unref: () => undefined }
  }

  every(ms: number, work: () => void): Timer {
    let current: Timer
    const again = (): void => {
      current = this.after(ms, again)
      work()
    }
    current = this.after(ms, again)
    return { cancel: () => current.cancel(), unref: () => undefined }
  }

  delay(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error)
        return
      }
      const timer = this.after(ms, () => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      })
      const onAbort = (): void => {
        timer.cancel()
        reject(signal?.reason as Error)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }
}
