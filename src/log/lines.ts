/** Lines: a writer that puts the values of records into a stream, one a line, for tools that load files. */
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { assert } from '../base/assert.js'
import type { RecordSink } from '../event/sink.js'
import { wholeRecords } from '../event/whole-records.js'
import type { FilledRecords, LogWriter } from './log.js'

const START_BYTES = 256 * 1024
const NEWLINE = 0x0a
const SPACE = 0x20

class FilledLines implements FilledRecords {
  readonly lines: Buffer
  readonly records: number

  constructor(lines: Buffer, records: number) {
    this.lines = lines
    this.records = records
  }

  get bytes(): number {
    return this.lines.length
  }
}

/** Nothing is remembered, and what is appended is there at once. `marks` says whether records for all partitions are lines too. */
export function lineWriter(stream: Writable, { marks }: { readonly marks: boolean }): LogWriter {
  let buffer = Buffer.allocUnsafe(START_BYTES)
  let bytes = 0
  let records = 0
  let drained: Promise<unknown> = Promise.resolve()
  const append: RecordSink['append'] = (_, record) => {
    const length = record.valueEnd - record.valueStart
    if (bytes + length + 1 > buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(2 * buffer.length, bytes + length + 1))
      buffer.copy(larger, 0, 0, bytes)
      buffer = larger
    }
    record.bytes.copy(buffer, bytes, record.valueStart, record.valueEnd)
    const end = bytes + length
    // In JSON as a column of type json keeps it one may stand between two tokens, and nowhere else.
    for (let at = bytes; (at = buffer.subarray(0, end).indexOf(NEWLINE, at)) >= 0;) buffer[at] = SPACE
    bytes = end
    buffer[bytes++] = NEWLINE
    records++
  }
  return {
    sink: {
      get bytes() {
        return bytes
      },
      get records() {
        return records
      },
      topic: ({ name }) => ({ name, partitions: 1 }),
      ...wholeRecords(append),
      appendToAll: (topic, record) => {
        if (marks) append(topic, record)
      },
    },
    progress: new Map(),
    cut() {
      const filled = new FilledLines(buffer.subarray(0, bytes), records)
      buffer = Buffer.allocUnsafe(START_BYTES)
      bytes = 0
      records = 0
      return filled
    },
    async append(filled) {
      assert(filled instanceof FilledLines, 'records of another writer are appended')
      if (!stream.write(filled.lines)) await (drained = once(stream, 'drain'))
    },
    async ready() {
      await drained
    },
    close: async () => undefined,
  }
}
