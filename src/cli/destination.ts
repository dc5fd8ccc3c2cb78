/** Destination of a bootstrap: a topic, a file, or stdout. */
import { createWriteStream, renameSync, type WriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'
import { assert } from '../base/assert.js'
import { EvertError, EXIT } from '../base/errors.js'
import type { FormatName } from '../event/envelope.js'
import { lineWriter } from '../log/lines.js'
import type { Log, LogWriter } from '../log/log.js'

interface Destination {
  readonly openWriter: () => Promise<LogWriter>
  /** Once everything was written. */
  readonly complete: () => Promise<void>
}

interface DestinationOptions {
  readonly pipeline: string
  readonly format: FormatName
  readonly log: Log | null
  readonly signal: AbortSignal
}

/** Errors: OPTION_MISSING, OPTION_INVALID, OUTPUT_FAILED. */
export function destination(into: string, options: DestinationOptions): Destination {
  // Among lines that are rows alone, one that is none would be taken for a row.
  const marks = options.format !== 'plain'
  const complete = async (): Promise<void> => undefined
  if (into === '-') {
    // Who reads it and goes away has not all of it.
    process.stdout.prependListener('error', () => process.exit(EXIT.failed))
    return { openWriter: async () => lineWriter(process.stdout, { marks }), complete }
  }
  if (into.includes('/')) return file(into, marks)
  const { log, signal } = options
  if (log === null) {
    throw new EvertError('OPTION_MISSING', {
      message: `--log was not given, and "${into}" is a topic`,
      hint: `--log kafka://host:port; or, for a file, a path with a slash: --into ./${into}`,
    })
  }
  requireFree(into, options.pipeline)
  const openWriter = async (): Promise<LogWriter> => {
    for (const pipeline of await log.pipelines()) requireFree(into, pipeline)
    return await log.openTopicWriter({ topic: into, signal })
  }
  return { openWriter, complete }
}

/** Under another name until it is complete, so that nobody takes a part for the whole. */
function file(path: string, marks: boolean): Destination {
  const part = `${path}.part`
  let stream: WriteStream | null = null
  let failure: NodeJS.ErrnoException | null = null
  const written = async (work: () => Promise<void>): Promise<void> => {
    try {
      if (failure === null) await work()
    } catch (error) {
      if (failure === null) throw error
    }
    if (failure === null) return
    throw new EvertError('OUTPUT_FAILED', {
      message: `"${part}" cannot be written: ${failure.message}`,
      hint: failure.code === 'ENOSPC' ? 'make room on its disk' : 'check the path, and who may write there',
      cause: failure,
    })
  }
  return {
    openWriter: async () => {
      stream = createWriteStream(part)
      stream.on('error', (error) => (failure = error))
      const lines = lineWriter(stream, { marks })
      return { ...lines, append: (...records) => written(() => lines.append(...records)) }
    },
    complete: async () => {
      const open = stream
      assert(open !== null, 'a file is complete that was not begun')
      open.end()
      await written(() => finished(open))
      renameSync(part, path)
    },
  }
}

/** A live topic would mix its changes with these rows. Error: OPTION_INVALID. */
function requireFree(topic: string, pipeline: string): void {
  const [first, second = '', ...more] = topic.split('.')
  const beside = ['message', 'schema', 'notification', 'progress', 'transaction']
  if (first !== pipeline || !(more.length === 1 || (more.length === 0 && beside.includes(second)))) return
  throw new EvertError('OPTION_INVALID', {
    message: `--into: "${topic}" is the name of a live topic of pipeline "${pipeline}"`,
    hint: `a name of two parts is free, such as ${pipeline}.bootstrap`,
  })
}
