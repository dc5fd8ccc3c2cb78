/** Contest: contenders that do the same work in turns, and the table of how fast each was. */
import { spawn } from 'node:child_process'
import { silentLogger } from '../src/base/logger.js'
import { openKafkaLog } from '../src/log/kafka/log.js'
import type { LogRecord } from '../src/log/log.js'
import { positionIn } from '../src/log/position-in.js'

export interface Workload {
  readonly name: string
  readonly table: string
  readonly rows: number
  readonly fill: string
}

export interface Result {
  readonly seconds: number
  readonly cpuUs: number
  readonly rssMB: number
  /** Rows of something else, which it had to do meanwhile. */
  readonly otherRows?: number
}

const SCALE = Number(process.env['BENCH_SCALE'] ?? 1)
export const REPEATS = Number(process.env['BENCH_REPEATS'] ?? 5)
export const rows = (count: number): number => Math.round((count * SCALE) / 10_000) * 10_000

/** Evert in a process of its own. */
export async function runEvert(options: { url: string; kafka: string; slot: string; end: string }): Promise<Result> {
  const script = new URL('./evert.js', import.meta.url).pathname
  const child = spawn(process.execPath, [script, options.url, options.kafka, options.slot, options.end], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return JSON.parse(await output(child)) as Result
}

/** Anything else, timed by the shell. */
export async function runTimed(command: string): Promise<Result> {
  const child = spawn('bash', ['-c', `TIMEFORMAT='%R %U %S'; time ${command} > /dev/null`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await output(child)
  const [seconds = 0, user = 0, system = 0] = (said.trim().split('\n').at(-1) ?? '').split(' ').map(Number)
  return { seconds, cpuUs: (user + system) * 1e6, rssMB: 0 }
}

async function output(child: ReturnType<typeof spawn>): Promise<string> {
  let text = ''
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  if (code !== 0) throw new Error(`a contender failed with ${code}`)
  return text
}

/** Reads the topic back: a run that is not complete, in order and once is no result. */
export async function verify(
  kafka: string,
  name: string,
  workload: Pick<Workload, 'table' | 'rows'>,
  onRecord: (record: LogRecord) => void = () => undefined,
): Promise<void> {
  const [host = '', port = ''] = kafka.split(':')
  const topics = { partitions: 1, replicationFactor: -1, retention: 'forever' } as const
  const log = await openKafkaLog({
    brokers: [{ host, port: Number(port) }],
    clientId: 'verify',
    tls: null,
    sasl: null,
    topics,
    compression: 'none',
    transactionTimeoutMs: 1000,
    logger: silentLogger,
  })
  const topic = `${name}.public.${workload.table}`
  const { earliest, end } = await log.offsets(topic, 0)
  let count = 0
  let last = ''
  for await (const record of log.read({
    topic,
    partition: 0,
    from: earliest,
    until: end,
    signal: new AbortController().signal,
  })) {
    const position = positionIn(record) ?? ''
    if (position <= last) throw new Error(`${topic}: ${position} came after ${last}`)
    last = position
    count++
    onRecord(record)
  }
  if (count !== workload.rows) throw new Error(`${topic} holds ${count} events instead of ${workload.rows}`)
  await log.deleteTopics([topic, `${name}.message`, `${name}.schema`])
  await log.close()
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
}

export function report(
  workload: Pick<Workload, 'name' | 'rows'>,
  who: string,
  results: readonly Result[],
  floor: readonly Result[],
  more: readonly (string | number)[] = [],
): void {
  const rates = results.map(({ seconds }) => workload.rows / seconds)
  const ratio = median(results.map(({ seconds }, run) => (floor[run]?.seconds ?? 0) / seconds))
  const cells = [
    workload.name,
    who,
    Math.round(median(rates)).toLocaleString('en'),
    ratio.toFixed(2),
    median(results.map(({ cpuUs, otherRows = 0 }) => cpuUs / (workload.rows + otherRows))).toFixed(2),
    results[0]?.rssMB === 0 ? '–' : Math.round(Math.max(...results.map(({ rssMB }) => rssMB))),
    `${Math.round(Math.min(...rates)).toLocaleString('en')} to ${Math.round(Math.max(...rates)).toLocaleString('en')}`,
    ...more,
  ]
  process.stdout.write(`| ${cells.join(' | ')} |\n`)
}
