/** Joining the partitions that evert tail reads: by position where they end, as they come where they are followed. */
import type { LogRecord } from '../log/log.js'
import { positionIn } from '../log/position-in.js'

/** A tombstone goes with the event before it. */
interface Head {
  readonly records: AsyncIterator<LogRecord>
  record: LogRecord
  position: string
}

/** Records of partitions that end, in the order of their positions: the order of the database's commits. */
export async function* mergedByPosition(
  partitions: readonly AsyncIterable<LogRecord>[],
): AsyncGenerator<LogRecord, void, undefined> {
  const heads: Head[] = []
  for (const partition of partitions) {
    const records = partition[Symbol.asyncIterator]()
    const first = await records.next()
    if (first.done !== true) heads.push({ records, record: first.value, position: positionIn(first.value) ?? '' })
  }
  try {
    while (heads.length > 0) {
      let least = 0
      for (let i = 1; i < heads.length; i++) if (isBefore(heads[i], heads[least])) least = i
      const head = heads[least]
      if (head === undefined) return
      yield head.record
      const next = await head.records.next()
      if (next.done === true) heads.splice(least, 1)
      else {
        head.record = next.value
        head.position = positionIn(next.value) ?? head.position
      }
    }
  } finally {
    for (const { records } of heads) await records.return?.()
  }
}

function isBefore(a: Head | undefined, b: Head | undefined): boolean {
  return a !== undefined && b !== undefined && a.position < b.position
}

/** Things from several sources, each as it comes. A source is asked for its next when the last was taken. */
export class Interleaved<T> implements AsyncIterable<T> {
  readonly #ready: { readonly thing: T; readonly taken: () => void }[] = []
  #wake: () => void = () => undefined
  #ended = false
  #error: unknown

  add(source: AsyncIterable<T>): void {
    void this.#pump(source).catch((error: unknown) => this.fail(error))
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  fail(error: unknown): void {
    this.#error ??= error
    this.end()
  }

  async #pump(source: AsyncIterable<T>): Promise<void> {
    for await (const thing of source) {
      if (this.#ended) return
      await new Promise<void>((taken) => {
        this.#ready.push({ thing, taken })
        this.#wake()
      })
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      if (this.#error !== undefined) throw this.#error
      const next = this.#ready.shift()
      if (next !== undefined) {
        yield next.thing
        next.taken()
      } else if (this.#ended) {
        return
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve))
      }
    }
  }
}
