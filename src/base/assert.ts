/** Checks of evert's own invariants. A failure is a bug in evert, never bad input, and ends the process with exit code 70. */

export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new AssertionError(`this is a bug in evert: ${what}`)
}
