/** Spill file: entries that would not fit into memory, in a temporary file; each begins with its length, 32 bits. */
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EvertError } from './base/errors.js'

const BUFFER_BYTES = 32 * 1024
const CHUNK_BYTES = 256 * 1024

let opened = 0

export class SpillFile {
  readonly #file: number
  readonly #buffer = Buffer.alloc(BUFFER_BYTES)
  #used = 0
  #written = 0

  /** Error: OUTPUT_FAILED. */
  constructor() {
    const path = join(tmpdir(), `evert-${process.pid}-${opened++}`)
    try {
      this.#file = openSync(path, 'wx+', 0o600)
      // From here on only this process has it: however that ends, nothing stays.
      unlinkSync(path)
    } catch (error) {
      throw unwritable(error)
    }
  }

  get bytes(): number {
    return this.#written + this.#used
  }

  /** The first `length` of the bytes. Error: OUTPUT_FAILED. */
  append(bytes: Buffer, length: number): void {
    if (this.#used + length > this.#buffer.length) this.#flush()
    if (length > this.#buffer.length) this.#write(bytes.subarray(0, length))
    else this.#used += bytes.copy(this.#buffer, this.#used, 0, length)
  }

  /** Each entry is there until the next one is asked for. */
  *entries(): Generator<Buffer> {
    this.#flush()
    let chunk = Buffer.alloc(Math.min(CHUNK_BYTES, this.#written))
    let filled = 0
    for (let at = 0; at < this.#written;) {
      const count = readSync(this.#file, chunk, filled, chunk.length - filled, at)
      at += count
      filled += count
      let from = 0
      let length = 0
      while (from + 4 <= filled) {
        length = chunk.readUInt32LE(from)
        if (from + length > filled) break
        yield chunk.subarray(from, from + length)
        from += length
      }
      chunk.copyWithin(0, from, filled)
      filled -= from
      if (length > chunk.length) chunk = Buffer.concat([chunk], length)
    }
  }

  close(): void {
    closeSync(this.#file)
  }

  #flush(): void {
    this.#write(this.#buffer.subarray(0, this.#used))
    this.#used = 0
  }

  #write(bytes: Buffer): void {
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(this.#file, bytes, at)
    } catch (error) {
      throw unwritable(error)
    }
    this.#written += bytes.length
  }
}

/** OUTPUT_FAILED of the temporary folder. */
export function unwritable(error: unknown): EvertError {
  return new EvertError('OUTPUT_FAILED', {
    message: `the temporary folder "${tmpdir()}" cannot be written: ${(error as Error).message}`,
    hint: 'make room there, or let TMPDIR be another folder; evert verify can compare a part: --sample, --tables',
    cause: error,
  })
}
