/** Requests that are written from the buffers they lie in: what arrives at the other end, and what is not written any more. */
import fc from 'fast-check'
import { once } from 'node:events'
import type net from 'node:net'
import type { Connection } from '@platformatic/kafka'
import { inParts, writeInParts } from '../../src/log/kafka/in-parts.js'
import { socketPair } from '../support/socket-pair.js'

interface Pair {
  readonly socket: net.Socket
  /** All that arrived, once the socket has ended. */
  readonly received: Promise<Buffer>
}

async function connected(): Promise<Pair> {
  const [socket, peer] = await socketPair()
  const chunks: Buffer[] = []
  peer.on('data', (chunk: Buffer) => chunks.push(chunk))
  const received = once(peer, 'end').then(() => Buffer.concat(chunks))
  return { socket, received }
}

/** As the client does it: the length of what follows, a header, the body. */
function request(body: Buffer): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(4), Buffer.from('header'), body])
  bytes.writeInt32BE(bytes.length - 4, 0)
  return bytes
}

it('puts the parts in the place of their token, and counts them', async () => {
  const { socket, received } = await connected()
  writeInParts({ socket } as unknown as Connection)
  const parts = ['a', 'bc'.repeat(300_000), '', 'd'].map((text) => Buffer.from(text))
  socket.write(request(Buffer.from('plain')))
  await inParts(parts, async (token) => {
    socket.write(request(token))
  })
  socket.end(request(Buffer.from('plain, too')))
  const expected = [Buffer.from('plain'), Buffer.concat(parts), Buffer.from('plain, too')]
  expect((await received).equals(Buffer.concat(expected.map(request)))).toBe(true)
})

it('joins small ones', async () => {
  const { socket, received } = await connected()
  const write = socket.write.bind(socket)
  let writes = 0
  socket.write = ((bytes: Buffer) => {
    writes++
    return write(bytes)
  }) as net.Socket['write']
  writeInParts({ socket } as unknown as Connection)
  const parts = Array.from({ length: 10_000 }, (_, i) => Buffer.from(`${i},`))
  parts[5000] = Buffer.alloc(100_000, 'x')
  await inParts(parts, async (token) => {
    socket.write(request(token))
  })
  socket.end()
  expect((await received).equals(request(Buffer.concat(parts)))).toBe(true)
  // The head, what is before the large one, it, and what is behind it.
  expect(writes).toBe(4)
})

it('makes no copy of large ones', async () => {
  const { socket, received } = await connected()
  writeInParts({ socket } as unknown as Connection)
  const part = Buffer.alloc(8_000_000)
  await inParts([part], async (token) => {
    socket.write(request(token))
    // The kernel took some of it at once; the rest is read from the part when it has room.
    part.fill(1, 7_000_000)
  })
  socket.end()
  expect((await received).at(-1)).toBe(1)
})

it('does not write parts that were given up', async () => {
  const { socket, received } = await connected()
  writeInParts({ socket } as unknown as Connection)
  let given: Buffer = Buffer.alloc(0)
  await inParts([Buffer.from('secret')], async (token) => {
    given = token
  })
  socket.end(request(given))
  expect((await received).includes('secret')).toBe(false)
})

/** A socket that takes whatever it is given, and each buffer as it was given. */
function taking(): { readonly socket: net.Socket; readonly taken: Buffer[] } {
  const taken: Buffer[] = []
  const socket = { write: (bytes: Buffer) => taken.push(bytes) > 0, cork: () => undefined, uncork: () => undefined }
  writeInParts({ socket } as unknown as Connection)
  return { socket: socket as unknown as net.Socket, taken }
}

it('writes what one buffer would hold, whatever the sizes of the parts, and large ones as they are', async () => {
  const partBytes = fc.oneof(fc.integer({ min: 16_380, max: 16_390 }), fc.nat(20), fc.nat(40_000))
  const part = fc.tuple(partBytes, fc.nat(255)).map(([length, byte]) => Buffer.alloc(length, byte))
  const bodies = fc.array(fc.array(part, { maxLength: 12 }), { minLength: 1, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(bodies, async (requests) => {
      const { socket, taken } = taking()
      const tokens: Buffer[] = []
      // All of them wait before the first is written.
      const written = requests.map((parts) =>
        inParts(parts, async (token) => {
          tokens.push(token)
          await Promise.resolve()
          socket.write(request(token))
        }),
      )
      expect(new Set(tokens.map((token) => token.toString('hex'))).size).toBe(requests.length)
      await Promise.all(written)
      const expected = requests.map((parts) => request(Buffer.concat(parts)))
      expect(Buffer.concat(taken).equals(Buffer.concat(expected))).toBe(true)
      const large = requests.flat().filter(({ length }) => length >= 16_384)
      const asTheyAre = new Set<Buffer>(requests.flat())
      expect(taken.filter((bytes) => asTheyAre.has(bytes)).length).toBe(large.length)
      // Each request has a head and what is behind its last large part; each large part what is before it.
      expect(taken.length).toBe(2 * requests.length + 2 * large.length)
    }),
    { numRuns: 300 },
  )
})
