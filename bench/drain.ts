/** `npm run bench -- drain`: how fast a backlog is drained, beside pg_recvlogical, which drains the same WAL to nowhere, and beside peers. */
import { barChart, barsOf, CONTEST_HEAD, conditions, contestCells, type Cells, publish, table } from './report.js'
import { compete, type Contender, type Servers } from './contest.js'
import { DEBEZIUM, DEBEZIUM_AS_SHIPPED } from './contenders/debezium.js'
import { evert } from './contenders/evert.js'
import { KAFKAJS } from './contenders/kafkajs.js'
import { pgRecvlogical } from './contenders/pg-recvlogical.js'
import { DRAIN, MORE, type Workload } from './workloads.js'

const OURS = evert('evert', { floor: 'pg_recvlogical' })
const FLOOR = pgRecvlogical('pg_recvlogical', 'disable')
const OVER_TLS = [
  evert('evert, TLS', { floor: 'pg_recvlogical, TLS', tls: true }),
  pgRecvlogical('pg_recvlogical, TLS', 'require'),
]
const PEERS = [KAFKAJS, DEBEZIUM, DEBEZIUM_AS_SHIPPED]

/** The three workloads that figures are known of, with everybody. */
export async function drain(servers: Servers, only: string): Promise<void> {
  await contest('drain', DRAIN, [OURS, FLOOR, ...OVER_TLS, ...PEERS], servers, only)
}

/** What else a database does, beside the floor. */
export async function more(servers: Servers, only: string): Promise<void> {
  await contest('more', MORE, [OURS, FLOOR, ...OVER_TLS], servers, only)
}

async function contest(
  name: string,
  workloads: readonly Workload[],
  contenders: readonly Contender[],
  servers: Servers,
  only: string,
): Promise<void> {
  const rows: Cells[] = []
  const bars = []
  for (const workload of workloads.filter((one) => one.name.startsWith(only))) {
    const results = await compete(`bench_${name}_${workloads.indexOf(workload)}`, workload, contenders, servers)
    process.stdout.write(table([], contestCells(workload, results)).split('\n').slice(2).join('\n'))
    rows.push(...contestCells(workload, results))
    bars.push(barsOf(workload, results))
  }
  const head = CONTEST_HEAD('pg_recvlogical')
  await publish(name, `${conditions()}\n\n${table(head, rows)}`, barChart('rows/s', bars))
}

/** Bytes, CPU and memory by format and compression. */
export async function cost(servers: Servers, only: string): Promise<void> {
  const variants = [
    ...['evert', 'plain', 'debezium', 'cloudevents'].map((format) => ({ format, compression: 'none' })),
    ...['lz4', 'snappy', 'zstd', 'gzip'].map((compression) => ({ format: 'evert', compression })),
  ]
  const first = `evert, none`
  const contenders = variants.map(({ format, compression }) =>
    evert(`${format}, ${compression}`, { floor: first, format, compression }),
  )
  const rows: Cells[] = []
  for (const workload of DRAIN.filter(({ name }) => name.includes('100 rows') && name.startsWith(only))) {
    const results = await compete(`bench_cost_${DRAIN.indexOf(workload)}`, workload, contenders, servers)
    rows.push(...contestCells(workload, results))
  }
  await publish('cost', `${conditions()}\n\n${table(CONTEST_HEAD(first), rows)}`)
}
