/**
 * Commits that hang, because a synchronous standby does not answer: in the WAL and in the stream, but not yet visible. The server runs with
 * synchronous_standby_names = 'nobody' and synchronous_commit = 'local'.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { TestDatabase } from './servers.js'

export interface HangingCommits {
  /** Lets them go on; resolves when they are visible. */
  release(): Promise<void>
}

/** Resolves when each of the statements hangs in its COMMIT. */
export async function hangCommits(database: TestDatabase, statements: readonly string[]): Promise<HangingCommits> {
  const sessions = await Promise.all(statements.map(() => database.client()))
  const hanging = statements.map(async (statement, i) => {
    await sessions[i]?.query('set synchronous_commit = on')
    await sessions[i]?.query(statement)
  })
  const hung = `from pg_stat_activity where wait_event = 'SyncRep' and datname = '${database.name}'`
  while ((await database.query(`select 1 ${hung}`)).length < statements.length) await delay(20)
  return {
    async release() {
      await database.query(`select pg_cancel_backend(pid) ${hung}`)
      await Promise.all(hanging)
    },
  }
}
