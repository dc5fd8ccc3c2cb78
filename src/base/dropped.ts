/** Dropped: the memory of a buffer that was made for one huge value goes back to the system soon after it. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** What is smaller than this is not worth a full collection, which takes some ten milliseconds. */
const HUGE_BYTES = 16 << 20
/** For whoever else holds a part of it, such as the other end of a socket. */
const SOON_MS = 1000

let waiting = false

/**
 * Tells that nobody holds a buffer any more. V8 collects when memory is asked for, and a stream asks for none: without a word a value of 100 MB
 * would stay resident, and twice, for as long as the stream is quiet and small.
 */
export function dropped(buffer: Buffer): void {
  if (buffer.length < HUGE_BYTES || waiting) return
  waiting = true
  setTimeout(() => {
    waiting = false
    collect()
  }, SOON_MS).unref()
}

/** A context that is made while the flag is set has the function; our own was made before. */
function collect(): void {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  setFlagsFromString('--no-expose-gc')
  gc()
}
