/** World: virtual time and everything that is going to happen in it, in one order that the seed decides. */
import { Random } from './random.js'

/** Something that the promises forbid, or that must never be. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

export interface Happening {
  readonly atMs: number
  readonly turn: number
  work: (() => void) | null
}

export class World {
  readonly random: Random
  /** What happened, for the one who looks at a failing seed. */
  readonly trace: string[] = []
  readonly #traced: boolean
  /** A binary heap, the next one first. */
  readonly #heap: Happening[] = []
  #nowMs = 1000
  #turn = 0

  constructor(seed: number, traced: boolean) {
    this.random = new Random(seed)
    this.#traced = traced
  }

  get nowMs(): number {
    return this.#nowMs
  }

  say(text: () => string): void {
    if (this.#traced) this.trace.push(`${this.#nowMs.toFixed(1).padStart(9)}  ${text()}`)
  }

  /** Does not happen where its work is set to null before. */
  after(delayMs: number, work: () => void): Happening {
    return this.at(this.#nowMs + Math.max(0, delayMs), work)
  }

  at(atMs: number, work: () => void): Happening {
    const happening = { atMs: Math.max(atMs, this.#nowMs), turn: this.#turn++, work }
    const heap = this.#heap
    let place = heap.length
    heap.push(happening)
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!earlier(happening, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = happening
    return happening
  }

  /** Lets the next thing happen; false where nothing is left. */
  step(): boolean {
    for (;;) {
      const next = this.#pop()
      if (next === undefined) return false
      if (next.work === null) continue
      this.#nowMs = next.atMs
      next.work()
      return true
    }
  }

  #pop(): Happening | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let place = 0
    for (;;) {
      let child = place * 2 + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && earlier(heap[child + 1]!, heap[child]!)) child++
      if (!earlier(heap[child]!, last)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = last
    return first
  }
}

function earlier(a: Happening, b: Happening): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.turn < b.turn)
}
