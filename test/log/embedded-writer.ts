/**
 * A process that writes into an embedded log until it is killed or the disk is full. Each log transaction has three appends, each
 * of one record per partition that holds the transaction's number. Prints that number once it is committed, or the error's code.
 */
import { EvertError } from '../../src/base/errors.js'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'

const [directory = '', topicName = '', bytes = '10'] = process.argv.slice(2)
const log = await openEmbeddedLog({ directory, topics: { partitions: 3 } })
const writer = await log.openWriter({ name: 'killed', signal: new AbortController().signal })
const topic = await writer.sink.topic({ name: topicName, keyed: true })

try {
  for (let number = 1; ; number++) {
    for (let part = 0; part < 3; part++) {
      const value = Buffer.from(String(number).padEnd(Number(bytes)))
      writer.sink.appendToAll(topic, {
        bytes: value,
        keyStart: -1,
        keyEnd: 0,
        valueStart: 0,
        valueEnd: value.length,
        timestampMs: 0,
        headers: null,
        into: null,
      })
      await writer.append(writer.cut(), part < 2 ? null : new Map([['number', Buffer.from(String(number))]]))
    }
    process.stdout.write(`${number}\n`)
  }
} catch (error) {
  process.stdout.write(`${error instanceof EvertError ? error.code : String(error)}\n`)
  await writer.close()
  await log.close()
}
