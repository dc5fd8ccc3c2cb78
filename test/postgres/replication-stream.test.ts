/** The replication stream at its end: it leaves the COPY, so that the slot is free at once. */
import { systemClock } from '../../src/base/clock.js'
import { EVERT } from '../../src/event/formats.js'
import { toLsn } from '../../src/event/lsn.js'
import type { RecordSink } from '../../src/event/sink.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import { CopySocket } from '../../src/postgres/copy-socket.js'
import { ReplicationStream } from '../../src/postgres/replication-stream.js'
import { withoutMemory } from '../../src/postgres/tables.js'
import { socketPair } from '../support/socket-pair.js'

const COPY_BOTH = Buffer.from([0x57, 0, 0, 0, 7, 0, 0, 0])
/** CopyDone, CommandComplete and ReadyForQuery. */
const GOODBYE = Buffer.from([0x63, 0, 0, 0, 4, 0x43, 0, 0, 0, 9, ...Buffer.from('COPY\0'), 0x5a, 0, 0, 0, 5, 0x49])

/** That the WAL ends there. */
function keepalive(walEnd: number): Buffer {
  const message = Buffer.alloc(23)
  message.write('d')
  message.writeInt32BE(22, 1)
  message.write('k', 5)
  message.writeBigInt64BE(BigInt(walEnd), 6)
  return message
}

it('is left at once by a stop while the sink is full, though nothing of the socket was read then', async () => {
  const [client, peer] = await socketPair()
  const heard: number[] = []
  peer.on('data', (chunk: Buffer) => {
    heard.push(chunk[0]!)
    if (chunk[0] === 0x51) peer.write(COPY_BOTH)
    if (chunk[0] === 0x63) peer.write(GOODBYE)
  })

  // Nothing ends because of a clock.
  const never = { cancel: () => undefined, unref: () => undefined }
  const stream = new ReplicationStream(new CopySocket(client), {
    slot: 's',
    publication: 'p',
    walSenderTimeoutMs: 0,
    isAlive: async () => true,
    clock: { ...systemClock, after: () => never, every: () => never },
  })
  await stream.open()
  const changes = stream.changes({
    sink: { bytes: 10, records: 1 } as RecordSink,
    cut: () => null,
    limits: { bytes: 1, ageMs: 0 },
    from: toLsn(1n),
    signal: new AbortController().signal,
    matches: () => true,
    pipeline: 'p',
    relations: withoutMemory(() => Promise.reject(new Error('nothing is asked'))),
    values: DEFAULT_VALUES,
    envelope: EVERT,
    largeValues: { omit: false, onSkip: () => undefined },
    skipsOrigin: () => false,
    nowUs: () => 0n,
  })
  const first = changes.next()
  peer.write(keepalive(100))
  await first
  peer.write(keepalive(200))
  while (!client.isPaused()) await new Promise((resolve) => setImmediate(resolve))
  await stream.close()
  expect(heard).toContain(0x63)
  expect(client.destroyed).toBe(true)
  peer.destroy()
})
