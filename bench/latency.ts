/**
 * `npm run bench -- latency`: how long after its COMMIT a change is with a read_committed consumer, with `evert run` as it comes: commits are
 * stamped by the server, arrivals by a consumer (kafkajs) in a process of its own, by the same clock.
 */
import { spawn } from 'node:child_process'
import pg from 'pg'
import { startCli } from '../test/support/cli.js'
import { makeDatabase, over, type Servers } from './contest.js'
import { type Cells, conditions, publish, table, tell } from './report.js'
import { judge } from './targets.js'

const SECONDS = Math.max(2, Math.round(20 * Number(process.env['BENCH_SCALE'] ?? 1)))
const CLIENTS = 8
/** A broker that has just started is ten times slower, and where the cores are busy it takes minutes to compile what it does most. */
const LOADS = [
  { name: '1,000 one-row transactions a second', rate: 1000, warmingSeconds: 120, tls: false },
  { name: '1,000 one-row transactions a second, TLS', rate: 1000, warmingSeconds: 30, tls: true },
  { name: 'idle: 5 one-row transactions a second', rate: 5, warmingSeconds: 15, tls: false },
] as const

const HEAD: Cells = ['load', 'transactions/s', 'p50 ms', 'p95 ms', 'p99 ms', 'max ms']

export async function latency(servers: Servers): Promise<void> {
  const rows: Cells[] = []
  for (const load of LOADS) {
    rows.push(await measure(`bench_latency_${LOADS.indexOf(load)}`, load, servers))
    tell(rows.at(-1) ?? [])
  }
  await publish('latency', `${conditions(null)}\n\n${table(HEAD, rows)}`)
}

async function measure(
  database: string,
  { name, rate, warmingSeconds, tls }: (typeof LOADS)[number],
  servers: Servers,
): Promise<Cells> {
  const url = await makeDatabase(servers, database)
  const from = ['run', '--source', over(url, { tls }), '--tables', 'public.narrow']
  const evert = startCli([...from, '--log', `kafka://${servers.kafka}`])
  await evert.says('"streaming"')
  const script = new URL('./latency-consumer.js', import.meta.url).pathname
  const warming = rate * warmingSeconds
  const total = warming + rate * SECONDS
  const consumer = spawn(
    process.execPath,
    [script, servers.kafka, `${database}.public.narrow`, String(total), String(warming)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const said: string[] = []
  const ended = new Promise<number | null>((resolve) => consumer.once('close', resolve))
  const joined = new Promise<void>((resolve) => {
    consumer.stdout.on('data', (chunk: Buffer) => {
      said.push(chunk.toString())
      resolve()
    })
  })
  await joined
  const seconds = await write(url, { rate, total })
  if ((await ended) !== 0) throw new Error('the consumer failed')
  evert.process.kill('SIGTERM')
  await evert.ended
  const { p50, p95, p99, max } = JSON.parse(said.join('').split('\n')[1]!) as Record<string, number>
  if (rate >= 1000) {
    judge(`latency, ${name}: p50 ms`, p50! / 1000, { atMost: 4, digits: 1 })
    judge(`latency, ${name}: p99 ms`, p99! / 1000, { atMost: 15, digits: 1 })
  }
  const ms = [p50, p95, p99, max].map((us) => (us! / 1000).toFixed(1))
  return [name, Math.round(total / seconds), ...ms]
}

/** As evenly as timers allow, over several connections. Gives how many seconds it took. */
async function write(url: string, { rate, total }: { readonly rate: number; readonly total: number }): Promise<number> {
  const pool = new pg.Pool({ connectionString: url, max: CLIENTS })
  const startedMs = performance.now()
  const writing: Promise<unknown>[] = []
  while (writing.length < total) {
    const due = Math.min(total, Math.ceil(((performance.now() - startedMs) / 1000) * rate))
    while (writing.length < due) {
      const id = writing.length
      const text = { name: 'insert', text: `insert into narrow values ($1, 1, 'some text', now())`, values: [id] }
      writing.push(pool.query(text))
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(writing)
  const seconds = (performance.now() - startedMs) / 1000
  await pool.end()
  return seconds
}
