/**
 * `npm run bench -- backfill`: what a live backfill costs the stream. Transactions of 100 rows are written, before evert starts or while it runs,
 * and the clock stops when the last of them is in the log; without and with a backfill of another table, which was asked for before them.
 */
import type pg from 'pg'
import type { LogRecord } from '../src/log/log.js'
import {
  byPosition,
  connected,
  dropSlot,
  makeDatabase,
  median,
  query,
  readBack,
  REPEATS,
  type Result,
  type Servers,
} from './contest.js'
import { askedOf, type Listening, startListening } from './listening.js'
import { type Cells, conditions, figures, publish, table } from './report.js'
import { endOfWal, inLog } from './running.js'
import { chosen, count } from './workloads.js'

/** So many that they outlast the changes; a run where they do not is none. */
const BACKFILLED = count(4_000_000)

interface Load {
  readonly name: string
  readonly rows: number
  /** Written before evert starts. */
  readonly backlog: boolean
  /** Rows a second; null for as many as one connection writes. */
  readonly rate: number | null
}

const LOADS: readonly Load[] = [
  { name: 'backlog', rows: count(1_000_000), backlog: true, rate: null },
  { name: 'writer that never rests', rows: count(500_000), backlog: false, rate: null },
  { name: 'steady, 50,000 rows a second', rows: count(300_000), backlog: false, rate: 50_000 },
]

interface Run extends Result {
  /** From the commit to the broker, in ms, sorted. */
  readonly lags: Float64Array
}

interface Turn {
  readonly url: string
  readonly servers: Servers
  /** Of the pipeline. */
  readonly name: string
  readonly load: Load
  readonly beside: boolean
}

const HEAD: Cells = [
  'load',
  'who',
  'rows/s',
  'of alone',
  'CPU µs/row',
  'peak RSS MB',
  'spread rows/s',
  'lag ms p50, p99',
  'backfilled rows/s',
]

export async function backfill(servers: Servers, only: string): Promise<void> {
  const lines: Cells[] = []
  for (const load of chosen(LOADS, only)) {
    const database = `bench_backfill_${LOADS.indexOf(load)}`
    const url = await filled(servers, database)
    const alone: Run[] = []
    const both: Run[] = []
    for (let run = -1; run < REPEATS; run++) {
      for (const [runs, beside] of [
        [alone, false],
        [both, true],
      ] as const) {
        const result = await once({ url, servers, name: `${database}_${run + 1}_${beside ? 'b' : 'a'}`, load, beside })
        // The first round warms up the broker and the caches.
        if (run >= 0) runs.push(result)
      }
    }
    for (const [who, runs] of [
      ['alone', alone],
      ['beside a live backfill', both],
    ] as const) {
      const lag = (share: number): number =>
        Math.round(median(runs.map(({ lags }) => lags[Math.floor((lags.length - 1) * share)]!)))
      const rate = Math.round(median(runs.map(({ otherRows = 0, seconds }) => otherRows / seconds)))
      const more = [load.backlog ? '–' : `${lag(0.5)}, ${lag(0.99)}`, rate.toLocaleString('en')]
      const { rate: perSecond, share, cpu, rss, spread } = figures(load.rows, runs, alone)
      lines.push([load.name, who, perSecond, share, cpu, rss, spread, ...more])
    }
  }
  await publish('backfill', `${conditions()}\n\n${table(HEAD, lines)}`, { only })
}

async function filled(servers: Servers, database: string): Promise<string> {
  const url = await makeDatabase(servers, database)
  await query(url, `call fill_narrow(${BACKFILLED}, 10000)`)
  await query(
    url,
    `create table held (like narrow including all); insert into held select * from narrow;
    create publication held for table held, narrow`,
  )
  // Who reads them first has nothing to write then.
  await query(url, 'vacuum (freeze, analyze) held')
  return url
}

async function once(turn: Turn): Promise<Run> {
  const { url, servers, name, load, beside } = turn
  const client = await connected(url)
  try {
    await client.query('truncate narrow')
    await client.query('checkpoint')
    const result = await measured(turn, client)
    const lags: number[] = []
    const tables = beside ? ['narrow', 'held'] : ['narrow']
    const records = load.rows + (beside ? BACKFILLED : 0)
    const onRecord = (record: LogRecord): void => {
      if (record.topic.endsWith('.narrow')) lags.push(lagOf(record))
    }
    await readBack(servers, { pipeline: name, tables, records, place: byPosition, onRecord })
    await dropSlot(client, name)
    return { ...result, lags: Float64Array.from(lags).toSorted() }
  } finally {
    await client.end()
  }
}

async function measured({ url, servers, name, load, beside }: Turn, client: pg.Client): Promise<Result> {
  const from = ['--source', url, '--publication', 'held', '--snapshot', 'none']
  const into = ['--log', `kafka://${servers.kafka}`, '--name', name, '--partitions', '1']
  const start = async (): Promise<Listening> => await startListening(['run', ...from, ...into])
  const write = async (): Promise<number> => {
    await client.query(`call fill_narrow(${load.rows}, 100, ${load.rate})`)
    return await endOfWal(client)
  }
  let evert = await start()
  try {
    const of = async (metric: string): Promise<number> => (await evert.metric(metric)) ?? 0
    if (load.backlog) await evert.stop()
    if (beside) await askedOf(client, { pipeline: name, do: 'snapshot', id: 'held', tables: 'public.held' })
    let end = 0
    if (load.backlog) {
      end = await write()
      evert = await start()
    } else if (beside) {
      while ((await of('evert_backfill_rows')) === 0) await evert.moment()
    }
    const startedMs = performance.now()
    const [rowsBefore, cpuBefore] = [await of('evert_backfill_rows'), await evert.cpuUs()]
    if (!load.backlog) end = await write()
    await inLog(evert, end)
    const seconds = (performance.now() - startedMs) / 1000
    const [otherRows, cpuUs] = [(await of('evert_backfill_rows')) - rowsBefore, (await evert.cpuUs()) - cpuBefore]
    if (beside && (await of('evert_backfills')) === 0) throw new Error('the backfill was over before the changes were')
    while ((await of('evert_backfills')) > 0) await evert.moment()
    // It is told of before its last rows have committed.
    if (beside) await inLog(evert, await endOfWal(client))
    return { seconds, cpuUs, rssMB: evert.peakMB(), otherRows }
  } finally {
    await evert.stop()
  }
}

/** From the commit, by the server's clock, to the broker that appended it. */
function lagOf({ timestampMs, value }: LogRecord): number {
  return timestampMs - Number(/"ts_us":(\d+)/.exec(value?.toString('latin1') ?? '')?.[1]) / 1000
}
