/**
 * Debezium 3.6 in Kafka Connect, standalone, fetched by Maven coordinates: as it is shipped, and tuned as its documentation and public
 * benchmarks advise (JSON without schemas, large batches and queues, a short poll; one thread for the snapshot, since two were slower). Both acks=all, at least once.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, openSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../src/cli/local-postgres.js'
import { cacheFolder } from '../../test/support/cache.js'
import { mavenJars } from '../../test/support/kafka-jars.js'
import type { Contender, Work } from '../contest.js'
import { runWatched } from './processes.js'

const RELEASE = '3.6.1.Final'
const MODULES = [
  `io.debezium:debezium-api:${RELEASE}`,
  `io.debezium:debezium-embedded:${RELEASE}`,
  `io.debezium:debezium-connector-postgres:${RELEASE}`,
  'org.apache.kafka:connect-runtime:4.3.0',
  'org.apache.kafka:connect-json:4.3.0',
]

type Properties = Readonly<Record<string, string>>

const TUNED: { readonly worker: Properties; readonly connector: Properties } = {
  worker: {
    'key.converter.schemas.enable': 'false',
    'value.converter.schemas.enable': 'false',
    'producer.batch.size': '1000000',
    'producer.linger.ms': '10',
    'producer.buffer.memory': '134217728',
    'offset.flush.interval.ms': '10000',
  },
  connector: {
    'max.batch.size': '16384',
    'max.queue.size': '65536',
    'poll.interval.ms': '10',
  },
}

// Several changes may have one LSN; in a drain they do not, since no row is copied.
const BY_LSN = { floor: 'pg_recvlogical', mode: 'no_data', rises: /"lsn":(\d+)/ }
/** Rows are there in the order of their keys. */
const BY_KEY = { floor: 'psql \\copy', mode: 'initial', rises: /"after":\{"id":(\d+)/ }

export const DEBEZIUM: Contender = contender('Debezium 3.6, tuned', TUNED, BY_LSN)
export const DEBEZIUM_AS_SHIPPED: Contender = contender(
  'Debezium 3.6, as shipped',
  { worker: {}, connector: {} },
  BY_LSN,
)
export const DEBEZIUM_SNAPSHOT: Contender = contender('Debezium 3.6, tuned', TUNED, BY_KEY)

function contender(
  name: string,
  { worker, connector }: typeof TUNED,
  { floor, mode, rises }: typeof BY_LSN,
): Contender {
  const more = { worker, connector: { 'snapshot.mode': mode, ...connector } }
  return {
    name,
    floor,
    slow: true,
    run: async (work) => runWatched(await start(work, more), work),
    place: ({ value }) => rises.exec(String(value))?.[1]?.padStart(20, '0') ?? '',
  }
}

async function start(
  { url, kafka, slot, workload }: Work,
  { worker, connector }: typeof TUNED,
): Promise<ReturnType<typeof spawn>> {
  const folder = mkdtempSync(join(tmpdir(), 'evert-debezium-'))
  const { hostname, port, username, pathname } = new URL(url)
  const file = (name: string, lines: Properties): string => {
    const path = join(folder, name)
    writeFileSync(
      path,
      Object.entries(lines)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(''),
    )
    return path
  }
  const converter = 'org.apache.kafka.connect.json.JsonConverter'
  const ofWorker = file('worker.properties', {
    'bootstrap.servers': kafka,
    'key.converter': converter,
    'value.converter': converter,
    'offset.storage.file.filename': join(folder, 'offsets'),
    listeners: `http://127.0.0.1:${await freePort()}`,
    'producer.acks': 'all',
    ...worker,
  })
  const ofConnector = file('connector.properties', {
    name: slot,
    'connector.class': 'io.debezium.connector.postgresql.PostgresConnector',
    'tasks.max': '1',
    'database.hostname': hostname,
    'database.port': port,
    'database.user': username,
    'database.password': 'none',
    'database.dbname': pathname.slice(1),
    'database.sslmode': 'disable',
    'plugin.name': 'pgoutput',
    'slot.name': slot,
    'publication.name': 'bench',
    'publication.autocreate.mode': 'disabled',
    'topic.prefix': slot,
    'table.include.list': workload.tables.map((table) => `public\\\\.${table}`).join(','),
    ...connector,
  })
  return spawned(folder, ofWorker, ofConnector)
}

function spawned(folder: string, worker: string, connector: string): ReturnType<typeof spawn> {
  const jars = mavenJars(join(cacheFolder('debezium'), RELEASE), MODULES)
  const said = openSync(join(folder, 'out.log'), 'a')
  const main = ['-cp', jars, 'org.apache.kafka.connect.cli.ConnectStandalone', worker, connector]
  return spawn('java', ['-Xms256m', '-Xmx2g', ...main], { stdio: ['ignore', said, said] })
}
