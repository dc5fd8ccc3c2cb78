/** A pipeline as `evert run` makes it, beside a database that is written to, and whether its log has everything. */
import pg from 'pg'
import { positionIn } from '../src/log/position-in.js'
import { dropSlot, makeDatabase, query, readBack, type Servers } from './contest.js'
import { type Listening, startListening } from './listening.js'

export interface Running {
  /** Of the database, the slot and the pipeline. */
  readonly name: string
  readonly evert: Listening
  readonly client: pg.Client
}

export async function startRunning(
  servers: Servers,
  name: string,
  parameters: readonly string[] = [],
  retention = 'forever',
): Promise<Running> {
  const url = await makeDatabase(servers, name)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const from = ['--source', url, '--publication', 'bench', '--snapshot', 'none']
  const into = ['--log', `kafka://${servers.kafka}`, '--name', name, '--partitions', '1', '--retention', retention]
  return { name, client, evert: await startListening(['run', ...from, ...into, ...parameters]) }
}

/** Resolves when what is committed by now is in the log. Gives the LSN of its end. */
export async function caughtUp({ client, evert }: Running): Promise<number> {
  const end = `select pg_logical_emit_message(true, 'bench', 'end') - '0/0'::pg_lsn as end`
  const lsn = Number((await client.query<{ end: string }>(end)).rows[0]?.end)
  while (((await evert.metric('evert_end_lsn')) ?? 0) < lsn) await evert.moment()
  return lsn
}

/** Ends it, and reads back what it has made. */
export async function finish(
  servers: Servers,
  { name, evert, client }: Running,
  tables: readonly string[],
  records: number,
): Promise<void> {
  await evert.stop()
  await readBack(servers, { pipeline: name, tables, records, place: (record) => positionIn(record) ?? '' })
  await dropSlot(client, name)
  await client.end()
  await query(servers.postgres, `drop database ${name}`)
}
