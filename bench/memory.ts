/** `npm run bench -- memory`: what `evert run` takes at its worst. Every log is read back. */
import { Kafka, logLevel } from 'kafkajs'
import type { Servers } from './contest.js'
import { type Cells, conditions, publish, table, tell } from './report.js'
import { caughtUp, finish, startRunning } from './running.js'
import { judge } from './targets.js'
import { chosen, count } from './workloads.js'

interface Case {
  readonly name: string
  readonly table: string
  readonly records: number
  readonly write: readonly string[]
  /** MB of a value which comes on top of what evert itself may take. */
  readonly valueMB?: number
  /** The largest batch that its topic takes; the broker's by default, which takes any of these values. */
  readonly limit?: number
  readonly parameters?: readonly string[]
}

const MANY = count(1_000_000)
const ALL = count(5_000_000)
const NEIGHBOURS = count(200_000)
const CHANGES = count(10_000)

const WITH_LARGE_VALUE = {
  table: 'long',
  valueMB: 100,
  records: NEIGHBOURS + 1,
  write: [
    'alter table long alter t set storage external',
    `call fill_long(${NEIGHBOURS / 2}, 100)`,
    `insert into long select -1, string_agg(md5(n::text), '') from generate_series(1, 3125000) n`,
    `call fill_long(${NEIGHBOURS / 2}, 100, ${NEIGHBOURS / 2})`,
  ],
}

const CASES: readonly Case[] = [
  {
    name: '1M rows, 100 a transaction',
    table: 'narrow',
    records: MANY,
    write: [`call fill_narrow(${MANY}, 100)`],
  },
  { name: '5M rows in one transaction', table: 'narrow', records: ALL, write: [`call fill_narrow(${ALL}, ${ALL})`] },
  {
    ...WITH_LARGE_VALUE,
    name: 'a value of 100 MB that its topic does not take, and its neighbours',
    limit: 1_048_588,
    parameters: ['--large-values', 'omit'],
  },
  { ...WITH_LARGE_VALUE, name: 'a value of 100 MB, published, and its neighbours' },
  {
    name: `a table that is altered ${CHANGES.toLocaleString('en')} times, a row after each`,
    table: 'shifting',
    records: CHANGES,
    write: [
      'create table shifting (id int primary key, a int)',
      'alter publication bench add table shifting',
      `do $$ begin
        for i in 1 .. ${CHANGES} loop
          execute format('alter table shifting alter a type %s', case when i % 2 = 0 then 'int' else 'bigint' end);
          insert into shifting values (i, i);
          commit;
        end loop;
      end $$`,
    ],
    parameters: ['--new-tables', 'stream'],
  },
]

export async function memory(servers: Servers, only: string): Promise<void> {
  const rows: Cells[] = []
  for (const one of chosen(CASES, only)) {
    const name = `bench_memory_${CASES.indexOf(one)}`
    if (one.limit !== undefined) await makeTopic(servers.kafka, `${name}.public.${one.table}`, one.limit)
    const running = await startRunning(servers, name, one.parameters)
    const before = running.evert.residentMB()
    for (const statement of one.write) await running.client.query(statement)
    await caughtUp(running)
    const [after, peak] = [running.evert.residentMB(), running.evert.peakMB()]
    await finish(servers, running, [one.table], one.records)
    judge(`memory, ${one.name}: MB after`, after, { atMost: 100, digits: 0 })
    const onTop = one.valueMB === undefined ? '' : ' (its value comes on top)'
    judge(`memory, ${one.name}: peak MB${onTop}`, peak, { atMost: 150 + (one.valueMB ?? 0), digits: 0 })
    rows.push([one.name, ...[before, after, peak].map((mb) => Math.round(mb))])
    tell(rows.at(-1) ?? [])
  }
  const head: Cells = ['what', 'MB before', 'MB after', 'peak MB']
  await publish('memory', `${conditions(null)}\n\n${table(head, rows)}`, { only })
}

async function makeTopic(kafka: string, topic: string, limit: number): Promise<void> {
  const admin = new Kafka({ brokers: [kafka], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const configEntries = [{ name: 'max.message.bytes', value: String(limit) }]
  await admin.createTopics({ topics: [{ topic, numPartitions: 1, configEntries }], waitForLeaders: true })
  await admin.disconnect()
}
