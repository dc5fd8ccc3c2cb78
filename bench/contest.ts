/** Contest: contenders that do the same work in turns, and how fast each of them was. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { silentLogger } from '../src/base/logger.js'
import { openKafkaLog } from '../src/log/kafka/log.js'
import type { Log, LogRecord } from '../src/log/log.js'
import { positionIn } from '../src/log/position-in.js'
import type { KafkaBroker } from '../test/support/kafka.js'
import type { Workload } from './workloads.js'

export const REPEATS = Number(process.env['BENCH_REPEATS'] ?? 5)

export interface Servers {
  /** Of the superuser on the database "postgres". */
  readonly postgres: string
  readonly kafka: string
  /** Where the one broker keeps its partitions. */
  readonly partitions: string
  readonly broker: KafkaBroker
  /** Of the postmaster. */
  readonly postgresPid: number
}

/** What is to be done in one run. */
export interface Work {
  readonly workload: Workload
  /** Of the database, over a plain connection. */
  readonly url: string
  readonly kafka: string
  /** It is there, at the first change, where the workload is one of changes. Topics are called after it: `<slot>.public.<table>`. */
  readonly slot: string
  /** Start of the commit of the last change, or null where it is rows that are read; and an LSN behind it. */
  readonly end: string | null
  readonly after: string
}

export interface Result {
  readonly seconds: number
  /** User and system. */
  readonly cpuUs: number
  /** Peak of the process; 0 where it was not looked at. */
  readonly rssMB: number
  /** Rows of something else, which it had to do meanwhile. */
  readonly otherRows?: number
  /** What the broker stores of them. */
  readonly bytes?: number
}

export interface Contender {
  readonly name: string
  /** Of whose speed its own is a share. */
  readonly floor: string
  /** Its first run needs no warming up, and is long. */
  readonly slow?: boolean
  run(work: Work): Promise<Result>
  /** Rises from record to record of a topic; a contender that writes nowhere has none. */
  readonly place?: (record: LogRecord) => string
}

export type Results = ReadonlyMap<Contender, readonly Result[]>

/** In turns; the first round warms up the broker and the caches. Every topic is read back. */
export async function compete(
  name: string,
  workload: Workload,
  contenders: readonly Contender[],
  servers: Servers,
): Promise<Results> {
  const written = await write(servers, name, workload)
  const { client } = written
  const results = new Map<Contender, Result[]>(contenders.map((contender) => [contender, []]))
  for (let round = 0; round <= REPEATS; round++) {
    for (const contender of turns(contenders, round)) {
      if (round === 0 && contender.slow === true) continue
      const index = contenders.indexOf(contender)
      const slot = `${name}_${round}_${index}`
      if (workload.atRest !== true) await copySlot(client, name, slot)
      const result = await contender.run({ ...written, workload, kafka: servers.kafka, slot })
      const { place } = contender
      const { tables, changes, records = changes } = workload
      const bytes = place && (await readBack(servers, { pipeline: slot, tables, records, place }))
      await dropSlot(client, slot)
      if (round > 0) results.get(contender)?.push({ ...result, ...(bytes === undefined ? {} : { bytes }) })
    }
  }
  await discard(servers, name, client)
  return results
}

/** Each round begins with the next: who follows whom is not always the same. */
function turns(contenders: readonly Contender[], round: number): readonly Contender[] {
  const first = round % contenders.length
  return [...contenders.slice(first), ...contenders.slice(0, first)]
}

export interface Written extends Pick<Work, 'url' | 'after'> {
  readonly client: pg.Client
  readonly end: string
}

/** A database, and a slot of the same name at the first change of the workload. */
export async function write(
  servers: Servers,
  name: string,
  { before = [], fill, atRest = false }: Pick<Workload, 'before' | 'fill' | 'atRest'>,
): Promise<Written> {
  const url = await makeDatabase(servers, name)
  const client = await connected(url)
  for (const statement of before) await client.query(statement)
  await client.query(`select pg_create_logical_replication_slot('${name}', 'pgoutput')`)
  // As many transactions, but nobody waits for them.
  await client.query('set synchronous_commit to off')
  await client.query(fill)
  if (atRest) await client.query('vacuum (freeze, analyze)')
  const end = await endOfTransactions(client)
  const after = await lsn(client, 'pg_current_wal_insert_lsn()')
  await client.query('checkpoint')
  return { url, client, end, after }
}

async function lsn(client: pg.Client, of: string): Promise<string> {
  return (await client.query<{ lsn: string }>(`select ${of}::text as lsn`)).rows[0]?.lsn ?? ''
}

/** Of a transaction that is committed after all others. */
export async function endOfTransactions(client: pg.Client): Promise<string> {
  return await lsn(client, `pg_logical_emit_message(true, 'bench', 'end')`)
}

/** Drops the database, and the slot of the same name. */
export async function discard(servers: Servers, name: string, client: pg.Client): Promise<void> {
  await dropSlot(client, name)
  await client.end()
  await query(servers.postgres, `drop database ${name}`)
}

/** Of evert's records. */
export function byPosition(record: LogRecord): string {
  return positionIn(record) ?? ''
}

/** What has to be in the topics of a pipeline. */
export interface Expected {
  readonly pipeline: string
  readonly tables: readonly string[]
  readonly records: number
  /** Rises from record to record of a partition; a tombstone has none, and comes right behind the delete of its key. */
  readonly place: (record: LogRecord) => string
  readonly onRecord?: (record: LogRecord) => void
}

/** Reads the topics back, and deletes them. Gives the bytes that the broker stores. */
export async function readBack(servers: Servers, expected: Expected): Promise<number> {
  const log = await openLog(servers.kafka)
  const bytes = await check(log, servers, expected)
  await log.deleteTopics((await log.topics(`${expected.pipeline}.`)).map(({ name }) => name))
  await log.close()
  return bytes
}

/** A run that is not complete, in order and once is no result. Gives the bytes that the broker stores. */
export async function check(
  log: Log,
  { partitions }: Pick<Servers, 'partitions'>,
  expected: Expected,
): Promise<number> {
  const { pipeline, tables, place, onRecord } = expected
  const found = new Map((await log.topics(`${pipeline}.public.`)).map((topic) => [topic.name, topic.partitions]))
  let records = 0
  let bytes = 0
  for (const table of tables) {
    const topic = `${pipeline}.public.${table}`
    for (let partition = 0; partition < (found.get(topic) ?? 0); partition++) {
      const folder = join(partitions, `${topic}-${partition}`)
      for (const file of readdirSync(folder)) if (file.endsWith('.log')) bytes += statSync(join(folder, file)).size
      let [last, key] = ['', '']
      for await (const record of allOf(log, topic, partition)) {
        records++
        onRecord?.(record)
        const of = String(record.key)
        if (record.value === null) {
          if (of !== key) throw new Error(`${topic}-${partition}: a tombstone of ${of} came after ${key}`)
          key = ''
          continue
        }
        key = of
        const at = place(record)
        if (at <= last) throw new Error(`${topic}-${partition}: "${at}" came after "${last}"`)
        last = at
      }
    }
  }
  if (records !== expected.records) throw new Error(`${pipeline}: ${records} records instead of ${expected.records}`)
  return bytes
}

export async function openLog(kafka: string): Promise<Log> {
  const [host = '', port = ''] = kafka.split(':')
  return await openKafkaLog({
    brokers: [{ host, port: Number(port) }],
    clientId: 'bench',
    tls: null,
    sasl: null,
    topics: { partitions: 1, replicationFactor: -1, retention: 'forever' },
    compression: 'none',
    transactionTimeoutMs: 1000,
    logger: silentLogger,
  })
}

export async function* allOf(log: Log, topic: string, partition: number): AsyncIterable<LogRecord> {
  const { earliest, end } = await log.offsets(topic, partition)
  yield* log.read({ topic, partition, from: earliest, until: end, signal: new AbortController().signal })
}

/** A database with the tables and procedures of workloads.sql. Gives its URL, of a plain connection: the server offers TLS, and evert would take it. */
export async function makeDatabase(servers: Servers, name: string): Promise<string> {
  await query(servers.postgres, `create database ${name}`)
  const url = `${servers.postgres.replace(/[^/]*$/, name)}?sslmode=disable`
  await query(url, readFileSync(new URL('./workloads.sql', import.meta.url), 'utf8'))
  return url
}

/** The same database, by a connection as it was made, or over TLS. */
export function over(url: string, { tls }: { readonly tls: boolean }): string {
  return tls ? url.replace('sslmode=disable', 'sslmode=require') : url
}

export async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  // At the end of a benchmark that failed the server goes first; what counts is why it failed.
  client.on('error', () => undefined)
  await client.connect()
  return client
}

export async function query(url: string, text: string): Promise<void> {
  const client = await connected(url)
  await client.query(text)
  await client.end()
}

/** So that every run begins at the same change. */
export async function copySlot(client: pg.Client, from: string, to: string): Promise<void> {
  await client.query(`select pg_copy_logical_replication_slot('${from}', '${to}')`)
}

/** When nobody uses it any more. */
export async function dropSlot(client: pg.Client, slot: string): Promise<void> {
  const of = `from pg_replication_slots where slot_name = '${slot}'`
  while ((await client.query(`select 1 ${of} and active`)).rowCount !== 0)
    await new Promise((resolve) => setTimeout(resolve, 20))
  await client.query(`select pg_drop_replication_slot(slot_name) ${of}`)
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}
