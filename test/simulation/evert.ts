/**
 * Evert: one attempt after the other on a machine, as src/pipeline.ts and src/attempt.ts make them: the real log, stream, bridge, resume
 * and progress on simulated sockets, brokers and time.
 */
import { EvertError, isRetriable } from '../../src/base/errors.js'
import { silentLogger } from '../../src/base/logger.js'
import { bridge, copySnapshot, cutBoth } from '../../src/bridge.js'
import { EVERT } from '../../src/event/formats.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import type { RelationDescription } from '../../src/event/relation.js'
import { toLsn } from '../../src/event/lsn.js'
import { openKafkaLog } from '../../src/log/kafka/log.js'
import type { KafkaOptions } from '../../src/log/kafka/options.js'
import { CopySocket } from '../../src/postgres/copy-socket.js'
import type { BatchLimits } from '../../src/postgres/batch.js'
import { ReplicationStream } from '../../src/postgres/replication-stream.js'
import type { RelationMemory } from '../../src/postgres/tables.js'
import type { ProgressKeeper } from '../../src/progress.js'
import { resume } from '../../src/resume.js'
import { type Brokers, PARTITIONS } from './kafka/brokers.js'
import { SimulatedCluster } from './kafka/network.js'
import type { Machine } from './machine.js'
import { type Server, WAL_SENDER_TIMEOUT_MS } from './postgres/server.js'
import { snapshotRows, takeSnapshot } from './snapshot.js'

export const PIPELINE = 'sim'

export interface Surroundings {
  readonly server: Server
  readonly brokers: Brokers
  readonly limits: BatchLimits
  /** Small ones, so that a partition gets several in one log transaction. */
  readonly batchBytes: number
  readonly transactionTimeoutMs: number
  /** Whether the rows that are there are published first. */
  readonly snapshot: 'initial' | 'none'
}

const STANDBY_MS = 500
const BACKOFF_FIRST_MS = 200
const BACKOFF_LAST_MS = 10_000

/** Until it is stopped. Errors: what ends a process of evert. */
export async function run(machine: Machine, around: Surroundings): Promise<void> {
  let failures = 0
  while (!machine.signal.aborted) {
    try {
      await attempt(machine, around, () => (failures = 0))
    } catch (error) {
      if (machine.signal.aborted) return
      machine.world.say(() => `${machine.name} fails: ${error instanceof Error ? error.message : String(error)}`)
      if (!isRetriable(error)) throw error
      const waitMs = Math.min(BACKOFF_FIRST_MS * 2 ** failures++, BACKOFF_LAST_MS)
      await machine.delay(waitMs, machine.signal).catch(() => undefined)
    }
  }
}

/** In the order of src/attempt.ts: take the slot, fence, read the progress, compare, stream. */
async function attempt(machine: Machine, around: Surroundings, onCommit: () => void): Promise<void> {
  const { server, brokers } = around
  const { signal } = machine
  const closers: (() => Promise<void>)[] = []
  try {
    const options = kafkaOptions(machine, around)
    const log = await openKafkaLog(options, () => new SimulatedCluster(options, { brokers, machine }))
    closers.push(() => log.close())
    const topics = server.database.tables.map(({ relation: { schema, table } }) => `${PIPELINE}.${schema}.${table}`)
    await log.createTopics(
      topics.map((name) => ({ name, keyed: true })),
      PIPELINE,
    )
    while ((await server.query(machine, () => ({ active: server.slot.sender !== null }))).active) {
      await machine.delay(STANDBY_MS, signal)
    }
    const wire = await server.connect(machine)
    const socket = new CopySocket(wire.socket, (work) => machine.after(0, work))
    closers.push(async () => socket.destroy())
    const stream = new ReplicationStream(socket, {
      slot: PIPELINE,
      publication: PIPELINE,
      walSenderTimeoutMs: WAL_SENDER_TIMEOUT_MS,
      isAlive: () => server.query(machine, () => server.holds(wire)),
      clock: machine,
    })
    closers.push(() => stream.close())
    await stream.open()
    const writer = await log.openWriter({ name: PIPELINE, signal })
    closers.push(() => writer.close())
    const { slot, own } = await server.query(machine, () => ({ slot: slotOf(server), own: server.holds(wire) }))
    // Frozen since, it may have lost the slot to another one, which has moved it.
    if (!own) throw new EvertError('SLOT_ACTIVE', { message: 'the slot was lost to another process' })
    const progress = resume(resumeOptions(around), {
      identity: identity(server),
      slot,
      created: null,
      writer,
      loss: null,
    })
    const common = {
      source: stream,
      writer,
      progress,
      limits: around.limits,
      signal,
      matches: () => true,
      pipeline: PIPELINE,
      relations: relationMemory(machine, server, progress),
      values: DEFAULT_VALUES,
      envelope: EVERT,
      largeValues: { omit: false, onSkip: () => undefined },
      skipsOrigin: () => false,
      nowUs: () => BigInt(machine.nowMs()) * 1000n,
      from: progress.state.endLsn,
      onCommit,
    }
    // As src/pipeline.ts does it.
    if (progress.state.snapshot === 'running') {
      const snapshot = await takeSnapshot(machine, server)
      const lsn = toLsn(snapshot.lsn)
      if (progress.state.endLsn < lsn) await bridge({ ...common, until: lsn })
      if (signal.aborted) return
      const at = { machine, server, pipeline: PIPELINE, relations: common.relations, writer }
      const rows = snapshotRows(snapshot, {
        ...at,
        batchBytes: around.limits.bytes,
        cut: () => cutBoth({ writer, progress }),
      })
      await copySnapshot({ rows, writer, progress, lsn, clock: machine, onCommit })
    }
    await bridge({ ...common, from: progress.state.endLsn })
  } finally {
    for (const close of closers.toReversed()) await close().catch(() => undefined)
  }
}

function kafkaOptions(machine: Machine, around: Surroundings): KafkaOptions {
  return {
    brokers: [1, 2, 3].map((id) => ({ host: `broker${id}`, port: 9092 })),
    clientId: machine.name,
    tls: null,
    sasl: null,
    topics: { partitions: PARTITIONS, replicationFactor: 3, retention: 'forever' },
    compression: 'none',
    batchBytes: around.batchBytes,
    transactionTimeoutMs: around.transactionTimeoutMs,
    logger: silentLogger,
    clock: machine,
  }
}

function resumeOptions({ snapshot }: Surroundings): Parameters<typeof resume>[0] {
  const connection = { database: PIPELINE } as Parameters<typeof resume>[0]['connection']
  return { name: PIPELINE, connection, snapshot, onLoss: 'stop', logger: silentLogger }
}

function identity(server: Server): Parameters<typeof resume>[1]['identity'] {
  const walEnd = toLsn(server.database.insertLsn)
  return { systemIdentifier: '1', timeline: 1, walEnd, ancestors: new Map() }
}

function slotOf(server: Server): Parameters<typeof resume>[1]['slot'] {
  return {
    name: PIPELINE,
    plugin: 'pgoutput',
    database: PIPELINE,
    activePid: null,
    temporary: false,
    restartLsn: null,
    confirmedFlushLsn: toLsn(server.slot.confirmedLsn),
    walStatus: 'reserved',
    lagBytes: null,
    invalidationReason: null,
  }
}

function relationMemory(machine: Machine, server: Server, progress: ProgressKeeper): RelationMemory {
  return {
    recall: (relation) => progress.recall(relation),
    remember: (relation, description) => progress.remember(relation, description),
    earlierKeys: (relation) => progress.earlierKeys(relation),
    ask: (relation) =>
      server.query(machine, (): RelationDescription => {
        const table = server.database.tables.find(({ relation: { oid } }) => oid === relation.oid)
        if (table === undefined) throw new EvertError('PROTOCOL', { message: 'a table is asked for that is not there' })
        return { primaryKey: table.primaryKey, typeNames: relation.columns.map(() => 'text'), types: {} }
      }),
  }
}
