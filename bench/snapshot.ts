/** `npm run bench -- snapshot`: how fast the rows of a table become events, beside psql's \copy, which reads the same rows to nowhere. */
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { REPEATS, report, type Result, rows, runEvert, runTimed, verify, type Workload } from './contest.js'
import { dropSlot, query } from './drain.js'

export const SNAPSHOT: readonly Workload[] = [
  { name: 'narrow rows', table: 'narrow', rows: rows(1_000_000), fill: `call fill_narrow(${rows(1_000_000)}, 10000)` },
  { name: 'wide rows', table: 'wide', rows: rows(300_000), fill: `call fill_wide(${rows(300_000)}, 10000)` },
]

export async function snapshotWorkload(workload: Workload, server: string, kafka: string): Promise<void> {
  const database = `bench_snapshot_${SNAPSHOT.indexOf(workload)}`
  await query(server, `create database ${database}`)
  const url = server.replace(/[^/]*$/, database)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(readFileSync(new URL('./workloads.sql', import.meta.url), 'utf8'))
  await client.query(workload.fill)
  await client.query('vacuum freeze analyze')
  const ours: Result[] = []
  const floor: Result[] = []
  for (let run = -1; run < REPEATS; run++) {
    const slot = `${database}_${run + 1}`
    const evert = await runEvert({ url, kafka, slot, end: 'snapshot' })
    const theirs = await runTimed(`psql -qX '${url}' -c '\\copy ${workload.table} to stdout'`)
    await verify(kafka, slot, workload)
    await dropSlot(client, slot)
    // The first round warms up the broker and the caches.
    if (run === -1) continue
    ours.push(evert)
    floor.push(theirs)
  }
  await client.end()
  report(workload, 'evert', ours, floor)
  report(workload, 'psql \\copy', floor, floor)
}
