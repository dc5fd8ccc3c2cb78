/** A real standby of a real server: a base backup by the low-level API, streaming from its primary. */
import { execFileSync } from 'node:child_process'
import { chownSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LocalPostgres } from '../../src/cli/local-postgres.js'
import { startPostgres } from './postgres.js'
import { openSession } from './servers.js'

/** The physical slot that the standby streams from. */
export const STANDBY_SLOT = 'standby'

/** https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP */
export async function startStandby(
  primary: LocalPostgres,
  options: { readonly major: number; readonly settings?: Readonly<Record<string, string>> },
): Promise<LocalPostgres> {
  const session = await openSession(primary.url('postgres'))
  const { host, port } = primary
  await session(`select pg_create_physical_replication_slot('${STANDBY_SLOT}', true)`)
  return await startPostgres({
    major: options.major,
    settings: {
      primary_conninfo: `host=${host} port=${port} user=postgres dbname=postgres application_name=standby`,
      primary_slot_name: STANDBY_SLOT,
      hot_standby_feedback: 'on',
      wal_receiver_status_interval: '1',
      ...options.settings,
    },
    fill: async (dataDirectory) => {
      await session(`select pg_backup_start('standby', true)`)
      execFileSync('cp', ['-a', primary.dataDirectory, dataDirectory])
      const [stopped] = await session(`select labelfile from pg_backup_stop(false)`)
      write(dataDirectory, 'backup_label', stopped?.['labelfile'] ?? '')
      write(dataDirectory, 'standby.signal', '')
      // The slots of the primary are not the standby's.
      const slots = join(dataDirectory, 'pg_replslot')
      for (const slot of readdirSync(slots)) rmSync(join(slots, slot), { recursive: true })
      rmSync(join(dataDirectory, 'postmaster.pid'), { force: true })
    },
  })
}

/** With the owner of the data directory, who runs the server. */
function write(dataDirectory: string, name: string, text: string): void {
  const file = join(dataDirectory, name)
  writeFileSync(file, text)
  const { uid, gid } = statSync(dataDirectory)
  chownSync(file, uid, gid)
}
