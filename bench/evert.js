/**
 * One run of evert in a process of its own, told by JSON, and as JSON on stdout: a drain, from when the server begins to send to the commit of the
 * last change; or a snapshot, from the first row to the commit of the last. It is over where evert has to try again.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import '../bin/v8-flags.js'

const {
  connectionOptions,
  createLogger,
  DEFAULT_VALUES,
  envelope,
  observedBy,
  openKafkaLog,
  parseLsn,
  runPipeline,
  tablePatterns,
} = await import('../dist/js/index.js')

const run = JSON.parse(process.argv[2])
const { url, kafka, slot, partitions = 1, publication = 'bench', format = 'evert', compression = 'none' } = run
const { waits = false } = run
const [host = '', port = ''] = kafka.split(':')
const snapshot = run.end === null
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
const end = snapshot ? null : parseLsn(run.end)
const logger = createLogger({ level: 'warn', format: 'json' })
const stop = new AbortController()
let startedMs = 0
let attempts = 0
let startedCpu = process.cpuUsage()

await runPipeline({
  name: slot,
  slot,
  publication,
  patterns: tablePatterns('*'),
  connection: connectionOptions(url, {}, 'postgres'),
  snapshot: snapshot ? 'initial' : 'none',
  readers: 2,
  requests: true,
  newTables: 'backfill',
  onLoss: 'stop',
  openLog: open,
  limits: { bytes: 2 << 20, ageMs: 0 },
  values: DEFAULT_VALUES,
  envelope: envelope(format, { pipeline: slot, database: new URL(url).pathname.slice(1), version }),
  largeValues: { omit: false, onSkip: () => undefined },
  skipsOrigin: () => false,
  logger,
  signal: stop.signal,
  ...observedBy({
    onCommit: (committed) => {
      if (end !== null && committed.endLsn >= end) finish()
    },
    onSnapshotStart: begin,
    onSnapshotComplete: finish,
  }),
})

async function open() {
  if (++attempts > 1) {
    process.stderr.write(`${slot}: evert began again, so its time says nothing\n`)
    process.exit(1)
  }
  if (waits) {
    process.stdout.write('\n')
    await once(process.stdin, 'data')
    process.stdin.destroy()
  }
  const log = await openKafkaLog({
    brokers: [{ host, port: Number(port) }],
    clientId: 'evert',
    tls: null,
    sasl: null,
    topics: { partitions, replicationFactor: -1, retention: 'compact' },
    compression,
    transactionTimeoutMs: 900_000,
    logger,
  })
  const openWriter = log.openWriter.bind(log)
  // The walsender decodes from the answer to START_REPLICATION on, right behind which the writer is opened.
  log.openWriter = (options) => {
    if (!snapshot) begin()
    return openWriter(options)
  }
  return log
}

function begin() {
  startedMs = performance.now()
  startedCpu = process.cpuUsage()
}

/** Once: what was sent meanwhile commits, too. */
function finish() {
  if (stop.signal.aborted) return
  const { user, system } = process.cpuUsage(startedCpu)
  const endedMs = performance.now()
  // Not process.resourceUsage().maxRSS: Linux lets a process begin with the peak of the one that started it, which is as large as evert.
  const rssMB = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024
  const [beganAtMs, endedAtMs] = [startedMs, endedMs].map((ms) => performance.timeOrigin + ms)
  const seconds = (endedMs - startedMs) / 1000
  process.stdout.write(`${JSON.stringify({ seconds, cpuUs: user + system, rssMB, beganAtMs, endedAtMs })}\n`)
  stop.abort()
}
