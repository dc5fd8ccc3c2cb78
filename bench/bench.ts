/** `npm run bench -- drain`: how fast a backlog is drained, beside pg_recvlogical, which drains the same WAL to nowhere. */
import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import pg from 'pg'
import { silentLogger } from '../src/base/logger.js'
import { positionIn } from '../src/log/position-in.js'
import { openKafkaLog } from '../src/log/kafka/log.js'
import { startKafka } from '../test/support/kafka.js'
import { startPostgres } from '../test/support/postgres.js'

interface Workload {
  readonly name: string
  readonly table: string
  readonly rows: number
  readonly fill: string
}

interface Result {
  readonly seconds: number
  readonly cpuUs: number
  readonly rssMB: number
}

const SCALE = Number(process.env['BENCH_SCALE'] ?? 1)
const REPEATS = Number(process.env['BENCH_REPEATS'] ?? 5)
const rows = (count: number): number => Math.round((count * SCALE) / 10_000) * 10_000

const WORKLOADS: readonly Workload[] = [
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

const [command, only = ''] = process.argv.slice(2)
if (command !== 'drain') {
  process.stderr.write('usage: npm run bench -- drain [workload, or how its name begins]\n')
  process.exit(2)
}
if (spawnSync('pg_recvlogical', ['--version']).status !== 0) {
  process.stderr.write(`pg_recvlogical is missing: it comes with the distribution's Postgres server package\n`)
  process.exit(1)
}
await drain()

async function drain(): Promise<void> {
  const postgres = await startPostgres({
    settings: { shared_buffers: '512MB', max_wal_size: '16GB', max_replication_slots: '100', max_wal_senders: '100' },
  })
  const kafka = await startKafka()
  try {
    process.stdout.write(
      `${new Date().toISOString().slice(0, 10)}, Node ${process.version}, Postgres 18, Kafka 4.3, ${cpus().length} cores (${cpus()[0]?.model ?? '?'}), median of ${REPEATS}\n\n`,
    )
    process.stdout.write(
      '| workload | who | rows/s | of pg_recvlogical | CPU µs/row | peak RSS MB | spread rows/s |\n|---|---|---|---|---|---|---|\n',
    )
    for (const workload of WORKLOADS.filter(({ name }) => name.startsWith(only)))
      await drainWorkload(workload, postgres.url('postgres'), kafka.bootstrap)
  } finally {
    await postgres.stop()
    await kafka.stop()
  }
}

async function drainWorkload(workload: Workload, server: string, kafka: string): Promise<void> {
  const database = `bench_${WORKLOADS.indexOf(workload)}`
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
    const theirs = await runRecvlogical({ database, server, slot: `${slot}_r`, end: after[0]?.lsn ?? '' })
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

async function query(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(text)
  await client.end()
}

async function dropSlot(client: pg.Client, slot: string): Promise<void> {
  for (;;) {
    const { rows: found } = await client.query(
      `select 1 from pg_replication_slots where slot_name = '${slot}' and active`,
    )
    if (found.length === 0) break
  }
  await client.query(`select pg_drop_replication_slot('${slot}')`)
}

async function runEvert(options: { url: string; kafka: string; slot: string; end: string }): Promise<Result> {
  const script = new URL('./evert-drain.js', import.meta.url).pathname
  const child = spawn(process.execPath, [script, options.url, options.kafka, options.slot, options.end], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return JSON.parse(await output(child)) as Result
}

async function runRecvlogical(options: {
  database: string
  server: string
  slot: string
  end: string
}): Promise<Result> {
  const { port } = new URL(options.server)
  const flags = `-h 127.0.0.1 -p ${port} -U postgres -d ${options.database} -S ${options.slot} --start -f - --endpos=${options.end} -o proto_version=1 -o publication_names=bench -o messages=true`
  const child = spawn('bash', ['-c', `TIMEFORMAT='%R %U %S'; time pg_recvlogical ${flags} > /dev/null`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await output(child)
  const [seconds = 0, user = 0, system = 0] = (said.trim().split('\n').at(-1) ?? '').split(' ').map(Number)
  return { seconds, cpuUs: (user + system) * 1e6, rssMB: 0 }
}

async function output(child: ReturnType<typeof spawn>): Promise<string> {
  let text = ''
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  if (code !== 0) throw new Error(`a contender failed with ${code}`)
  return text
}

/** Reads the topic back: a run that is not complete, in order and once is no result. */
async function verify(kafka: string, name: string, workload: Workload): Promise<void> {
  const [host = '', port = ''] = kafka.split(':')
  const topics = { partitions: 1, replicationFactor: -1, retention: 'forever' } as const
  const log = await openKafkaLog({
    brokers: [{ host, port: Number(port) }],
    clientId: 'verify',
    tls: null,
    sasl: null,
    topics,
    compression: 'none',
    transactionTimeoutMs: 1000,
    logger: silentLogger,
  })
  const topic = `${name}.public.${workload.table}`
  const { earliest, end } = await log.offsets(topic, 0)
  let count = 0
  let last = ''
  for await (const record of log.read({
    topic,
    partition: 0,
    from: earliest,
    until: end,
    signal: new AbortController().signal,
  })) {
    const position = positionIn(record) ?? ''
    if (position <= last) throw new Error(`${topic}: ${position} came after ${last}`)
    last = position
    count++
  }
  if (count !== workload.rows) throw new Error(`${topic} holds ${count} events instead of ${workload.rows}`)
  await log.deleteTopics([topic, `${name}.message`, `${name}.schema`])
  await log.close()
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}

function report(workload: Workload, who: string, results: readonly Result[], floor: readonly Result[]): void {
  const rates = results.map(({ seconds }) => workload.rows / seconds)
  const ratio = median(results.map(({ seconds }, run) => (floor[run]?.seconds ?? 0) / seconds))
  const cells = [
    workload.name,
    who,
    Math.round(median(rates)).toLocaleString('en'),
    ratio.toFixed(2),
    median(results.map(({ cpuUs }) => cpuUs / workload.rows)).toFixed(2),
    results[0]?.rssMB === 0 ? '–' : Math.round(Math.max(...results.map(({ rssMB }) => rssMB))),
    `${Math.round(Math.min(...rates)).toLocaleString('en')} to ${Math.round(Math.max(...rates)).toLocaleString('en')}`,
  ]
  process.stdout.write(`| ${cells.join(' | ')} |\n`)
}
