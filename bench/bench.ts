/** `npm run bench -- COMMAND [WORKLOAD]`: what evert is measured by, with a Postgres and a Kafka broker of its own. */
import { spawnSync } from 'node:child_process'
import { killAll } from '../test/support/cli.js'
import { startKafka } from '../test/support/kafka.js'
import { makeCertificate, startPostgres } from '../test/support/postgres.js'
import { backfill } from './backfill.js'
import { postgresClient } from './contenders/processes.js'
import type { Servers } from './contest.js'
import { cost, drain, more, snapshot } from './contests.js'
import { functions } from './functions.js'
import { latency } from './latency.js'
import { memory } from './memory.js'
import { outage } from './outage.js'
import { scale } from './scale.js'
import { soak } from './soak.js'
import { start } from './start.js'
import { publishTargets } from './targets.js'

type Bench = (servers: Servers, only: string) => Promise<void>

/** The short ones first. */
const BENCHES: Readonly<Record<string, Bench>> = {
  start,
  latency,
  snapshot,
  outage,
  memory,
  drain,
  scale,
  more,
  cost,
  backfill,
  soak,
}

/** Of the broker, by benchmark. */
const KAFKA: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  // It stamps what it appends, which is compared with when it was committed.
  backfill: { 'log.message.timestamp.type': 'LogAppendTime' },
  memory: { 'message.max.bytes': '250000000', 'socket.request.max.bytes': '300000000' },
  // 12,000 partitions: files of 10 MB for the index of each would fill the page cache.
  scale: { 'log.index.size.max.bytes': '65536' },
  soak: {
    'log.retention.bytes': '1000000000',
    'log.segment.bytes': '200000000',
    'log.retention.check.interval.ms': '5000',
    'log.segment.delete.delay.ms': '1000',
  },
}

const [command = '', only = ''] = process.argv.slice(2)
if (command === 'functions') {
  functions()
  process.exit(0)
}
// The soak takes half an hour by itself.
const chosen = command === 'all' ? Object.keys(BENCHES).filter((name) => name !== 'soak') : [command]
if (BENCHES[chosen[0] ?? ''] === undefined) {
  const known = [...Object.keys(BENCHES), 'all', 'functions'].join(' | ')
  process.stderr.write(`usage: npm run bench -- ${known} [workload, or how its name begins]\n`)
  process.exit(2)
}
for (const program of ['pg_recvlogical', 'psql'])
  if (spawnSync(postgresClient(program), ['--version']).status !== 0)
    throw new Error(`${program} is missing: it comes with the distribution's Postgres package`)
if (command === 'all' && only !== '') throw new Error('"all" takes no workload')
let failed = false
for (const name of chosen) {
  try {
    await run(name)
  } catch (error) {
    // The others are not asked to wait for it.
    process.stderr.write(`${name} failed: ${error instanceof Error ? error.stack : String(error)}\n`)
    failed = true
  }
}
await publishTargets({ all: command === 'all', only: failed ? command : only })
process.exit(failed ? 1 : 0)

/** Each with servers of its own: what one leaves behind is not the next one's. */
async function run(name: string): Promise<void> {
  const { certFile, keyFile } = makeCertificate()
  const postgres = await startPostgres({
    settings: {
      ssl: 'on',
      ssl_cert_file: certFile,
      ssl_key_file: keyFile,
      shared_buffers: '512MB',
      // As a database would that is to last: what a commit waits for is part of the latency, and of what writers write.
      fsync: 'on',
      full_page_writes: 'on',
      // It would run beside some of the rounds.
      autovacuum: 'off',
      max_wal_size: '16GB',
      max_replication_slots: '100',
      max_wal_senders: '100',
    },
  })
  try {
    const kafka = await startKafka({ settings: KAFKA[name] ?? {}, java: [] })
    try {
      await BENCHES[name]?.(
        {
          postgres: postgres.url('postgres'),
          postgresPid: postgres.pid,
          kafka: kafka.bootstrap,
          partitions: kafka.dataFolders[0]!,
          broker: kafka.brokers[0]!,
        },
        only,
      )
    } finally {
      // Of one that failed, which would run beside the next.
      await killAll()
      await kafka.stop()
    }
  } finally {
    await postgres.stop()
  }
}
