/** Stage: one Postgres and three brokers of its own, with a proxy in front of each, on which scenarios run one after the other. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { type Admin, Kafka, logLevel } from 'kafkajs'
import pg from 'pg'
import { freePort, type LocalPostgres } from '../../../src/cli/local-postgres.js'
import { type KafkaBroker, type KafkaCluster, startKafka } from '../../support/kafka.js'
import { startPostgres } from '../../support/postgres.js'
import { Disk } from './disk.js'
import { Proxy } from './proxy.js'

export type Row = Readonly<Record<string, string | null>>

/** The role that needs a password; every other may come in without. */
export const PASSWORD_ROLE = 'rotating'

const SETTINGS = {
  'min.insync.replicas': '2',
  'transaction.state.log.min.isr': '2',
  'broker.session.timeout.ms': '4000',
  'broker.heartbeat.interval.ms': '500',
  'replica.lag.time.max.ms': '5000',
  'auto.create.topics.enable': 'false',
  'log.segment.delete.delay.ms': '1000',
}

export class Stage {
  readonly kafka: KafkaCluster
  readonly postgres: LocalPostgres
  /** In front of each broker, in their order. */
  readonly fronts: readonly Proxy[]
  readonly postgresFront: Proxy
  /** The disk of the third broker, or null where none can be mounted. */
  readonly disk: Disk | null

  private constructor(parts: Pick<Stage, 'kafka' | 'postgres' | 'fronts' | 'postgresFront' | 'disk'>) {
    this.kafka = parts.kafka
    this.postgres = parts.postgres
    this.fronts = parts.fronts
    this.postgresFront = parts.postgresFront
    this.disk = parts.disk
  }

  static async open(): Promise<Stage> {
    const inner = [await freePort(), await freePort(), await freePort()]
    const fronts = await Promise.all(inner.map((port) => Proxy.start(port)))
    const disk = Disk.mount()
    const [kafka, postgres] = await Promise.all([
      startKafka({
        brokers: 3,
        settings: SETTINGS,
        own: ({ id, port, controller }) => ({
          listeners: `PLAINTEXT://127.0.0.1:${port},FRONT://127.0.0.1:${inner[id - 1]},CONTROLLER://127.0.0.1:${controller}`,
          'advertised.listeners': `PLAINTEXT://127.0.0.1:${port},FRONT://127.0.0.1:${fronts[id - 1]?.port}`,
          'listener.security.protocol.map': 'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,FRONT:PLAINTEXT',
          ...(id === 3 && disk !== null ? { 'log.dirs': disk.folder } : {}),
        }),
      }),
      startPostgres({ hba: [`host all ${PASSWORD_ROLE} 127.0.0.1/32 scram-sha-256`] }),
    ])
    const postgresFront = await Proxy.start(postgres.port)
    return new Stage({ kafka, postgres, fronts, postgresFront, disk })
  }

  async close(): Promise<void> {
    await this.kafka.stop()
    await this.postgres.stop()
    for (const proxy of [...this.fronts, this.postgresFront]) await proxy.close()
    this.disk?.unmount()
  }

  /** The log as evert is told of it, which leads through the proxies. */
  get log(): string {
    return `kafka://${this.fronts.map(({ port }) => `127.0.0.1:${port}`).join(',')}`
  }

  /** The database as evert is told of it. */
  source(database: string, user = 'postgres'): string {
    return `postgres://${user}@127.0.0.1:${this.postgresFront.port}/${database}`
  }

  /** On a connection of its own, since servers come and go. */
  async query(database: string, text: string): Promise<Row[]> {
    const client = new pg.Client({ connectionString: this.postgres.url(database) })
    client.on('error', () => undefined)
    await client.connect()
    try {
      const result = (await client.query(text)) as unknown as pg.QueryResult | pg.QueryResult[]
      return (Array.isArray(result) ? result.at(-1) : result)?.rows ?? []
    } finally {
      await client.end()
    }
  }

  async admin<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const brokers = this.kafka.bootstrap.split(',')
    const admin = new Kafka({ brokers, logLevel: logLevel.NOTHING, retry: { retries: 20 } }).admin()
    await admin.connect()
    try {
      return await work(admin)
    } finally {
      await admin.disconnect()
    }
  }

  broker(id: number): KafkaBroker {
    const found = this.kafka.brokers.find((broker) => broker.id === id)
    if (found === undefined) throw new Error(`there is no broker ${id}`)
    return found
  }

  isAlive(broker: KafkaBroker): boolean {
    return signalIfThere(broker.pid, 0)
  }

  /** The broker that leads the quorum of controllers. */
  async controller(): Promise<KafkaBroker> {
    const parameters = ['--bootstrap-server', this.kafka.bootstrap, 'describe', '--status']
    const said = await this.kafka.tool('org.apache.kafka.tools.MetadataQuorumCommand', parameters)
    return this.broker(Number(/LeaderId:\s+(\d+)/.exec(said)?.[1]))
  }

  /** The broker that coordinates the transactions of an id. */
  async coordinator(transactionalId: string): Promise<KafkaBroker> {
    let hash = 0
    for (const character of transactionalId) hash = (Math.imul(31, hash) + character.charCodeAt(0)) | 0
    const topics = ['__transaction_state']
    const found = await this.admin((admin) => admin.fetchTopicMetadata({ topics }))
    const partitions = found.topics[0]?.partitions ?? []
    const number = (hash === -2147483648 ? 0 : Math.abs(hash)) % partitions.length
    return this.broker(partitions.find(({ partitionId }) => partitionId === number)?.leader ?? 0)
  }

  /** Every partition of the topics gets another leader: the old one is taken out of the replicas, and comes back as the last. */
  async moveLeaders(topics: readonly string[]): Promise<void> {
    await this.admin(async (admin) => {
      const now = await admin.fetchTopicMetadata({ topics: [...topics] })
      const assign = async (back: boolean): Promise<void> => {
        await admin.alterPartitionReassignments({
          topics: now.topics.map(({ name, partitions }) => ({
            topic: name,
            partitionAssignment: partitions.map(({ partitionId, leader, replicas }) => ({
              partition: partitionId,
              replicas: [...replicas.filter((id) => id !== leader), ...(back ? [leader] : [])],
            })),
          })),
        })
        while ((await admin.listPartitionReassignments({})).topics.length > 0) await delay(50)
      }
      await assign(false)
      await assign(true)
    })
  }

  /** Ends Postgres as the loss of power would: the postmaster first, then everything that it started. */
  async killPostgres(): Promise<void> {
    const { pid } = this.postgres
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
    const gone = this.postgres.kill('SIGKILL')
    for (const child of children) signalIfThere(Number(child), 'SIGKILL')
    await gone
  }

  /** Every broker and Postgres are there, and every partition has all its replicas. */
  async heal(): Promise<void> {
    for (const proxy of [...this.fronts, this.postgresFront]) {
      proxy.weather = {}
      proxy.resetInMidRequest(0)
    }
    this.disk?.enlarge()
    const dead: KafkaBroker[] = []
    for (const broker of this.kafka.brokers) if (!signalIfThere(broker.pid, 'SIGCONT')) dead.push(broker)
    await Promise.all(dead.map((broker) => broker.start()))
    if (!signalIfThere(this.postgres.pid, 'SIGCONT')) await this.postgres.start()
    await this.inSync()
  }

  async inSync(): Promise<void> {
    await this.admin(async (admin) => {
      for (;;) {
        const { topics } = await admin.fetchTopicMetadata().catch(() => ({ topics: null }))
        const partitions = topics?.flatMap((topic) => topic.partitions)
        if (partitions?.every(({ leader, isr, replicas }) => leader >= 0 && isr.length === replicas.length)) return
        await delay(200)
      }
    })
  }
}

/** False where there is no such process. */
function signalIfThere(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}
