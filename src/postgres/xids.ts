/** Transaction ids: what a snapshot sees now, and which id comes next. */
import type { Connection } from './connection.js'
import { sql } from './sql.js'
import { Visibility } from './visibility.js'

export async function askVisibility(
  connection: Connection,
): Promise<{ readonly visibility: Visibility; readonly nextXid: number; readonly standby: boolean }> {
  const [row] = await connection.query(sql('xids'))
  const nextXid = Number(BigInt(row?.['next_xid'] ?? 0) & 0xffffffffn)
  return { visibility: new Visibility(row?.['snapshot'] ?? ''), nextXid, standby: row?.['standby'] === 't' }
}
