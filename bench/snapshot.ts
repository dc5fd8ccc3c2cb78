/** `npm run bench -- snapshot`: how fast the rows of a table become events, beside psql's \\copy, which reads the same rows to nowhere. */
import { positionIn } from '../src/log/position-in.js'
import { compete, type Contender, type Servers } from './contest.js'
import { runEvert } from './contenders/evert.js'
import { runTimed } from './contenders/processes.js'
import { barChart, barsOf, type Cells, conditions, CONTEST_HEAD, contestCells, publish, table } from './report.js'
import { SNAPSHOT } from './workloads.js'

const FLOOR = 'psql \\copy'

const CONTENDERS: readonly Contender[] = [
  {
    name: 'evert, 2 readers',
    floor: FLOOR,
    run: ({ url, kafka, slot }) => runEvert({ url, kafka, slot, end: null }),
    place: (record) => positionIn(record) ?? '',
  },
  {
    name: FLOOR,
    floor: FLOOR,
    run: ({ url, workload }) => runTimed(`psql -qX '${url}' -c '\\copy ${workload.tables[0]} to stdout'`),
  },
]

export async function snapshot(servers: Servers, only: string): Promise<void> {
  const rows: Cells[] = []
  const bars = []
  for (const workload of SNAPSHOT.filter(({ name }) => name.startsWith(only))) {
    const results = await compete(`bench_snapshot_${SNAPSHOT.indexOf(workload)}`, workload, CONTENDERS, servers)
    rows.push(...contestCells(workload, results))
    bars.push(barsOf(workload, results))
  }
  await publish('snapshot', `${conditions()}\n\n${table(CONTEST_HEAD(FLOOR), rows)}`, barChart('rows/s', bars))
}
