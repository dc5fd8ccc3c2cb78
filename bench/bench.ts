/** `npm run bench -- COMMAND [WORKLOAD]`: what evert is measured by, with a Postgres and a Kafka broker of its own. */
import { spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { startKafka } from '../test/support/kafka.js'
import { startPostgres } from '../test/support/postgres.js'
import { backfill } from './backfill.js'
import { REPEATS, type Workload } from './contest.js'
import { DRAIN, drainWorkload } from './drain.js'
import { functions } from './functions.js'
import { latency } from './latency.js'
import { SNAPSHOT, snapshotWorkload } from './snapshot.js'

interface Servers {
  readonly postgres: string
  readonly kafka: string
}

type Bench = (servers: Servers, only: string) => Promise<void>

/** By command: what starts with servers of its own, and prints a table. */
const BENCHES: Readonly<Record<string, Bench>> = {
  drain: contest(DRAIN, drainWorkload, 'pg_recvlogical'),
  snapshot: contest(SNAPSHOT, snapshotWorkload, 'psql'),
  backfill: ({ postgres, kafka }, only) => backfill(postgres, kafka, only),
  latency: ({ postgres, kafka }) => latency(postgres, kafka),
}

/** In turns with the floor that the ratios are of, a program of the distribution's Postgres package. */
function contest(
  workloads: readonly Workload[],
  run: (workload: Workload, server: string, kafka: string) => Promise<void>,
  floor: string,
): Bench {
  return async ({ postgres, kafka }, only) => {
    if (spawnSync(floor, ['--version']).status !== 0)
      throw new Error(`${floor} is missing: it comes with the distribution's Postgres package`)
    process.stdout.write(
      `| workload | who | rows/s | of ${floor} | CPU µs/row | peak RSS MB | spread rows/s |\n|---|---|---|---|---|---|---|\n`,
    )
    for (const workload of workloads.filter(({ name }) => name.startsWith(only))) await run(workload, postgres, kafka)
  }
}

const [command = '', only = ''] = process.argv.slice(2)
const bench = BENCHES[command]
if (command === 'functions') {
  functions()
  process.exit(0)
}
if (bench === undefined) {
  const known = [...Object.keys(BENCHES), 'functions'].join(' | ')
  process.stderr.write(`usage: npm run bench -- ${known} [workload, or how its name begins]\n`)
  process.exit(2)
}
const postgres = await startPostgres({
  settings: { shared_buffers: '512MB', max_wal_size: '16GB', max_replication_slots: '100', max_wal_senders: '100' },
})
// The broker stamps what it appends where that is compared with when it was committed.
const stamped: Readonly<Record<string, string>> = { 'log.message.timestamp.type': 'LogAppendTime' }
const kafka = await startKafka({ settings: command === 'backfill' ? stamped : {} })
try {
  process.stdout.write(
    `${new Date().toISOString().slice(0, 10)}, Node ${process.version}, Postgres 18, Kafka 4.3, ${cpus().length} cores (${cpus()[0]?.model ?? '?'}), median of ${REPEATS}\n\n`,
  )
  await bench({ postgres: postgres.url('postgres'), kafka: kafka.bootstrap }, only)
} finally {
  await postgres.stop()
  await kafka.stop()
}
