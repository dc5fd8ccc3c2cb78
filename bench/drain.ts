/** `npm run bench -- drain`: how fast a backlog is drained, beside pg_recvlogical, which drains the same WAL to nowhere. */
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { type Workload, type Result, REPEATS, report, rows, runEvert, runTimed, verify } from './contest.js'

export const DRAIN: readonly Workload[] = [
  {
    name: 'narrow, 100 rows a transaction',
    table: 'narrow',
    rows: rows(1_000_000),
    fill: `call fill_narrow(${rows(1_000_000)}, 100)`,
  },
  {
    name: 'narrow, 1 row a transaction',
    table: 'narrow',
    rows: rows(300_000),
    fill: `call fill_narrow(${rows(300_000)}, 1)`,
  },
  {
    name: 'wide, 100 rows a transaction',
    table: 'wide',
    rows: rows(300_000),
    fill: `call fill_wide(${rows(300_000)}, 100)`,
  },
]

export async function drainWorkload(workload: Workload, server: string, kafka: string): Promise<void> {
  const database = `bench_${DRAIN.indexOf(workload)}`
  await query(server, `create database ${database}`)
  const url = server.replace(/[^/]*$/, database)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(readFileSync(new URL('./workloads.sql', import.meta.url), 'utf8'))
  await client.query(`select pg_create_logical_replication_slot('${database}', 'pgoutput')`)
  await client.query(workload.fill)
  const { rows: ends } = await client.query<{ lsn: string }>(
    `select pg_logical_emit_message(true, 'bench', 'end')::text as lsn`,
  )
  const { rows: after } = await client.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
  await client.query('checkpoint')
  const end = ends[0]?.lsn ?? ''
  const ours: Result[] = []
  const floor: Result[] = []
  for (let run = -1; run < REPEATS; run++) {
    const slot = `${database}_${run + 1}`
    for (const name of [`${slot}_e`, `${slot}_r`])
      await client.query(`select pg_copy_logical_replication_slot('${database}', '${name}')`)
    const evert = await runEvert({ url, kafka, slot: `${slot}_e`, end })
    const flags = `-S ${slot}_r --start -f - --endpos=${after[0]?.lsn} -o proto_version=1 -o publication_names=bench -o messages=true`
    const theirs = await runTimed(
      `pg_recvlogical -h 127.0.0.1 -p ${new URL(server).port} -U postgres -d ${database} ${flags}`,
    )
    await verify(kafka, `${slot}_e`, workload)
    for (const name of [`${slot}_e`, `${slot}_r`]) await dropSlot(client, name)
    // The first round warms up the broker and the caches.
    if (run === -1) continue
    ours.push(evert)
    floor.push(theirs)
  }
  await dropSlot(client, database)
  await client.end()
  report(workload, 'evert', ours, floor)
  report(workload, 'pg_recvlogical', floor, floor)
}

export async function query(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(text)
  await client.end()
}

export async function dropSlot(client: pg.Client, slot: string): Promise<void> {
  for (;;) {
    const { rows: found } = await client.query(
      `select 1 from pg_replication_slots where slot_name = '${slot}' and active`,
    )
    if (found.length === 0) break
  }
  await client.query(`select pg_drop_replication_slot('${slot}')`)
}
