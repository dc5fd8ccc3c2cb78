/** evert demo: an embedded Postgres, the embedded log, a shop that trades. Everything but the shop is what evert run runs. */
import { setMaxListeners } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { EvertError, EXIT } from '../base/errors.js'
import type { Logger } from '../base/logger.js'
import type { Config } from '../config.js'
import { parseLsn } from '../event/lsn.js'
import { EVERT } from '../event/formats.js'
import { DEFAULT_VALUES } from '../event/type-kinds.js'
import type { Log, LogRecord } from '../log/log.js'
import { observedBy } from '../observer.js'
import { runPipeline } from '../pipeline.js'
import { connectionOptions } from '../postgres/connection-options.js'
import { tablePatterns } from '../postgres/table-patterns.js'
import type { RunCommand } from './command.js'
import { checkDemo } from './demo-check.js'
import { DemoScreen } from './demo-screen.js'
import { Shop, type ShopTransaction } from './demo-shop.js'
import { installedPostgres, startLocalPostgres } from './local-postgres.js'
import { Interleaved } from './merge-records.js'
import { requireLog } from './open-log.js'

/** Between two transactions, where a person looks on. */
const PAUSE_MS = 900
/** Else: several hundred transactions a second, all of which are kept for the comparison. */
const JSON_PAUSE_MS = 1
/** What --json runs for where nothing else is said: nobody looks on. */
const JSON_SECONDS = 10

export const demo: RunCommand = async ({ config, logger, signal }) => {
  // Of a terminal that is closed; its server would go on.
  process.once('SIGHUP', () => process.exit(EXIT.failed))
  const postgres = await startLocalPostgres({ native: installedPostgres(), ownProcessGroup: true })
  const folder = mkdtempSync(join(tmpdir(), 'evert-demo-'))
  const abandon = (): void => {
    postgres.abandon()
    rmSync(folder, { recursive: true, force: true })
  }
  // An exit in the middle leaves nothing behind either.
  process.once('exit', abandon)
  try {
    const own = config.log === undefined
    // In a log that is kept, each demo has a name of its own.
    const name = own ? 'shop' : `demo-${Date.now().toString(36)}`
    const openLog = requireLog(own ? { ...config, log: join(folder, 'log') } : config, { logger, create: true })
    await play({ config, logger, signal, openLog, name, url: postgres.url('postgres') })
  } finally {
    await postgres.stop()
    rmSync(folder, { recursive: true, force: true })
    process.removeListener('exit', abandon)
  }
}

interface Play {
  readonly config: Config
  readonly logger: Logger
  readonly signal: AbortSignal
  readonly openLog: () => Promise<Log>
  readonly name: string
  readonly url: string
}

async function play(options: Play): Promise<void> {
  const { config, signal, openLog, name, url } = options
  const json = config.json === true
  const seconds = config.seconds ?? (json ? JSON_SECONDS : null)
  const ending = endingAfter(seconds, signal)
  const screen = json ? null : new DemoScreen()
  screen?.open({ name, log: config.log ?? null })
  const shop = await Shop.open(url)
  const bridge = startBridge(options)
  const log = await openLog()
  try {
    await bridge.streaming
    const arrivals = screen === null ? null : new Arrivals(log, bridge.stop)
    await arrivals?.follow(name)
    while (!ending.aborted) {
      const traded = await Promise.race([shop.trade(), bridge.failed])
      if (screen === null || arrivals === null) {
        await delay(JSON_PAUSE_MS)
        continue
      }
      const committedMs = performance.now()
      const records = await Promise.race([arrivals.of(traded), bridge.failed])
      screen.transaction(traded, records, performance.now() - committedMs)
      await delay(PAUSE_MS, undefined, { signal: ending }).catch(() => undefined)
    }
    await Promise.race([bridge.reached(parseLsn(await shop.mark()) ?? 0n), bridge.failed])
    const result = await checkDemo(log, { name, expected: shop.changes })
    const summary = { transactions: shop.transactions, changes: shop.changes.length, ...result }
    if (json) process.stdout.write(`${JSON.stringify(summary)}\n`)
    else screen?.close(summary, { name, log: config.log ?? null })
    if (summary.missing + summary.repeated + summary.outOfOrder > 0) {
      throw new EvertError('DEMO_MISMATCH', { message: `the log differs from the shop: ${JSON.stringify(summary)}` })
    }
  } finally {
    await bridge.end()
    await log.close()
    await shop.close()
  }
}

/** Aborted with the signal, or after that long. */
function endingAfter(seconds: number | null, signal: AbortSignal): AbortSignal {
  if (seconds === null || signal.aborted) return signal
  const ending = new AbortController()
  const timer = setTimeout(() => ending.abort(), seconds * 1000).unref()
  signal.addEventListener('abort', () => {
    clearTimeout(timer)
    ending.abort()
  })
  return ending.signal
}

interface Bridge {
  /** Resolves when the snapshot is in the log. */
  readonly streaming: Promise<void>
  /** Rejects when the bridge fails; never resolves. */
  readonly failed: Promise<never>
  readonly stop: AbortSignal
  /** Resolves when the log holds everything up to an LSN. */
  reached(lsn: bigint): Promise<void>
  end(): Promise<void>
}

function startBridge({ config, logger, openLog, name, url }: Play): Bridge {
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  let endLsn = 0n
  let look = (): void => undefined
  let onStreaming = (): void => undefined
  let onFailed = (_error: unknown): void => undefined
  const streaming = new Promise<void>((resolve) => (onStreaming = resolve))
  const failed = new Promise<never>((_, reject) => (onFailed = reject))
  failed.catch(() => undefined)
  const running = runPipeline({
    name,
    slot: 'evert_demo',
    publication: 'evert_demo',
    patterns: tablePatterns('*'),
    connection: connectionOptions(url, {}, 'postgres'),
    openLog,
    snapshot: 'initial',
    onLoss: 'stop',
    limits: { bytes: config['batch-bytes'] ?? 1 << 20, ageMs: 0 },
    values: DEFAULT_VALUES,
    envelope: EVERT,
    largeValues: { omit: false, onSkip: () => undefined },
    skipsOrigin: () => false,
    logger: { ...logger, error: logger.error.bind(logger), warn: logger.warn.bind(logger), info() {}, debug() {} },
    signal: stop.signal,
    ...observedBy({
      onState: (state) => void (state === 'streaming' && onStreaming()),
      onCommit: (committed) => {
        endLsn = committed.endLsn
        look()
      },
    }),
    readers: 1,
    requests: true,
    newTables: 'backfill',
  }).catch((error: unknown) => onFailed(error))
  return {
    streaming: Promise.race([streaming, failed]),
    failed,
    stop: stop.signal,
    reached: (lsn) =>
      new Promise((resolve) => {
        look = () => {
          if (endLsn >= lsn) resolve()
        }
        look()
      }),
    async end() {
      stop.abort()
      await running
    },
  }
}

/** Events as a consumer gets them, by transaction. */
class Arrivals {
  readonly #log: Log
  readonly #signal: AbortSignal
  readonly #records = new Interleaved<LogRecord>()
  readonly #arrived = new Map<number, LogRecord[]>()
  #look: () => void = () => undefined

  constructor(log: Log, signal: AbortSignal) {
    this.#log = log
    this.#signal = signal
  }

  /** From the present end of every partition on. */
  async follow(name: string): Promise<void> {
    for (const { name: topic, partitions } of await this.#log.topics(`${name}.public.`)) {
      for (let partition = 0; partition < partitions; partition++) {
        const { end } = await this.#log.offsets(topic, partition)
        this.#records.add(this.#log.read({ topic, partition, from: end, signal: this.#signal }))
      }
    }
    void this.#collect()
  }

  async #collect(): Promise<void> {
    for await (const record of this.#records) {
      if (record.value === null) continue
      const txId = Number(JSON.parse(record.value.toString()).source.txId)
      const records = this.#arrived.get(txId) ?? []
      records.push({
        ...record,
        key: record.key === null ? null : Buffer.from(record.key),
        value: Buffer.from(record.value),
      })
      this.#arrived.set(txId, records)
      this.#look()
    }
  }

  /** All events of a transaction. */
  of({ txId, changes }: ShopTransaction): Promise<LogRecord[]> {
    return new Promise((resolve) => {
      this.#look = () => {
        const records = this.#arrived.get(txId) ?? []
        if (records.length < changes.length) return
        this.#arrived.delete(txId)
        resolve(records)
      }
      this.#look()
    })
  }
}
