/** Proxy: a TCP relay between evert and a server, which can do to a connection what networks do. */
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** What happens to bytes on their way, in either direction. */
export interface Weather {
  /** Takes bytes and connections, and passes nothing on: no error, no reset. What was swallowed stays lost. */
  readonly swallow?: boolean
  readonly delayMs?: number
  readonly bytesPerSecond?: number
}

interface Link {
  readonly client: net.Socket
  readonly server: net.Socket
  /** It has lost bytes: nothing more comes of it, however the weather turns. */
  dead: boolean
}

export class Proxy {
  readonly port: number
  /** Bytes that came from the server. */
  served = 0
  readonly #server: net.Server
  readonly #links = new Set<Link>()
  #weather: Weather = {}
  /** Resets the next connections right in the middle of what the client sends. */
  #resets = 0

  private constructor(server: net.Server, port: number, targetPort: number) {
    this.#server = server
    this.port = port
    server.on('connection', (client) => this.#connect(client, targetPort))
  }

  static async start(targetPort: number): Promise<Proxy> {
    const server = net.createServer({ noDelay: true })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    return new Proxy(server, typeof address === 'object' && address !== null ? address.port : 0, targetPort)
  }

  set weather(weather: Weather) {
    this.#weather = weather
  }

  /** The next `count` chunks that clients send are cut in half, and their connections reset. */
  resetInMidRequest(count: number): void {
    this.#resets = count
  }

  get resetsLeft(): number {
    return this.#resets
  }

  async close(): Promise<void> {
    for (const { client, server } of this.#links) {
      client.destroy()
      server.destroy()
    }
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  #connect(client: net.Socket, targetPort: number): void {
    const server = net.connect({ port: targetPort, host: '127.0.0.1', noDelay: true })
    const link = { client, server, dead: this.#weather.swallow === true }
    this.#links.add(link)
    void this.#relay(link, client, server)
    void this.#relay(link, server, client)
  }

  /** Chunk by chunk, so that a slow way is felt by who sends. */
  async #relay(link: Link, from: net.Socket, to: net.Socket): Promise<void> {
    from.on('error', () => undefined)
    let broken = false
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        if (from === link.server) this.served += chunk.length
        if (this.#weather.swallow === true) link.dead = true
        if (link.dead) continue
        if (from === link.client && this.#resets > 0 && chunk.length > 1) {
          this.#resets--
          to.write(chunk.subarray(0, chunk.length >> 1))
          broken = true
          break
        }
        await this.#travel(chunk.length)
        if (!to.write(chunk)) await room(to)
      }
    } catch {
      broken = true
    }
    // A dead link tells nobody that its other end has gone.
    if (link.dead) return
    if (!broken) {
      to.end()
      return
    }
    link.client.resetAndDestroy()
    link.server.resetAndDestroy()
    this.#links.delete(link)
  }

  async #travel(bytes: number): Promise<void> {
    const { delayMs = 0, bytesPerSecond } = this.#weather
    const waitMs = delayMs + (bytesPerSecond === undefined ? 0 : (bytes * 1000) / bytesPerSecond)
    if (waitMs > 0) await delay(waitMs)
  }
}

/** Or that it is closed. */
async function room(socket: net.Socket): Promise<void> {
  await new Promise<void>((resolve) => {
    const come = (): void => {
      socket.off('drain', come).off('close', come)
      resolve()
    }
    socket.on('drain', come).on('close', come)
  })
}
