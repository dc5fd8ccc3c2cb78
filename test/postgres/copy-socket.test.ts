/** The copy socket: what holds, holds; and what goes wrong says whose fault it is. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import { CopySocket } from '../../src/postgres/copy-socket.js'
import { makeCertificate } from '../support/postgres.js'
import { type Ends, socketPair } from '../support/socket-pair.js'

const MEGABYTE = 1024 * 1024

/** A CopyData message that is a letter, so many times. */
function message(letter: string, bytes = 1): Buffer {
  const head = Buffer.from([0x64, 0, 0, 0, 0])
  head.writeUInt32BE(bytes + 4, 1)
  return Buffer.concat([head, Buffer.alloc(bytes, letter)])
}

/** CopyData messages with one letter each. */
function messages(letters: string): Buffer {
  return Buffer.concat([...letters].map((letter) => message(letter)))
}

const { certFile, keyFile } = makeCertificate()
const [cert, key] = [readFileSync(certFile), readFileSync(keyFile)]

/** TLS as Postgres begins it: on a connection on which something was said before. */
async function encrypted(): Promise<Ends> {
  const [rawClient, rawPeer] = await socketPair()
  rawPeer.write('S')
  await once(rawClient, 'data')
  const peer = new tls.TLSSocket(rawPeer, { isServer: true, cert, key })
  const client = tls.connect({ socket: rawClient, rejectUnauthorized: false })
  await once(client, 'secureConnect')
  return [client, peer]
}

/** Of a Node that lets nobody choose where a socket reads to: it emits 'data', as a stream that is none of Node's does. */
async function unknown(): Promise<Ends> {
  const [client, peer] = await socketPair()
  const internals = client as unknown as Record<symbol, unknown>
  for (const symbol of Object.getOwnPropertySymbols(client))
    if (symbol.description?.startsWith('kBuffer') === true) delete internals[symbol]
  return [client, peer]
}

describe.each([
  ['a socket', socketPair, true],
  ['a socket with TLS', encrypted, true],
  ['a socket that it does not know', unknown, false],
])('a copy socket on %s', (_, connect, inPlace) => {
  let client: net.Socket
  let peer: net.Socket
  let copy: CopySocket
  let error: Promise<Error>
  let onLetter: (letter: string) => void

  beforeEach(async () => {
    ;[client, peer] = await connect()
    peer.on('error', () => undefined)
    // `pg` has listened until now.
    client.on('data', () => undefined)
    copy = new CopySocket(client)
    error = new Promise((resolve) => {
      copy.takeOver({
        onMessage: (_tag, bytes, start) => onLetter(String.fromCharCode(bytes[start] ?? 0)),
        onRead: () => undefined,
        onClose: resolve,
      })
    })
  })

  afterEach(() => {
    copy.destroy()
    peer.destroy()
  })

  it(`is ${inPlace ? '' : 'not '}read into the framer's own buffer`, () => {
    expect(client.listenerCount('data') === 0).toBe(inPlace)
  })

  it('gives what was written, in order, however much it is and however often it is held', async () => {
    const letters = Array.from({ length: 200_000 }, (_one, index) => String.fromCharCode(97 + (index % 26))).join('')
    let seen = ''
    const last = new Promise<void>((resolve) => {
      onLetter = (letter) => {
        seen += letter
        if (seen.length === letters.length) resolve()
        if (seen.length % 10_007 !== 0) return
        copy.hold()
        setTimeout(() => copy.release(), 1)
      }
    })
    // Some of them one by one, as the walsender writes, the others in one piece.
    for (const letter of letters.slice(0, 2000)) peer.write(messages(letter))
    peer.write(messages(letters.slice(2000)))
    await last
    expect(seen === letters).toBe(true)
  })

  it('goes on behind messages that are larger than its buffer, each read by itself', async () => {
    let seen = ''
    let onSeen = (): void => undefined
    onLetter = (letter) => {
      seen += letter
      onSeen()
    }
    for (const [i, bytes] of [1, 1.5 * MEGABYTE, 1, 1, 3 * MEGABYTE, 1, 3 * MEGABYTE, 1, 1].entries()) {
      const found = new Promise<void>((resolve) => (onSeen = resolve))
      peer.write(message('abcdefghi'[i]!, bytes))
      await found
    }
    expect(seen).toBe('abcdefghi')
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

  it('refuses a message that claims to be longer than any, also where Node asks for room for it', async () => {
    onLetter = () => undefined
    peer.write(Buffer.from([0x64, 0x7f, 0xff, 0xff, 0xff, 0]))
    expect(await error).toMatchObject({ code: 'PROTOCOL' })
    expect(client.destroyed).toBe(true)
  })

  it.each([
    ['closed', (): unknown => peer.end()],
    ['broke', (): unknown => peer.destroy()],
  ])('says that the server %s the connection', async (_how, end) => {
    onLetter = () => undefined
    end()
    expect(await error).toMatchObject({ code: 'POSTGRES_CONNECTION_LOST' })
  })

  it('hears of a connection that was closed before it was taken over', async () => {
    client.destroy()
    await once(client, 'close')
    const late = new CopySocket(client)
    const gone = new Promise<Error>((resolve) => {
      late.takeOver({ onMessage: () => undefined, onRead: () => undefined, onClose: resolve })
    })
    expect(await gone).toMatchObject({ code: 'POSTGRES_CONNECTION_LOST' })
  })
})
