/** A pipeline in the test's own process, and what a test wants to know of it. */
import { userInfo } from 'node:os'
import { silentLogger, type Logger } from '../../src/base/logger.js'
import { parseLsn } from '../../src/event/lsn.js'
import { EVERT } from '../../src/event/formats.js'
import { DEFAULT_VALUES } from '../../src/event/type-kinds.js'
import type { Log, LogRecord, LogWriter } from '../../src/log/log.js'
import type { PipelineOptions } from '../../src/attempt.js'
import { observedBy } from '../../src/observer.js'
import { runPipeline } from '../../src/pipeline.js'
import { connectionOptions } from '../../src/postgres/connection-options.js'
import { tablePatterns } from '../../src/postgres/table-patterns.js'
import type { TestDatabase } from './servers.js'

export interface RunningPipeline {
  /** Resolves when everything committed so far in the database is in the log. */
  caughtUp(): Promise<void>
  /** Stops it and gives its error, if it had one. */
  stop(): Promise<unknown>
  /** Settles when it ends by itself. */
  readonly ended: Promise<unknown>
}

export function startPipeline(
  database: TestDatabase,
  options: Partial<PipelineOptions> & { readonly openLog: () => Promise<Log>; readonly tables?: string },
): RunningPipeline {
  const stop = new AbortController()
  let endLsn = 0n
  const waiters = new Set<() => void>()
  const name = options.name ?? database.name
  const ended = runPipeline({
    name,
    slot: name,
    publication: name,
    patterns: tablePatterns(options.tables ?? '*'),
    connection: connectionOptions(database.url, {}, userInfo().username),
    snapshot: 'initial',
    readers: 2,
    requests: true,
    newTables: 'backfill',
    onLoss: 'stop',
    limits: { bytes: 4 << 20, ageMs: 0 },
    values: DEFAULT_VALUES,
    envelope: EVERT,
    largeValues: { omit: false, onSkip: () => undefined },
    skipsOrigin: () => false,
    logger: process.env['EVERT_TEST_LOG'] === undefined ? silentLogger : consoleLogger,
    ...observedBy(),
    ...options,
    signal: stop.signal,
    onCommit: (committed) => {
      endLsn = committed.endLsn
      options.onCommit?.(committed)
      for (const wake of waiters) wake()
    },
  }).then(
    () => undefined,
    (error: unknown) => error,
  )
  return {
    ended,
    async caughtUp() {
      // A change of its own, so that there is something to wait for.
      const [row] = await database.query(`select pg_logical_emit_message(true, 'test', 'caught up') as lsn`)
      const lsn = parseLsn(row?.['lsn'] ?? '') ?? 0n
      const failed = ended.then((error) => {
        throw error ?? new Error('the pipeline ended')
      })
      const reached = new Promise<void>((resolve) => {
        const look = (): void => {
          if (endLsn < lsn) return
          waiters.delete(look)
          resolve()
        }
        waiters.add(look)
        look()
      })
      await Promise.race([reached, failed])
    },
    async stop() {
      stop.abort()
      return await ended
    },
  }
}

const consoleLogger: Logger = {
  error: (fields, message) => console.error(message, fields),
  warn: (fields, message) => console.error(message, fields),
  info: (fields, message) => console.error(performance.now() | 0, message, fields),
  debug: () => undefined,
}

/** A log whose writers are changed before they are used. */
export function withWriters(openLog: () => Promise<Log>, change: (writer: LogWriter) => void): () => Promise<Log> {
  return async () => {
    const log = await openLog()
    const openWriter = log.openWriter.bind(log)
    log.openWriter = async (options) => {
      const writer = await openWriter(options)
      change(writer)
      return writer
    }
    return log
  }
}

/** Everything committed in the topics of a pipeline, partition by partition. */
export async function readAll(log: Log, prefix: string): Promise<LogRecord[]> {
  const signal = new AbortController().signal
  const records: LogRecord[] = []
  for (const topic of await log.topics(prefix)) {
    for (let partition = 0; partition < topic.partitions; partition++) {
      const { earliest, end } = await log.offsets(topic.name, partition)
      for await (const record of log.read({ topic: topic.name, partition, from: earliest, until: end, signal })) {
        records.push(record)
      }
    }
  }
  return records
}
