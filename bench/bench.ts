/** `npm run bench -- COMMAND [WORKLOAD]`: what evert is measured by, with a Postgres and a Kafka broker of its own. */
import { spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { startKafka } from '../test/support/kafka.js'
import { startPostgres } from '../test/support/postgres.js'
import { REPEATS, type Workload } from './contest.js'
import { DRAIN, drainWorkload } from './drain.js'
import { SNAPSHOT, snapshotWorkload } from './snapshot.js'

interface Bench {
  readonly workloads: readonly Workload[]
  readonly run: (workload: Workload, server: string, kafka: string) => Promise<void>
  /** The contender that the ratios are of, a program of the distribution's Postgres package. */
  readonly floor: string
}

const BENCHES: Readonly<Record<string, Bench>> = {
  drain: { workloads: DRAIN, run: drainWorkload, floor: 'pg_recvlogical' },
  snapshot: { workloads: SNAPSHOT, run: snapshotWorkload, floor: 'psql' },
}

const [command = '', only = ''] = process.argv.slice(2)
const bench = BENCHES[command]
if (bench === undefined) {
  process.stderr.write(
    `usage: npm run bench -- ${Object.keys(BENCHES).join(' | ')} [workload, or how its name begins]\n`,
  )
  process.exit(2)
}
if (spawnSync(bench.floor, ['--version']).status !== 0) {
  process.stderr.write(`${bench.floor} is missing: it comes with the distribution's Postgres package\n`)
  process.exit(1)
}
const postgres = await startPostgres({
  settings: { shared_buffers: '512MB', max_wal_size: '16GB', max_replication_slots: '100', max_wal_senders: '100' },
})
const kafka = await startKafka()
try {
  process.stdout.write(
    `${new Date().toISOString().slice(0, 10)}, Node ${process.version}, Postgres 18, Kafka 4.3, ${cpus().length} cores (${cpus()[0]?.model ?? '?'}), median of ${REPEATS}\n\n`,
  )
  process.stdout.write(
    `| workload | who | rows/s | of ${bench.floor} | CPU µs/row | peak RSS MB | spread rows/s |\n|---|---|---|---|---|---|---|\n`,
  )
  for (const workload of bench.workloads.filter(({ name }) => name.startsWith(only)))
    await bench.run(workload, postgres.url('postgres'), kafka.bootstrap)
} finally {
  await postgres.stop()
  await kafka.stop()
}
