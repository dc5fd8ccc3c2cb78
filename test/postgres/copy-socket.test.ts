/** The copy socket: what holds, holds; and what goes wrong says whose fault it is. */
import { once } from 'node:events'
import net from 'node:net'
import { CopySocket } from '../../src/postgres/copy-socket.js'

/** CopyData messages with one letter each. */
function messages(letters: string): Buffer {
  return Buffer.concat([...letters].map((letter) => Buffer.from([0x64, 0, 0, 0, 5, letter.charCodeAt(0)])))
}

describe('a copy socket', () => {
  let server: net.Server
  let client: net.Socket
  let peer: net.Socket
  let copy: CopySocket
  let error: Promise<Error>
  let onLetter: (letter: string) => void

  beforeEach(async () => {
    server = net.createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    copy = new CopySocket()
    client = copy.plain
    const accepted = once(server, 'connection') as Promise<[net.Socket]>
    client.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
    ;[peer] = await accepted
    error = new Promise((resolve) => {
      copy.takeOver(
        { socket: client, encrypted: false },
        {
          onMessage: (_tag, bytes, start) => onLetter(String.fromCharCode(bytes[start] ?? 0)),
          onRead: () => undefined,
          onClose: resolve,
        },
      )
    })
  })

  afterEach(() => {
    copy.destroy()
    peer.destroy()
    server.close()
  })

  it('hears of a connection that was closed before it was taken over', async () => {
    const socket = new net.Socket()
    socket.destroy()
    await once(socket, 'close')
    const late = new CopySocket()
    const gone = new Promise<Error>((resolve) => {
      const handlers = { onMessage: () => undefined, onRead: () => undefined, onClose: resolve }
      late.takeOver({ socket, encrypted: true }, handlers)
    })
    expect(await gone).toMatchObject({ code: 'POSTGRES_CONNECTION_LOST' })
  })

  it('stays held where the message after a hold asks for another', async () => {
    const seen: string[] = []
    const third = new Promise<void>((resolve) => {
      onLetter = (letter) => {
        seen.push(letter)
        if (letter === 'c') resolve()
        else copy.hold()
      }
    })
    peer.write(messages('ab'))
    while (seen.length < 1) await new Promise((resolve) => setImmediate(resolve))
    copy.release()
    expect(seen).toEqual(['a', 'b'])
    expect(client.isPaused()).toBe(true)
    peer.write(messages('c'))
    copy.release()
    await third
    expect(client.isPaused()).toBe(false)
  })

  it('says that the connection is lost where it is, and passes on what a handler throws', async () => {
    onLetter = () => {
      throw new TypeError('ours')
    }
    peer.write(messages('a'))
    expect(await error).toEqual(new TypeError('ours'))
  })

  it('says that the server closed the connection', async () => {
    onLetter = () => undefined
    peer.end()
    expect(await error).toMatchObject({ code: 'POSTGRES_CONNECTION_LOST' })
  })
})
