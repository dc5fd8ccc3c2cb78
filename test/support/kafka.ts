/** Real Kafka brokers from plain jars, in KRaft mode; releases before 3 behind a ZooKeeper, since their KRaft knows no transactions. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../../src/cli/local-postgres.js'
import { kafkaJars, type KafkaRelease } from './kafka-jars.js'

const execFileAsync = promisify(execFile)
/** What starts soon: a third of the work of a broker that lives for a minute is that of the second compiler. */
const SHORT_LIVED = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']

export interface KafkaBroker {
  readonly id: number
  readonly port: number
  readonly pid: number
  kill(signal: NodeJS.Signals): Promise<void>
  /** In another release it finds what the one before has left. */
  start(release?: KafkaRelease): Promise<void>
}

export interface BrokerPlace {
  readonly id: number
  readonly port: number
  readonly controller: number
}

export interface KafkaCluster {
  readonly bootstrap: string
  readonly brokers: readonly KafkaBroker[]
  /** Folders of partitions, by broker. */
  readonly dataFolders: readonly string[]
  /** Runs one of Kafka's own tools and gives what it prints. */
  tool(mainClass: string, parameters: readonly string[]): Promise<string>
  stop(): Promise<void>
}

export async function startKafka(
  options: {
    /** The newest by default. */
    readonly release?: KafkaRelease
    readonly brokers?: 1 | 3
    readonly settings?: Readonly<Record<string, string>>
    /** Settings of one broker, which win over those of all. */
    readonly own?: (place: BrokerPlace) => Readonly<Record<string, string>>
    /** A listener besides the plain one, by the name SECURE. */
    readonly secure?: { readonly port: number; readonly protocol: 'SASL_SSL' | 'SASL_PLAINTEXT' | 'SSL' }
    /** SCRAM users: `SCRAM-SHA-256=[name=…,password=…]`. */
    readonly scram?: readonly string[]
    /** Options of the JVM. */
    readonly java?: readonly string[]
  } = {},
): Promise<KafkaCluster> {
  const jars = kafkaJars(options.release)
  const count = options.brokers ?? 1
  const folder = mkdtempSync(join(tmpdir(), 'evert-kafka-'))
  const places = await Promise.all(
    Array.from({ length: count }, async (_, index) => ({
      id: index + 1,
      port: await freePort(),
      controller: await freePort(),
    })),
  )
  const zookeeper =
    options.release?.startsWith('2.') === true ? await startZooKeeper(jars, join(folder, 'zookeeper')) : null
  const voters = places.map(({ id, controller }) => `${id}@127.0.0.1:${controller}`).join(',')
  const brokers = places.map(
    (place) =>
      new Broker({
        ...place,
        voters,
        zookeeper: zookeeper?.address ?? null,
        jars,
        folder: join(folder, `broker-${place.id}`),
        replicas: count,
        settings: { ...options.settings, ...options.own?.(place) },
        secure: options.secure ?? null,
        scram: options.scram ?? [],
        java: options.java ?? SHORT_LIVED,
      }),
  )
  await Promise.all(brokers.map((broker) => broker.start()))
  return {
    bootstrap: brokers.map(({ port }) => `127.0.0.1:${port}`).join(','),
    brokers,
    dataFolders: places.map(({ id }) => join(folder, `broker-${id}`, 'data')),
    async tool(mainClass, parameters) {
      const { stdout } = await execFileAsync('java', ['-cp', jars, mainClass, ...parameters])
      return stdout
    },
    async stop() {
      await Promise.all(brokers.map((broker) => broker.kill('SIGKILL')))
      await zookeeper?.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

interface BrokerOptions extends BrokerPlace {
  readonly voters: string
  /** host:port, or null in KRaft mode. */
  readonly zookeeper: string | null
  readonly jars: string
  readonly folder: string
  readonly replicas: number
  readonly settings: Readonly<Record<string, string>>
  readonly secure: { readonly port: number; readonly protocol: string } | null
  readonly scram: readonly string[]
  readonly java: readonly string[]
}

class Broker implements KafkaBroker {
  readonly id: number
  readonly port: number
  readonly #options: BrokerOptions
  #process: ChildProcess | null = null
  #exited: Promise<void> = Promise.resolve()

  constructor(options: BrokerOptions) {
    this.id = options.id
    this.port = options.port
    this.#options = options
    mkdirSync(options.folder, { recursive: true })
    writeFileSync(this.#file('server.properties'), properties(options))
    if (options.zookeeper !== null) return
    this.#java([
      'kafka.tools.StorageTool',
      'format',
      '-t',
      'abcdefghijklmnopqrstuQ',
      '-c',
      this.#file('server.properties'),
      ...options.scram.flatMap((user) => ['--add-scram', user]),
    ])
  }

  get pid(): number {
    return this.#process?.pid ?? 0
  }

  #file(name: string): string {
    return join(this.#options.folder, name)
  }

  #java(parameters: readonly string[]): void {
    execFileSync('java', [...SHORT_LIVED, '-cp', this.#options.jars, ...parameters], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
  }

  async start(release?: KafkaRelease): Promise<void> {
    const jars = release === undefined ? this.#options.jars : kafkaJars(release)
    const heap = this.#options.replicas === 1 ? '512m' : '400m'
    const { child, exited } = await startJava(
      [
        `-Xmx${heap}`,
        `-Xms${heap}`,
        ...this.#options.java,
        '-cp',
        jars,
        'kafka.Kafka',
        this.#file('server.properties'),
      ],
      { output: this.#file('out.log'), ready: /Kafka Server started|\[KafkaServer id=\d+\] started/ },
    )
    this.#process = child
    this.#exited = exited
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#process?.kill(signal)
    await this.#exited
  }
}

/** Ready when it says so. */
async function startJava(
  parameters: readonly string[],
  { output, ready }: { readonly output: string; readonly ready: RegExp },
): Promise<{ child: ChildProcess; exited: Promise<void> }> {
  const child = spawn('java', parameters, { stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const file = createWriteStream(output, { flags: 'a' })
  let started = false
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (chunk: Buffer) => {
      file.write(chunk)
      if (!started && ready.test(chunk.toString())) {
        started = true
        resolve()
      }
    })
    void exited.then(() => reject(new Error(`java ${parameters.at(-2)} did not start: see ${output}`)))
  })
  return { child, exited }
}

async function startZooKeeper(jars: string, folder: string): Promise<{ address: string; stop(): Promise<void> }> {
  const port = await freePort()
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'zookeeper.properties')
  const lines = [
    `dataDir=${join(folder, 'data')}`,
    `clientPort=${port}`,
    'clientPortAddress=127.0.0.1',
    'admin.enableServer=false',
  ]
  writeFileSync(file, lines.map((line) => `${line}\n`).join(''))
  const { child, exited } = await startJava(
    ['-Xmx128m', '-cp', jars, 'org.apache.zookeeper.server.quorum.QuorumPeerMain', file],
    { output: join(folder, 'out.log'), ready: /binding to port/ },
  )
  return {
    address: `127.0.0.1:${port}`,
    async stop() {
      child.kill('SIGKILL')
      await exited
    },
  }
}

function properties(options: BrokerOptions): string {
  const { id, port, folder, replicas, secure } = options
  const secureListener = secure === null ? '' : `,SECURE://localhost:${secure.port}`
  const controllerListener = options.zookeeper === null ? `,CONTROLLER://127.0.0.1:${options.controller}` : ''
  const lines = {
    ...(options.zookeeper === null ? kraft(options) : { 'broker.id': id, 'zookeeper.connect': options.zookeeper }),
    listeners: `PLAINTEXT://127.0.0.1:${port}${controllerListener}${secureListener}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}${secureListener}`,
    'listener.security.protocol.map': `CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:${secure?.protocol ?? 'PLAINTEXT'}`,
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': join(folder, 'data'),
    'offsets.topic.replication.factor': replicas,
    'transaction.state.log.replication.factor': replicas,
    'transaction.state.log.min.isr': 1,
    'offsets.topic.num.partitions': 5,
    'transaction.state.log.num.partitions': 5,
    'group.initial.rebalance.delay.ms': 0,
    'default.replication.factor': replicas,
    'log.cleaner.dedupe.buffer.size': 16_000_000,
    ...options.settings,
  }
  return Object.entries(lines)
    .map(([key, value]) => `${key}=${value}\n`)
    .join('')
}

function kraft({ id, voters }: BrokerOptions): Record<string, string | number> {
  return {
    'process.roles': 'broker,controller',
    'node.id': id,
    'controller.quorum.voters': voters,
    'controller.listener.names': 'CONTROLLER',
  }
}
