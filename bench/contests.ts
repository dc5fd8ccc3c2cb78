/**
 * `npm run bench -- drain | more | cost | snapshot`: contenders that do the same work in turns. Beside evert there is always what the server
 * can send to anybody: pg_recvlogical reads the same changes to nowhere, and psql's \copy the same rows.
 */
import zlib from 'node:zlib'
import { compete, type Contender, type Servers } from './contest.js'
import { DEBEZIUM, DEBEZIUM_AS_SHIPPED, DEBEZIUM_SNAPSHOT } from './contenders/debezium.js'
import { evert, evertSnapshot } from './contenders/evert.js'
import { KAFKAJS } from './contenders/kafkajs.js'
import { pgRecvlogical } from './contenders/pg-recvlogical.js'
import { psqlCopy } from './contenders/psql.js'
import { barChart, barsOf, type Cells, conditions, contestCells, contestHead, publish, table, tell } from './report.js'
import { type ContestTarget, judgeContest } from './targets.js'
import { chosen, COST, DRAIN, MORE, SNAPSHOT, type Workload } from './workloads.js'

const FLOOR = pgRecvlogical('pg_recvlogical')
const FLOOR_TLS = pgRecvlogical('pg_recvlogical, TLS', { tls: true })
const OURS = evert('evert', { floor: FLOOR.name })
const OURS_TLS = evert('evert, TLS', { floor: FLOOR_TLS.name, tls: true })
const PARTITIONED = evert('evert, 6 partitions', { floor: FLOOR.name, partitions: 6 })
const OUR_SNAPSHOT = evertSnapshot('evert, 2 readers', { floor: 'psql \\copy' })
const COPY = psqlCopy('psql \\copy')
const COPY_TLS = psqlCopy('psql \\copy, TLS', { tls: true })

/** Node has it from 22.15 on. */
const ZSTD = 'zstdCompressSync' in zlib ? ['zstd'] : []

const BY_FORMAT = [
  ...['evert', 'plain', 'debezium', 'cloudevents'].map((format) => ({ format, compression: 'none' })),
  ...['lz4', 'snappy', 'gzip', ...ZSTD].map((compression) => ({ format: 'evert', compression })),
].map((variant) => evert(`${variant.format}, ${variant.compression}`, { floor: 'evert, none', ...variant }))

interface Contest {
  readonly name: string
  readonly workloads: readonly Workload[]
  /** By workload. */
  readonly targets?: readonly (readonly ContestTarget[])[]
  /** Shares are of the floor of the first. */
  readonly contenders: readonly Contender[]
  /** More of them, for the first workload alone. */
  readonly besideFirst?: readonly Contender[]
}

/** The three workloads that figures of others are known of, with everybody. */
export const drain = contest({
  name: 'drain',
  workloads: DRAIN,
  contenders: [OURS, FLOOR, OURS_TLS, FLOOR_TLS, KAFKAJS, DEBEZIUM],
  // As nobody should run it, it takes more than a third of a round.
  besideFirst: [PARTITIONED, DEBEZIUM_AS_SHIPPED],
  targets: [
    [
      { who: OURS, of: FLOOR, atLeast: 1.5, cpuAtMost: 1.5 },
      { who: OURS_TLS, of: FLOOR_TLS, atLeast: 1, cpuAtMost: 4 },
      { who: OURS, of: DEBEZIUM, atLeast: 8 },
    ],
    [{ who: OURS, of: FLOOR, atLeast: 1.8 }],
    [
      { who: OURS, of: FLOOR, atLeast: 0.9, cpuAtMost: 4.5 },
      { who: OURS_TLS, of: FLOOR_TLS, atLeast: 0.9, cpuAtMost: 7 },
      { who: OURS, of: DEBEZIUM, atLeast: 5 },
    ],
  ],
})

/** What else a database does, without peers, over a plain connection: what TLS adds to it is what it adds to a drain. */
export const more = contest({ name: 'more', workloads: MORE, contenders: [OURS, FLOOR] })

/** Bytes, CPU and memory by format and compression. */
export const cost = contest({ name: 'cost', workloads: COST, contenders: BY_FORMAT })

export const snapshot = contest({
  name: 'snapshot',
  workloads: SNAPSHOT,
  contenders: [
    OUR_SNAPSHOT,
    COPY,
    evertSnapshot('evert, 2 readers, TLS', { floor: COPY_TLS.name, tls: true }),
    COPY_TLS,
  ],
  besideFirst: [DEBEZIUM_SNAPSHOT],
  targets: [
    [
      { who: OUR_SNAPSHOT, of: COPY, atLeast: 0.28 },
      { who: OUR_SNAPSHOT, of: DEBEZIUM_SNAPSHOT, atLeast: 10 },
    ],
  ],
})

function contest({
  name,
  workloads,
  contenders,
  besideFirst = [],
  targets = [],
}: Contest): (servers: Servers, only: string) => Promise<void> {
  return async (servers, only) => {
    const rows: Cells[] = []
    const bars = []
    for (const workload of chosen(workloads, only)) {
      const index = workloads.indexOf(workload)
      const all = index === 0 ? [...contenders, ...besideFirst] : contenders
      const results = await compete(`bench_${name}_${index}`, workload, all, servers)
      const cells = contestCells(workload, results)
      for (const line of cells) tell(line)
      rows.push(...cells)
      bars.push(barsOf(workload, results))
      judgeContest(`${name}, ${workload.name}`, workload.changes, results, targets[index] ?? [])
    }
    const head = contestHead(contenders[0]?.floor ?? '')
    await publish(name, `${conditions()}\n\n${table(head, rows)}`, { only, chart: barChart('rows/s', bars) })
  }
}
