/** Closers: what was opened, and how it is closed again. */

/** Closes what was opened, last first, and all of it: the first error is thrown at the end. */
export class Closers {
  readonly #closers: (() => void | Promise<void>)[] = []

  add<T>(thing: T, close: (thing: T) => void | Promise<void>): T {
    this.#closers.push(() => close(thing))
    return thing
  }

  async close(): Promise<void> {
    const errors: unknown[] = []
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  }
}
