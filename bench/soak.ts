/** `npm run bench -- soak [minutes]`: at full rate, for long: whether memory grows. */
import { connected, type Servers } from './contest.js'
import { type Cells, conditions, publish, table } from './report.js'
import { caughtUp, startRunning } from './running.js'
import { judge } from './targets.js'

const EVERY_MS = 5000
/** What evert has not read for the first time before. */
const WARM = 0.1

export async function soak(servers: Servers, only: string): Promise<void> {
  const minutes = only === '' ? 30 : Number(only)
  if (!(minutes > 0)) throw new Error(`a soak takes minutes, a number, not "${only}"`)
  const running = await startRunning(servers, 'bench_soak', [], '7d')
  const { evert } = running
  const stop = new AbortController()
  const rows = write(running.url, stop.signal)
  const samples: { readonly minute: number; readonly mb: number }[] = []
  const startedMs = performance.now()
  for (;;) {
    const minute = (performance.now() - startedMs) / 60_000
    if (minute > minutes) break
    samples.push({ minute, mb: evert.residentMB() })
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
  }
  stop.abort()
  const written = await rows
  // What evert has not published is not counted as if it had.
  await caughtUp(running)
  const seconds = (performance.now() - startedMs) / 1000
  const grows = slope(samples.filter(({ minute }) => minute > minutes * WARM))
  const most = Math.max(...samples.map(({ mb }) => mb))
  judge('soak: most MB', most, { atMost: 100, digits: 0 })
  judge('soak: slope MB/minute', grows, { atMost: 0.1 })
  const cells: Cells = [
    minutes,
    Math.round(written / seconds).toLocaleString('en'),
    Math.round(Math.min(...samples.map(({ mb }) => mb))),
    Math.round(most),
    grows.toFixed(2),
    Math.round(evert.peakMB()),
  ]
  await evert.stop()
  await running.client.end()
  const head: Cells = ['minutes', 'rows/s', 'least MB', 'most MB', 'slope MB/minute', 'peak MB']
  await publish('soak', `${conditions(null)}\n\n${table(head, [cells])}`, { only })
}

/** One connection that never rests. Gives how many rows it has written. */
async function write(url: string, signal: AbortSignal): Promise<number> {
  const client = await connected(url)
  const rows = 200_000
  let written = 0
  for (; !signal.aborted; written += rows) {
    await client.query(`call fill_narrow(${rows}, 100)`)
    await client.query('truncate narrow')
  }
  await client.end()
  return written
}

/** Least squares. */
function slope(samples: readonly { readonly minute: number; readonly mb: number }[]): number {
  const mean = (of: (sample: { readonly minute: number; readonly mb: number }) => number): number =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length
  const [x, y] = [mean(({ minute }) => minute), mean(({ mb }) => mb)]
  return mean(({ minute, mb }) => (minute - x) * (mb - y)) / mean(({ minute }) => (minute - x) ** 2)
}
