/** Reads a topic as any application would, and says how long after its commit each event came: "ready", then percentiles in µs, as JSON. */
import { Kafka, logLevel } from 'kafkajs'

const [broker = '', topic = '', total = '0', warming = '0'] = process.argv.slice(2)
const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.ERROR })
const consumer = kafka.consumer({ groupId: topic, maxWaitTimeInMs: 500, minBytes: 1, readUncommitted: false })
const took = []
/** performance.timeOrigin is of the same clock as the server's, and finer than Date. */
const nowUs = () => (performance.timeOrigin + performance.now()) * 1000

consumer.on(consumer.events.GROUP_JOIN, () => process.stdout.write('ready\n'))
await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: true })
await consumer.run({
  partitionsConsumedConcurrently: 6,
  eachBatch: async ({ batch }) => {
    const arrivedUs = nowUs()
    for (const { value } of batch.messages) {
      if (value !== null) took.push(arrivedUs - Number(/"ts_us":(\d+)/.exec(value.toString())[1]))
    }
    if (took.length === Number(total)) {
      const sorted = took.slice(Number(warming)).toSorted((a, b) => a - b)
      const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
      process.stdout.write(`${JSON.stringify({ p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) })}\n`)
      await Promise.resolve()
      setImmediate(() => void consumer.disconnect().then(() => process.exit(0)))
    }
  },
})
