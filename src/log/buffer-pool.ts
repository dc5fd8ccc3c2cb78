/** Buffers for record batches in sizes of powers of two: what one batch gives back, the next one takes, so that the hot path allocates nothing. */
import { dropped } from '../base/dropped.js'

/** What a batch starts with. Thousands of partitions with a row or two each are common, so it is small. */
const SMALLEST_BYTES = 512
/** Larger buffers hold one huge record: they go to the garbage collector, or one 100 MB value would cost 100 MB for ever. */
const LARGEST_KEPT_BYTES = 1 << 20
/** Two full log transactions of the usual size; what is above goes to the garbage collector. */
const KEPT_BYTES = 16 << 20

export class BufferPool {
  /** Free buffers by the logarithm of their size. */
  readonly #free: Buffer[][] = []
  #keptBytes = 0

  /** Bytes of the buffers that wait for use. */
  get keptBytes(): number {
    return this.#keptBytes
  }

  /** A buffer of at least that many bytes, with anything in it. */
  take(bytes: number): Buffer {
    const exponent = Math.ceil(Math.log2(Math.max(bytes, SMALLEST_BYTES)))
    const size = 2 ** exponent
    const free = this.#free[exponent]?.pop()
    if (free !== undefined) {
      this.#keptBytes -= size
      return free
    }
    // A power of two can be twice what a huge record needs, and such a buffer is not kept anyway.
    return Buffer.allocUnsafeSlow(size > LARGEST_KEPT_BYTES ? bytes : size)
  }

  /** Gives back a buffer that take() gave. The giver must not touch it again. */
  give(buffer: Buffer): void {
    if (buffer.length > LARGEST_KEPT_BYTES || this.#keptBytes + buffer.length > KEPT_BYTES) return dropped(buffer)
    const exponent = Math.log2(buffer.length)
    const free = (this.#free[exponent] ??= [])
    free.push(buffer)
    this.#keptBytes += buffer.length
  }
}
