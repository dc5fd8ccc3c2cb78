/** `npm run bench -- scale`: what tables, partitions and pipelines cost beside what is written. */
import { cpuUs } from './contenders/processes.js'
import { runEvert, runEverts } from './contenders/evert.js'
import {
  byPosition,
  check,
  copySlot,
  discard,
  dropSlot,
  endOfTransactions,
  median,
  openLog,
  readBack,
  REPEATS,
  type Result,
  type Servers,
  write,
} from './contest.js'
import { type Cells, conditions, publish, table } from './report.js'
import { judge } from './targets.js'
import { chosen, count } from './workloads.js'

const TABLES = 8
/** As many for each table, in transactions of 100. */
const ROWS = Math.ceil(count(600_000) / (TABLES * 100)) * TABLES * 100
const SPREAD = { tables: 2000, partitions: 6, rows: count(200_000) }
const IDLE = 1000

const PARTS = [
  { name: 'pipelines', run: pipelines },
  { name: 'idle', run: idle },
  { name: 'spread', run: spread },
]

export async function scale(servers: Servers, only: string): Promise<void> {
  for (const { run } of chosen(PARTS, only)) await run(servers)
}

/** The same tables shared by more and more pipelines, each with a slot of its own. */
async function pipelines(servers: Servers): Promise<void> {
  const name = 'bench_pipelines'
  const names = Array.from({ length: TABLES }, (_, i) => `t${i}`)
  // As many as there are pipelines, in each split; they have to be there before what they publish.
  const splits = [1, 2, 4, 8].map((pipelineCount) =>
    Array.from({ length: pipelineCount }, (_, i) => ({
      publication: `split_${pipelineCount}_${i}`,
      tables: names.filter((one) => Number(one.slice(1)) % pipelineCount === i),
    })),
  )
  const made = await write(servers, name, {
    before: [
      ...names.map((one) => `create table ${one} (like narrow including all)`),
      ...splits
        .flat()
        .map(({ publication, tables }) => `create publication ${publication} for table ${tables.join(', ')}`),
    ],
    fill: `do $$ begin for i in 0 .. ${ROWS / 100 - 1} loop
       execute format('insert into t%s select g, g, md5(g::text), now() from generate_series(%s, %s) g', i % ${TABLES}, i * 100, i * 100 + 99);
       commit;
     end loop; end $$`,
  })
  const runs = splits.map((): (Result & { readonly serverUs: number })[] => [])
  for (let round = 0; round <= REPEATS; round++) {
    for (const [index, split] of splits.entries()) {
      const shares = split.map((share) => ({ ...share, slot: `${name}_${round}_${share.publication}` }))
      for (const { slot } of shares) await copySlot(made.client, name, slot)
      const before = cpuUs(servers.postgresPid, 'children')
      const results = await runEverts(
        shares.map(({ slot, publication }) => ({
          url: made.url,
          kafka: servers.kafka,
          slot,
          publication,
          end: made.end,
        })),
      )
      for (const { slot, tables } of shares) {
        await dropSlot(made.client, slot)
        await readBack(servers, { pipeline: slot, tables, records: (ROWS / TABLES) * tables.length, place: byPosition })
      }
      const sum = (of: (result: Result) => number): number => results.reduce((total, one) => total + of(one), 0)
      if (round === 0) continue
      const beganAtMs = Math.min(...results.map((one) => one.beganAtMs))
      runs[index]?.push({
        seconds: (Math.max(...results.map((one) => one.endedAtMs)) - beganAtMs) / 1000,
        cpuUs: sum((one) => one.cpuUs),
        rssMB: sum((one) => one.rssMB),
        serverUs: cpuUs(servers.postgresPid, 'children') - before,
      })
    }
  }
  await discard(servers, name, made.client)
  const [ofOne = []] = runs
  const rows = runs.map((own, index): Cells => [
    splits[index]!.length,
    Math.round(ROWS / median(own.map(({ seconds }) => seconds))).toLocaleString('en'),
    median(own.map(({ seconds }, round) => ofOne[round]!.seconds / seconds)).toFixed(2),
    (median(own.map(({ serverUs }) => serverUs)) / ROWS).toFixed(2),
    (median(own.map(({ cpuUs: used }) => used)) / ROWS).toFixed(2),
    Math.round(median(own.map(({ rssMB }) => rssMB))),
  ])
  const head: Cells = [
    'pipelines',
    'rows/s, all of them',
    'of one',
    'Postgres µs/row',
    'evert µs/row',
    'evert MB, all of them',
  ]
  await publish('pipelines', `${conditions()}\n\n${table(head, rows)}`)
}

/** A publication that has a thousand more tables, in which nothing happens. */
async function idle(servers: Servers): Promise<void> {
  const name = 'bench_idle'
  const made = await write(servers, name, {
    before: [makeTables('idle', IDLE), 'create publication everything for all tables'],
    fill: `call fill_narrow(${ROWS}, 100)`,
  })
  const runs = { bench: [] as Result[], everything: [] as Result[] }
  for (let round = 0; round <= REPEATS; round++) {
    for (const publication of ['bench', 'everything'] as const) {
      const slot = `${name}_${round}_${publication}`
      await copySlot(made.client, name, slot)
      const result = await runEvert({ url: made.url, kafka: servers.kafka, slot, publication, end: made.end })
      await dropSlot(made.client, slot)
      await readBack(servers, {
        pipeline: slot,
        tables: ['narrow'],
        records: ROWS,
        place: byPosition,
      })
      if (round > 0) runs[publication].push(result)
    }
  }
  await discard(servers, name, made.client)
  const line = (what: string, of: readonly Result[]): Cells => [
    what,
    Math.round(ROWS / median(of.map(({ seconds }) => seconds))).toLocaleString('en'),
    (median(of.map((one) => one.cpuUs)) / ROWS).toFixed(2),
    Math.round(Math.max(...of.map(({ rssMB }) => rssMB))),
  ]
  const cpu = runs.everything.map(({ cpuUs: used }, round) => used / runs.bench[round]!.cpuUs)
  judge('scale, 1,000 idle tables: CPU, of that without them', median(cpu), { atMost: 1.05 })
  const lines = [line('3 tables', runs.bench), line(`${IDLE.toLocaleString('en')} idle tables more`, runs.everything)]
  await publish('idle', `${conditions()}\n\n${table(['publication', 'rows/s', 'CPU µs/row', 'peak RSS MB'], lines)}`)
}

/** Rows of many tables at random, each into many partitions: after a start that sees each table for the first time, by the next. */
async function spread(servers: Servers): Promise<void> {
  const name = 'bench_spread'
  const { tables, partitions, rows } = SPREAD
  const made = await write(servers, name, {
    before: [makeTables('s', tables), 'create publication spread for all tables'],
    fill: `do $$ begin for i in 1 .. ${tables} loop
       execute format('insert into s_%s values (0, md5(%L))', i, i);
       commit;
     end loop; end $$`,
  })
  const run = { url: made.url, kafka: servers.kafka, slot: name, publication: 'spread', partitions }
  const first = await runEvert({ ...run, end: made.end })
  await made.client.query(`do $$ begin for i in 1 .. ${rows} loop
       execute format('insert into s_%s values ($1, md5($2))', 1 + (hashint4(i) & 2147483647) % ${tables}) using i, i::text;
       if i % 100 = 0 then commit; end if;
     end loop; end $$`)
  const result = await runEvert({ ...run, end: await endOfTransactions(made.client) })
  await discard(servers, name, made.client)
  const topics = Array.from({ length: tables }, (_, i) => `s_${i + 1}`)
  const log = await openLog(servers.kafka)
  await check(log, servers, { pipeline: name, tables: topics, records: tables + rows, place: byPosition })
  await log.close()
  const line = (what: string, written: number, { seconds, cpuUs: used, rssMB }: Result): Cells => [
    what,
    Math.round(written / seconds).toLocaleString('en'),
    (used / written).toFixed(2),
    Math.round(rssMB),
  ]
  const head: Cells = [
    `${tables.toLocaleString('en')} tables of ${partitions} partitions`,
    'rows/s',
    'CPU µs/row',
    'peak RSS MB',
  ]
  const peak = Math.max(first.rssMB, result.rssMB)
  judge('scale, rows of 12,000 partitions at random: peak MB', peak, { atMost: 150, digits: 0 })
  const lines = [
    line('the first start: the first row of each', tables, first),
    line('after that: rows at random', rows, result),
  ]
  await publish('spread', `${conditions(null)}\n\n${table(head, lines)}`)
}

/** `<prefix>_1` and so on. */
function makeTables(prefix: string, tables: number): string {
  return `do $$ begin for i in 1 .. ${tables} loop
    execute format('create table ${prefix}_%s (id int primary key, t text)', i);
  end loop; end $$`
}
