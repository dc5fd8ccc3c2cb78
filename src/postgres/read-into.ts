/**
 * Read into: has a connected socket read into a buffer of ours, as the option `onread` of net.Socket does. Node takes that option for
 * no socket on which TLS was begun after something else was said, which is how Postgres begins it, and without it every TLS record is an
 * ArrayBuffer and a turn of the stream machinery: with it a row over TLS, which is a record of its own, costs a third less.
 */
import type net from 'node:net'

interface Handle {
  readonly useUserBuffer?: (buffer: Uint8Array) => void
}

/**
 * Sets what that option sets: `kBuffer`, `kBufferGen` and `kBufferCb` in https://github.com/nodejs/node/blob/v20.19.0/lib/net.js
 * (initSocketHandle), which lib/internal/stream_base_commons.js uses after each read (onStreamRead). `room` gives where the next read goes,
 * `onRead` takes what came, and says whether to read on. False, and nothing is changed, where the socket is not one of Node's, or of a Node that
 * has this no more: it emits 'data'.
 */
export function readInto(socket: net.Socket, room: () => Uint8Array, onRead: (bytes: number) => boolean): boolean {
  const internals = socket as unknown as Record<symbol | '_handle', unknown>
  const symbols = new Map(Object.getOwnPropertySymbols(socket).map((symbol) => [symbol.description, symbol]))
  const buffer = symbols.get('kBuffer')
  const generate = symbols.get('kBufferGen')
  const callback = symbols.get('kBufferCb')
  const handle = internals['_handle'] as Handle | null | undefined
  if (buffer === undefined || generate === undefined || callback === undefined) return false
  if (typeof handle?.useUserBuffer !== 'function') return false
  const first = room()
  internals[buffer] = first
  let last = first
  // Where it is the same again, Node need not be told, and does not look into it.
  internals[generate] = (): Uint8Array | undefined => {
    const next = room()
    if (next === last) return undefined
    last = next
    return next
  }
  internals[callback] = onRead
  handle.useUserBuffer(first)
  return true
}
