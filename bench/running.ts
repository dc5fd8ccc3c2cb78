/** A pipeline as `evert run` makes it, beside a database that is written to, and whether its log has everything. */
import type pg from 'pg'
import { parseLsn } from '../src/event/lsn.js'
import { byPosition, connected, discard, endOfTransactions, makeDatabase, readBack, type Servers } from './contest.js'
import { type Listening, startListening } from './listening.js'

export interface Running {
  /** Of the database, the slot and the pipeline. */
  readonly name: string
  readonly evert: Listening
  readonly client: pg.Client
  readonly url: string
}

export async function startRunning(
  servers: Servers,
  name: string,
  parameters: readonly string[] = [],
  retention = 'compact',
): Promise<Running> {
  const url = await makeDatabase(servers, name)
  const client = await connected(url)
  const from = ['--source', url, '--publication', 'bench', '--snapshot', 'none']
  const into = ['--log', `kafka://${servers.kafka}`, '--name', name, '--partitions', '1', '--retention', retention]
  return { name, url, client, evert: await startListening(['run', ...from, ...into, ...parameters]) }
}

/** Where the WAL ends now, at the end of a transaction. */
export async function endOfWal(client: pg.Client): Promise<number> {
  return Number(parseLsn(await endOfTransactions(client)))
}

/** Resolves when everything up to there is in the log. */
export async function inLog(evert: Listening, lsn: number): Promise<void> {
  while (((await evert.metric('evert_end_lsn')) ?? 0) < lsn) await evert.moment()
}

/** Resolves when what is committed by now is in the log. */
export async function caughtUp({ client, evert }: Running): Promise<void> {
  await inLog(evert, await endOfWal(client))
}

/** Ends it, and reads back what it has made. */
export async function finish(
  servers: Servers,
  { name, evert, client }: Running,
  tables: readonly string[],
  records: number,
): Promise<void> {
  await evert.stop()
  await readBack(servers, { pipeline: name, tables, records, place: byPosition })
  await discard(servers, name, client)
}
