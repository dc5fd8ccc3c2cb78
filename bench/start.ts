/** `npm run bench -- start`: from the start of the process `evert run`, as it comes, until a change that waited for it can be read. */
import type pg from 'pg'
import { type RunningCli, startCli } from '../test/support/cli.js'
import { connected, makeDatabase, median, openLog, over, REPEATS, type Servers } from './contest.js'
import { type Cells, conditions, publish, table } from './report.js'
import { judge } from './targets.js'

const LOOK_MS = 2

export async function start(servers: Servers): Promise<void> {
  const plain = await makeDatabase(servers, 'bench_start')
  const client = await connected(plain)
  const rows: Cells[] = []
  for (const [connection, url] of [
    ['plain', plain],
    ['TLS', over(plain, { tls: true })],
  ] as const) {
    const took = await starts(servers, `bench_start_${connection.toLowerCase()}`, { url, client })
    judge(`start, ${connection}: s`, median(took) / 1000, { atMost: 1 })
    rows.push([connection, ...[median(took), Math.min(...took), Math.max(...took)].map((ms) => Math.round(ms))])
  }
  await client.end()
  const head: Cells = ['connection', 'median ms', 'least ms', 'most ms']
  await publish('start', `${conditions()}\n\n${table(head, rows)}`)
}

async function starts(
  servers: Servers,
  name: string,
  { url, client }: { readonly url: string; readonly client: pg.Client },
): Promise<number[]> {
  const log = await openLog(servers.kafka)
  const topic = `${name}.public.narrow`
  const from = ['run', '--source', url, '--tables', 'public.narrow']
  const parameters = [...from, '--name', name, '--log', `kafka://${servers.kafka}`, '--partitions', '1']
  const took: number[] = []
  // Makes the slot and the topics.
  const first = startCli(parameters)
  await first.says('"streaming"')
  await stop(first)
  for (let round = 0; round <= REPEATS; round++) {
    await client.query(`insert into narrow select coalesce(max(id), 0) + 1, 1, 'some text', now() from narrow`)
    const before = (await log.offsets(topic, 0)).end
    const startedMs = performance.now()
    const evert = startCli(parameters)
    while ((await log.offsets(topic, 0)).end === before) {
      if (evert.process.exitCode !== null) throw new Error(`evert ended: ${evert.stderr()}`)
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    }
    // The first warms up the broker.
    if (round > 0) took.push(performance.now() - startedMs)
    await stop(evert)
  }
  await log.close()
  return took
}

async function stop(evert: RunningCli): Promise<void> {
  evert.process.kill('SIGTERM')
  await evert.ended
}
