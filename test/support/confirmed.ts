/** Waits until the slot of a pipeline confirms everything that was committed so far: then the log has it. */
import type { TestDatabase } from './servers.js'

export async function confirmed(database: TestDatabase): Promise<void> {
  const [row] = await database.query(`select pg_logical_emit_message(true, 'test', 'mark')::text as lsn`)
  const is = `select 1 from pg_replication_slots where slot_name = '${database.name}' and confirmed_flush_lsn >= '${row?.['lsn'] ?? ''}'`
  while ((await database.query(is)).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
}
