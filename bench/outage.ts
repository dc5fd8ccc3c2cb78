/** `npm run bench -- outage`: the broker is killed and comes back while rows are written; how long it takes to catch up, and what it costs. */
import { connected, type Servers } from './contest.js'
import { type Cells, conditions, publish, table } from './report.js'
import { caughtUp, finish, startRunning } from './running.js'
import { judge } from './targets.js'
import { count } from './workloads.js'

const ROWS = count(600_000)
const RATE = 10_000
const AWAY_S = Math.max(2, ROWS / RATE / 2)

export async function outage(servers: Servers): Promise<void> {
  const running = await startRunning(servers, 'bench_outage')
  const writer = await connected(running.url)
  const steady = running.evert.residentMB()
  const startedMs = performance.now()
  const written = writer.query(`call fill_narrow(${ROWS}, 100, ${RATE})`).then(() => performance.now())
  // Said where it is waited for; until then something else may go wrong.
  written.catch(() => undefined)
  await seconds(AWAY_S / 4)
  await servers.broker.kill('SIGKILL')
  await seconds(AWAY_S)
  await servers.broker.start()
  const backMs = performance.now()
  const writtenMs = await written
  await caughtUp(running)
  const endMs = performance.now()
  const peak = running.evert.peakMB()
  await writer.end()
  await finish(servers, running, ['narrow'], ROWS)
  judge('outage: peak MB', peak, { atMost: 150, digits: 0 })
  const s = (ms: number): string => (ms / 1000).toFixed(1)
  const row: Cells = [
    `${(ROWS / ((writtenMs - startedMs) / 1000)).toFixed(0)} rows/s`,
    `${s(backMs - startedMs - AWAY_S * 250)} s`,
    endMs - backMs < 1000 ? 'at once' : `${s(endMs - backMs)} s`,
    `${s(endMs - writtenMs)} s`,
    '0 and 0',
    Math.round(steady),
    Math.round(peak),
  ]
  const head: Cells = [
    'written',
    'away',
    'all there, after it was back',
    'after the last row was written',
    'missing, repeated',
    'MB before',
    'peak MB',
  ]
  await publish('outage', `${conditions(null)}\n\n${table(head, [row])}`)
}

async function seconds(s: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, s * 1000))
}
