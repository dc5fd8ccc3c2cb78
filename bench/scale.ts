/** `npm run bench -- scale`: what tables, partitions and pipelines cost beside what is written. */
import pg from 'pg'
import { positionIn } from '../src/log/position-in.js'
import { cpuUs } from './contenders/processes.js'
import { runEvert } from './contenders/evert.js'
import {
  allOf,
  dropSlot,
  makeDatabase,
  median,
  openLog,
  query,
  readBack,
  REPEATS,
  type Result,
  type Servers,
} from './contest.js'
import { type Cells, conditions, publish, table } from './report.js'
import { count } from './workloads.js'

const ROWS = count(600_000)
const TABLES = 8
const SPREAD = { tables: 2000, partitions: 6, rows: count(300_000) }
const IDLE = 1000

export async function scale(servers: Servers, only: string): Promise<void> {
  if ('pipelines'.startsWith(only)) await pipelines(servers)
  if ('idle'.startsWith(only)) await idle(servers)
  if ('spread'.startsWith(only)) await spread(servers)
}

interface Written {
  readonly url: string
  readonly client: pg.Client
  readonly end: string
}

/** Writes after the slot of that name is there. */
async function written(servers: Servers, name: string, before: string, statement: string): Promise<Written> {
  const url = await makeDatabase(servers, name)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(before)
  await client.query(`select pg_create_logical_replication_slot('${name}', 'pgoutput')`)
  await client.query(statement)
  const found = await client.query<{ lsn: string }>(`select pg_logical_emit_message(true, 'bench', 'end')::text as lsn`)
  await client.query('checkpoint')
  return { url, client, end: found.rows[0]?.lsn ?? '' }
}

async function end({ client }: Written, servers: Servers, name: string): Promise<void> {
  await dropSlot(client, name)
  await client.end()
  await query(servers.postgres, `drop database ${name}`)
}

/** The same tables shared by more and more pipelines, each with a slot of its own. */
async function pipelines(servers: Servers): Promise<void> {
  const name = 'bench_pipelines'
  const names = Array.from({ length: TABLES }, (_, i) => `t${i}`)
  const made = await written(
    servers,
    name,
    names.map((one) => `create table ${one} (like narrow including all);`).join(''),
    `do $$ begin for i in 0 .. ${ROWS / 100 - 1} loop
       execute format('insert into t%s select g, g, md5(g::text), now() from generate_series(%s, %s) g', i % ${TABLES}, i * 100, i * 100 + 99);
       commit;
     end loop; end $$`,
  )
  const rows: Cells[] = []
  for (const pipelineCount of [1, 2, 4, 8]) {
    const runs: (Result & { readonly serverUs: number })[] = []
    for (let round = 0; round <= REPEATS; round++) {
      const shares = Array.from({ length: pipelineCount }, (_, i) => ({
        slot: `${name}_${pipelineCount}_${round}_${i}`,
        tables: names.filter((one) => Number(one.slice(1)) % pipelineCount === i),
      }))
      for (const { slot, tables } of shares) {
        await made.client.query(`create publication ${slot} for table ${tables.join(', ')}`)
        await made.client.query(`select pg_copy_logical_replication_slot('${name}', '${slot}')`)
      }
      const before = cpuUs(servers.postgresPid, 'children')
      const startedMs = performance.now()
      const results = await Promise.all(
        shares.map(({ slot }) =>
          runEvert({ url: made.url, kafka: servers.kafka, slot, publication: slot, end: made.end }),
        ),
      )
      const wallS = (performance.now() - startedMs) / 1000
      for (const { slot, tables } of shares) {
        await dropSlot(made.client, slot)
        await made.client.query(`drop publication ${slot}`)
        const place = (record: Parameters<typeof positionIn>[0]): string => positionIn(record) ?? ''
        await readBack(servers, { pipeline: slot, tables, records: (ROWS / TABLES) * tables.length, place })
      }
      const sum = (of: (result: Result) => number): number => results.reduce((total, one) => total + of(one), 0)
      if (round === 0) continue
      runs.push({
        seconds: Math.min(wallS, Math.max(...results.map(({ seconds }) => seconds))),
        cpuUs: sum((one) => one.cpuUs),
        rssMB: sum((one) => one.rssMB),
        serverUs: cpuUs(servers.postgresPid, 'children') - before,
      })
    }
    rows.push([
      pipelineCount,
      Math.round(ROWS / median(runs.map(({ seconds }) => seconds))).toLocaleString('en'),
      (median(runs.map(({ serverUs }) => serverUs)) / ROWS).toFixed(2),
      (median(runs.map((run) => run.cpuUs)) / ROWS).toFixed(2),
      Math.round(median(runs.map(({ rssMB }) => rssMB))),
    ])
    process.stdout.write(`${rows.at(-1)?.join(' | ')}\n`)
  }
  await end(made, servers, name)
  const head: Cells = ['pipelines', 'rows/s, all of them', 'Postgres µs/row', 'evert µs/row', 'evert MB, all of them']
  await publish('pipelines', `${conditions()}\n\n${table(head, rows)}`)
}

/** A publication that has a thousand more tables, in which nothing happens. */
async function idle(servers: Servers): Promise<void> {
  const name = 'bench_idle'
  const more = `do $$ begin for i in 1 .. ${IDLE} loop execute format('create table idle_%s (id int primary key, t text)', i); end loop; end $$;
    create publication everything for all tables`
  const made = await written(servers, name, more, `call fill_narrow(${ROWS}, 100)`)
  const runs = { bench: [] as Result[], everything: [] as Result[] }
  for (let round = 0; round <= REPEATS; round++) {
    for (const publication of ['bench', 'everything'] as const) {
      const slot = `${name}_${round}_${publication}`
      await made.client.query(`select pg_copy_logical_replication_slot('${name}', '${slot}')`)
      const result = await runEvert({ url: made.url, kafka: servers.kafka, slot, publication, end: made.end })
      await dropSlot(made.client, slot)
      await readBack(servers, {
        pipeline: slot,
        tables: ['narrow'],
        records: ROWS,
        place: (record) => positionIn(record) ?? '',
      })
      if (round > 0) runs[publication].push(result)
    }
  }
  await end(made, servers, name)
  const line = (what: string, of: readonly Result[]): Cells => [
    what,
    Math.round(ROWS / median(of.map(({ seconds }) => seconds))).toLocaleString('en'),
    (median(of.map((one) => one.cpuUs)) / ROWS).toFixed(2),
    Math.round(Math.max(...of.map(({ rssMB }) => rssMB))),
  ]
  const lines = [line('3 tables', runs.bench), line(`${IDLE.toLocaleString('en')} idle tables more`, runs.everything)]
  await publish('idle', `${conditions()}\n\n${table(['publication', 'rows/s', 'CPU µs/row', 'peak RSS MB'], lines)}`)
}

/** Rows of many tables at random, each into many partitions. */
async function spread(servers: Servers): Promise<void> {
  const name = 'bench_spread'
  const { tables, partitions, rows } = SPREAD
  const made = await written(
    servers,
    name,
    `do $$ begin for i in 1 .. ${tables} loop
       execute format('create table s_%s (id int primary key, t text)', i);
     end loop; end $$;
     create publication spread for all tables`,
    `do $$ begin for i in 1 .. ${rows} loop
       execute format('insert into s_%s values ($1, md5($2))', 1 + (hashint4(i) & 2147483647) % ${tables}) using i, i::text;
       if i % 100 = 0 then commit; end if;
     end loop; end $$`,
  )
  const result = await runEvert({
    url: made.url,
    kafka: servers.kafka,
    slot: name,
    publication: 'spread',
    partitions,
    end: made.end,
  })
  await end(made, servers, name)
  const log = await openLog(servers.kafka)
  let records = 0
  for (const topic of await log.topics(`${name}.public`))
    for (let partition = 0; partition < topic.partitions; partition++)
      for await (const { offset } of allOf(log, topic.name, partition)) records += offset < 0n ? 0 : 1
  await log.close()
  if (records !== rows) throw new Error(`${records} records instead of ${rows}`)
  const line: Cells = [
    tables.toLocaleString('en'),
    partitions,
    Math.round(rows / result.seconds).toLocaleString('en'),
    (result.cpuUs / rows).toFixed(2),
    Math.round(result.rssMB),
  ]
  const head: Cells = ['tables', 'partitions of each', 'rows/s', 'CPU µs/row', 'peak RSS MB']
  await publish('spread', `${conditions(null)}\n\n${table(head, [line])}`)
}
