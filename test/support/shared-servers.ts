/** The servers that all suites share: started once per test run, their addresses in the environment of the workers. */
import type { LocalPostgres } from '../../src/cli/local-postgres.js'
import { type KafkaCluster, startKafka } from './kafka.js'
import { kafkaMissing } from './kafka-jars.js'
import { startPostgres } from './postgres.js'

let postgres: LocalPostgres | null = null
let kafka: KafkaCluster | null = null

export async function start(): Promise<void> {
  const [database, broker] = await Promise.all([
    startPostgres(),
    process.env['EVERT_TEST_KAFKA'] === undefined ? startSharedKafka() : null,
  ])
  postgres = database
  kafka = broker
  process.env['EVERT_TEST_POSTGRES'] = database.url('postgres')
  if (kafka !== null) process.env['EVERT_TEST_KAFKA'] = kafka.bootstrap
}

export async function stop(): Promise<void> {
  await Promise.all([postgres?.stop(), kafka?.stop()])
}

async function startSharedKafka(): Promise<KafkaCluster | null> {
  const missing = kafkaMissing()
  if (missing === null) return await startKafka()
  const message = `THE KAFKA SUITES DO NOT RUN: ${missing} is missing, and EVERT_TEST_KAFKA=host:port is not set`
  if (process.env['CI'] !== undefined) throw new Error(message)
  process.stderr.write(`\n${message}\n\n`)
  return null
}
