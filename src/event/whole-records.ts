/** Whole records: the part of a sink that wants each record as a whole, with a buffer where values are written first. */
import type { EncodedRecord, RecordSink } from './sink.js'

const START_BYTES = 64 * 1024

export function wholeRecords(append: RecordSink['append']): Pick<RecordSink, 'append' | 'open' | 'close'> {
  let buffer = Buffer.alloc(0)
  let to: Parameters<typeof append>[0] | null = null
  let record: EncodedRecord | null = null
  const room = { bytes: buffer, start: 0 }
  return {
    append,
    open(topic, opened, valueBytes) {
      const { bytes, keyStart, keyEnd } = opened
      const keyBytes = keyStart < 0 ? 0 : keyEnd - keyStart
      if (keyBytes + valueBytes > buffer.length)
        buffer = Buffer.allocUnsafeSlow(Math.max(START_BYTES, keyBytes + valueBytes))
      if (keyBytes > 0) bytes.copy(buffer, 0, keyStart, keyEnd)
      to = topic
      record = { ...opened, bytes: buffer, keyStart: keyStart < 0 ? -1 : 0, keyEnd: keyBytes, valueStart: keyBytes }
      room.bytes = buffer
      room.start = keyBytes
      return room
    },
    close(valueEnd) {
      record!.valueEnd = valueEnd
      append(to!, record!)
    },
  }
}
