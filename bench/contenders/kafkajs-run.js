/** Rows as JSON, as many to a request as a broker takes in a batch; what is acknowledged to Postgres is in Kafka. */
import { CompressionTypes, Kafka, logLevel, Partitioners } from 'kafkajs'
import { LogicalReplicationService, PgoutputPlugin } from 'pg-logical-replication'

const [url = '', broker = '', slot = ''] = process.argv.slice(2)
/** Characters: max.message.bytes is 1 MiB, and a transaction of 100 rows, and what surrounds each record, comes on top. */
const BATCH = 600_000
const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.ERROR })
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, maxInFlightRequests: 1 })
await producer.connect()
const service = new LogicalReplicationService(
  { connectionString: url },
  { acknowledge: { auto: false, timeoutSeconds: 0 }, flowControl: { enabled: true } },
)

/** By topic. */
let pending = new Map()
let characters = 0
let ordinal = 0
let commit = ''

service.on('data', async (lsn, change) => {
  if (change.tag === 'begin') {
    commit = change.commitLsn
    ordinal = 0
    return
  }
  if (change.tag === 'commit') return characters >= BATCH ? await send(lsn) : undefined
  if (change.relation === undefined) return
  const topic = `${slot}.${change.relation.schema}.${change.relation.name}`
  const position = `${commit.replace('/', '').padStart(16, '0')}-${String(ordinal++).padStart(10, '0')}`
  const value = { op: change.tag, before: change.old ?? null, after: change.new ?? null, position }
  if (!pending.has(topic)) pending.set(topic, [])
  const text = JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? String(item) : item))
  pending.get(topic).push({ key: String((change.new ?? change.key ?? change.old).id), value: text })
  characters += text.length
})

async function send(lsn) {
  const topicMessages = [...pending].map(([topic, messages]) => ({ topic, messages }))
  pending = new Map()
  characters = 0
  await producer.sendBatch({ acks: -1, compression: CompressionTypes.None, topicMessages })
  await service.acknowledge(lsn)
}

// What is left when nothing more comes.
let seen = 0
setInterval(() => {
  if (characters > 0 && characters === seen) void send('0/0')
  seen = characters
}, 100)
await service.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: ['bench'] }), slot)
