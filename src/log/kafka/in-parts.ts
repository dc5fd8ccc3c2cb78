/**
 * In parts: requests that are written from the buffers they lie in. The client joins all that a request is made of into one buffer, which
 * for record batches is a copy of everything, in memory that is new each time. Instead it is given a token, in whose place the socket
 * writes the parts.
 */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { Connection } from '@platformatic/kafka'

/** No request ends like this by chance. */
const MARK = randomBytes(16)
const TOKEN_BYTES = MARK.length + 4
/** Smaller parts are copied: a request over thousands of partitions has tens of thousands, each an object that lives until the answer. */
const SMALL_BYTES = 16_384

/** By the number of their token, while they may still be written. */
const waiting = new Map<number, readonly Buffer[]>()
let tokens = 0

/** Does something with a token that stands for parts. Once it is done, they are not written any more. */
export async function inParts<T>(parts: readonly Buffer[], work: (token: Buffer) => Promise<T>): Promise<T> {
  const number = tokens++ >>> 0
  const token = Buffer.alloc(TOKEN_BYTES)
  MARK.copy(token)
  token.writeUInt32BE(number, MARK.length)
  waiting.set(number, joined(parts))
  try {
    return await work(token)
  } finally {
    waiting.delete(number)
  }
}

/** The same bytes, runs of small parts in one each. */
function joined(parts: readonly Buffer[]): readonly Buffer[] {
  const result: Buffer[] = []
  let run: Buffer[] = []
  for (const part of parts) {
    if (part.length < SMALL_BYTES) {
      run.push(part)
      continue
    }
    result.push(Buffer.concat(run), part)
    run = []
  }
  result.push(Buffer.concat(run))
  return result
}

/** Has a connection know tokens. */
export function writeInParts({ socket }: Connection): void {
  const write = socket.write.bind(socket) as (bytes: unknown, ...rest: unknown[]) => boolean
  socket.write = ((bytes: unknown, ...rest: unknown[]) => {
    const parts = Buffer.isBuffer(bytes) ? partsOf(bytes) : undefined
    if (parts === undefined) return write(bytes, ...rest)
    const head = Buffer.from((bytes as Buffer).subarray(0, -TOKEN_BYTES))
    // A request begins with the number of bytes that follow.
    head.writeInt32BE(
      parts.reduce((sum, part) => sum + part.length, head.length - 4),
      0,
    )
    socket.cork()
    let more = write(head)
    for (const part of parts) more = write(part)
    socket.uncork()
    return more
  }) as Socket['write']
}

function partsOf(request: Buffer): readonly Buffer[] | undefined {
  const at = request.length - TOKEN_BYTES
  if (at < 0 || request.compare(MARK, 0, MARK.length, at, at + MARK.length) !== 0) return undefined
  return waiting.get(request.readUInt32BE(at + MARK.length))
}
