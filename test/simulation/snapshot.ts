/** Snapshot reader: the rows of all tables as they were at one LSN, into the sink, as src/postgres/snapshot.ts publishes them. */
import { EVERT } from '../../src/event/formats.js'
import { toLsn } from '../../src/event/lsn.js'
import { Transcoder } from '../../src/event/transcoder.js'
import { NULL, TEXT, Tuple } from '../../src/event/tuple.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import type { FilledRecords, LogWriter } from '../../src/log/log.js'
import { type RelationMemory, Tables } from '../../src/postgres/tables.js'
import type { Snapshot } from './ledger.js'
import type { Machine } from './machine.js'
import type { Value } from './postgres/messages.js'
import type { Server } from './postgres/server.js'

const POLL_MS = 25

/** Like the creation of a slot, it waits until no transaction runs. */
export async function takeSnapshot(machine: Machine, server: Server): Promise<Snapshot> {
  for (;;) {
    const { snapshot } = await server.query(machine, () => ({ snapshot: server.database.snapshot() }))
    if (snapshot !== null) return snapshot
    await machine.delay(POLL_MS, machine.signal)
  }
}

export async function* snapshotRows(
  snapshot: Snapshot,
  at: {
    readonly machine: Machine
    readonly server: Server
    readonly pipeline: string
    readonly relations: RelationMemory
    readonly writer: LogWriter
    readonly batchBytes: number
    readonly cut: () => FilledRecords
  },
): AsyncGenerator<FilledRecords> {
  const { sink } = at.writer
  const largeValues = { omit: false, onSkip: () => undefined }
  const transcoder = new Transcoder(sink, EVERT, largeValues)
  transcoder.begin({ commitLsn: toLsn(snapshot.lsn - 1n), timeUs: 0n, xid: null, snapshot: true })
  const options = { ...at, sink, values: DEFAULT_VALUES, envelope: EVERT, largeValues }
  const tables = new Tables(options, transcoder)
  for (const { relation, rows } of snapshot.tables) {
    const compiled = await tables.open(relation)
    for (const row of rows) {
      transcoder.snapshotRow(compiled, Number(snapshot.lsn >> 32n), Number(snapshot.lsn & 0xffffffffn), tuple(row))
      if (sink.bytes >= at.batchBytes) yield at.cut()
      else await at.machine.delay(at.machine.world.random.next())
    }
  }
}

function tuple(row: readonly Value[]): Tuple {
  const made = new Tuple()
  const values = row.map((value) => Buffer.from(typeof value === 'string' ? value : ''))
  made.bytes = Buffer.concat(values)
  made.count = row.length
  made.size = made.bytes.length
  let at = 0
  for (const [column, bytes] of values.entries()) {
    made.state[column] = typeof row[column] === 'string' ? TEXT : NULL
    made.start[column] = at
    made.end[column] = at += bytes.length
  }
  return made
}
