/** Both ends of a TCP connection. */
import { once } from 'node:events'
import net from 'node:net'

export type Ends = readonly [client: net.Socket, peer: net.Socket]

export async function socketPair(): Promise<Ends> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[net.Socket]>
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  const [peer] = await accepted
  server.close()
  return [client, peer]
}
