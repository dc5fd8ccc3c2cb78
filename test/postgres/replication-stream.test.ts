/** The replication stream by itself: when it gives a batch, and its end, where it leaves the COPY, so that the slot is free at once. */
import type net from 'node:net'
import { type Clock, systemClock } from '../../src/base/clock.js'
import { EVERT } from '../../src/event/formats.js'
import { toLsn } from '../../src/event/lsn.js'
import type { Relation } from '../../src/event/relation.js'
import type { RecordSink } from '../../src/event/sink.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import { BatchSink } from '../../src/log/batch-sink.js'
import type { Batch, ChangesRequest } from '../../src/postgres/batch.js'
import { CopySocket } from '../../src/postgres/copy-socket.js'
import { ReplicationStream } from '../../src/postgres/replication-stream.js'
import { withoutMemory } from '../../src/postgres/tables.js'
import { begin, commit, insert, keepalive, relation, walData } from '../simulation/postgres/messages.js'
import { socketPair } from '../support/socket-pair.js'

const COPY_BOTH = Buffer.from([0x57, 0, 0, 0, 7, 0, 0, 0])
/** CopyDone, CommandComplete and ReadyForQuery. */
const GOODBYE = Buffer.from([0x63, 0, 0, 0, 4, 0x43, 0, 0, 0, 9, ...Buffer.from('COPY\0'), 0x5a, 0, 0, 0, 5, 0x49])

/** Nothing ends because of a clock. */
const NEVER = { cancel: () => undefined, unref: () => undefined }

interface Opened {
  readonly stream: ReplicationStream
  readonly client: net.Socket
  readonly peer: net.Socket
  /** The first byte of each message that the server got. */
  readonly heard: readonly number[]
  readonly sink: { bytes: number; records: number }
  readonly next: () => Promise<IteratorResult<Batch<null>>>
}

/** A stream with a server that says hello and goodbye. Its sink holds a record, always; its bytes are what is set, until they are cut. */
async function open(
  clock: Partial<Clock>,
  limits: ChangesRequest<null>['limits'],
  over: Partial<ChangesRequest<null>> = {},
): Promise<Opened> {
  const [client, peer] = await socketPair()
  const heard: number[] = []
  peer.on('data', (chunk: Buffer) => {
    heard.push(chunk[0]!)
    if (chunk[0] === 0x51) peer.write(COPY_BOTH)
    if (chunk[0] === 0x63) peer.write(GOODBYE)
  })
  const stream = new ReplicationStream(new CopySocket(client), {
    slot: 's',
    publication: 'p',
    walSenderTimeoutMs: 0,
    isAlive: async () => true,
    clock: { ...systemClock, after: () => NEVER, every: () => NEVER, ...clock },
  })
  await stream.open()
  const sink = { bytes: 10, records: 1 }
  const changes = stream.changes({
    sink: sink as RecordSink,
    cut() {
      sink.bytes = 0
      return null
    },
    limits,
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
    ...over,
  })
  return { stream, client, peer, heard, sink, next: () => changes.next() }
}

it('is left at once by a stop while the sink is full, though nothing of the socket was read then', async () => {
  const { stream, client, peer, heard, sink, next } = await open({}, { bytes: 1, ageMs: 0 })
  const first = next()
  peer.write(keepalive(100n, false))
  await first
  sink.bytes = 10
  peer.write(keepalive(200n, false))
  while (!client.isPaused()) await new Promise((resolve) => setImmediate(resolve))
  await stream.close()
  expect(heard).toContain(0x63)
  expect(client.destroyed).toBe(true)
  peer.destroy()
})

it('gives what is old enough when the timer says so, though the clock is a moment behind', async () => {
  const AGE_MS = 77
  const timers: (() => void)[] = []
  let nowMs = 1000
  const clock = {
    elapsedMs: () => nowMs,
    after: (ms: number, work: () => void) => {
      if (ms === AGE_MS) timers.push(work)
      return NEVER
    },
  }
  const { stream, peer, next } = await open(clock, { bytes: 1000, ageMs: AGE_MS })
  for (const walEnd of [100, 200]) {
    let given = false
    const batch = next().then(() => (given = true))
    peer.write(keepalive(BigInt(walEnd), false))
    while (timers.length === 0) await new Promise((resolve) => setImmediate(resolve))
    expect(given).toBe(false)
    nowMs += AGE_MS - 0.5
    expect(timers).toHaveLength(1)
    timers.pop()?.()
    await batch
  }
  await stream.close()
  peer.destroy()
})

it('gives a batch of a fast stream 40 ms after the last one, or once it is full', async () => {
  const timers: (() => void)[] = []
  let nowMs = 1000
  const clock = {
    elapsedMs: () => nowMs,
    after: (ms: number, work: () => void) => {
      if (ms === 30) timers.push(work)
      return NEVER
    },
  }
  const { stream, peer, sink, next } = await open(clock, { bytes: 1_000_000, ageMs: 0 })
  let given = 0
  const read = (): Promise<void> => next().then(() => void given++)
  const send = (walEnd: number, bytes: number): void => {
    sink.bytes = bytes
    peer.write(keepalive(BigInt(walEnd), false))
  }
  for (const walEnd of [100, 200, 300]) {
    const batch = read()
    nowMs += 20
    send(walEnd, 300_000)
    await batch
  }
  nowMs += 10
  const waiting = read()
  send(400, 300_000)
  while (timers.length === 0) await new Promise((resolve) => setImmediate(resolve))
  expect(given).toBe(3)
  timers[0]!()
  await waiting
  nowMs += 10
  const full = read()
  send(500, 1_000_000)
  await full
  expect(timers).toHaveLength(1)
  await stream.close()
  peer.destroy()
})

it('ends no log transaction with a part, and the shape of a table is in that of its first change', async () => {
  const cuts: number[] = []
  const item: Relation = {
    oid: 1,
    schema: 'public',
    table: 'item',
    replicaIdentity: 'default',
    columns: [{ name: 'id', key: true, typeOid: 23, typeModifier: -1 }],
  }
  const sink = new BatchSink({ lookup: ({ name }) => ({ name, partitions: 1 }) })
  const { stream, peer, next } = await open(
    {},
    { bytes: 50, ageMs: 0 },
    {
      sink,
      cut() {
        const filled = sink.cut()
        cuts.push(filled.records)
        filled.release()
        return null
      },
      relations: withoutMemory(async () => ({ primaryKey: ['id'], typeNames: ['integer'], types: {} })),
    },
  )
  const part = next()
  peer.write(walData(0n, begin(200n, 0n, 1)))
  peer.write(walData(0n, relation(item)))
  peer.write(keepalive(150n, false))
  peer.write(walData(0n, insert(1, ['7'])))
  expect((await part).value).toMatchObject({ endLsn: null })
  expect(cuts).toEqual([2])
  const whole = next()
  peer.write(walData(0n, commit(200n, 230n, 0n)))
  expect((await whole).value).toMatchObject({ endLsn: 230n })
  await stream.close()
  peer.destroy()
})
