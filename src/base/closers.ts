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

/** Closes what the work has opened, when it is done or has failed. */
export async function closing<T>(work: (closers: Closers) => Promise<T>): Promise<T> {
  const closers = new Closers()
  let done: T
  try {
    done = await work(closers)
  } catch (error) {
    await closers.close().catch(() => undefined) // what went wrong first counts
    throw error
  }
  await closers.close()
  return done
}
