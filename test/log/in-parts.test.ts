/** Requests that are written from the buffers they lie in: what arrives at the other end, and what is not written any more. */
import { once } from 'node:events'
import net from 'node:net'
import type { Connection } from '@platformatic/kafka'
import { inParts, writeInParts } from '../../src/log/kafka/in-parts.js'

interface Pair {
  readonly socket: net.Socket
  /** All that arrived, once the socket has ended. */
  readonly received: Promise<Buffer>
}

async function connected(): Promise<Pair> {
  const server = net.createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection')
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  const [peer] = (await accepted) as [net.Socket]
  const chunks: Buffer[] = []
  peer.on('data', (chunk: Buffer) => chunks.push(chunk))
  const received = once(peer, 'end').then(() => {
    server.close()
    return Buffer.concat(chunks)
  })
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
