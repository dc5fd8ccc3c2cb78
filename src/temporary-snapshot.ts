/** Temporary snapshot: of a slot that is made for nothing else, and goes at once. The stream carries every change after its LSN. */
import type { Closers } from './base/closers.js'
import type { Lsn } from './event/lsn.js'
import { sayWhatIsWaitedFor } from './pipeline-slot.js'
import { type Connection, connect } from './postgres/connection.js'
import { identifySystem, type Server, type SystemIdentity } from './postgres/server.js'
import { createTemporarySlot } from './postgres/slot.js'
import { Snapshot, type SnapshotOptions } from './postgres/snapshot.js'

export async function temporarySnapshot(
  options: Omit<SnapshotOptions, 'now' | 'snapshotName'>,
  at: { readonly connection: Connection; readonly server: Server },
  closers: Closers,
): Promise<{ readonly reader: Snapshot; readonly lsn: Lsn; readonly identity: SystemIdentity }> {
  const replication = await connect(options.connection, { kind: 'replication', signal: options.signal })
  try {
    const identity = await identifySystem(replication)
    const creation = createTemporarySlot(replication)
    const { consistentPoint, snapshotName } = await sayWhatIsWaitedFor(options, { ...at, replication }, creation)
    const reader = await Snapshot.open({ ...options, now: at.connection, snapshotName }, closers)
    return { reader, lsn: consistentPoint, identity }
  } finally {
    // The temporary slot goes with its connection; the readers hold the snapshot.
    await replication.close()
  }
}
