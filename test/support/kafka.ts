/** Real Kafka brokers in KRaft mode, from plain jars that Maven fetches into the cache. */
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../../src/cli/local-postgres.js'
import { cacheFolder } from './cache.js'

const RELEASE = '4.3.0'

const execFileAsync = promisify(execFile)

export interface KafkaBroker {
  readonly id: number
  readonly port: number
  readonly pid: number
  kill(signal: NodeJS.Signals): Promise<void>
  start(): Promise<void>
}

export interface BrokerPlace {
  readonly id: number
  readonly port: number
  readonly controller: number
}

export interface KafkaCluster {
  readonly bootstrap: string
  readonly brokers: readonly KafkaBroker[]
  /** Runs one of Kafka's own tools and gives what it prints. */
  tool(mainClass: string, parameters: readonly string[]): Promise<string>
  stop(): Promise<void>
}

/** What is missing for the Kafka suites, or null. */
export function kafkaMissing(): string | null {
  if (spawnSync('java', ['-version']).status !== 0) return 'Java 17'
  return existsSync(jars()) || spawnSync('mvn', ['-version']).status === 0 ? null : 'Maven'
}

function jars(): string {
  return join(cacheFolder('kafka'), RELEASE)
}

const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>evert</groupId><artifactId>test-kafka</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${RELEASE}</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>${RELEASE}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>`

/** Fetches the jars once; a half-fetched folder never gets the final name. */
function fetchJars(): string {
  const folder = jars()
  if (existsSync(folder)) return folder
  const work = mkdtempSync(join(cacheFolder('kafka'), 'fetch-'))
  writeFileSync(join(work, 'pom.xml'), POM)
  const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies'
  execFileSync('mvn', ['-q', '-B', '-f', join(work, 'pom.xml'), goal, `-DoutputDirectory=${join(work, 'lib')}`], {
    stdio: 'inherit',
  })
  execFileSync('mv', [join(work, 'lib'), folder])
  rmSync(work, { recursive: true, force: true })
  return folder
}

export async function startKafka(
  options: {
    readonly brokers?: 1 | 3
    readonly settings?: Readonly<Record<string, string>>
    /** Settings of one broker, which win over those of all. */
    readonly own?: (place: BrokerPlace) => Readonly<Record<string, string>>
    /** A listener besides the plain one, by the name SECURE. */
    readonly secure?: { readonly port: number; readonly protocol: 'SASL_SSL' | 'SASL_PLAINTEXT' | 'SSL' }
    /** SCRAM users: `SCRAM-SHA-256=[name=…,password=…]`. */
    readonly scram?: readonly string[]
  } = {},
): Promise<KafkaCluster> {
  const lib = fetchJars()
  const count = options.brokers ?? 1
  const folder = mkdtempSync(join(tmpdir(), 'evert-kafka-'))
  const places = await Promise.all(
    Array.from({ length: count }, async (_, index) => ({
      id: index + 1,
      port: await freePort(),
      controller: await freePort(),
    })),
  )
  const voters = places.map(({ id, controller }) => `${id}@127.0.0.1:${controller}`).join(',')
  const brokers = places.map(
    (place) =>
      new Broker({
        ...place,
        voters,
        lib,
        folder: join(folder, `broker-${place.id}`),
        replicas: count,
        settings: { ...options.settings, ...options.own?.(place) },
        secure: options.secure ?? null,
        scram: options.scram ?? [],
      }),
  )
  await Promise.all(brokers.map((broker) => broker.start()))
  return {
    bootstrap: brokers.map(({ port }) => `127.0.0.1:${port}`).join(','),
    brokers,
    async tool(mainClass, parameters) {
      const { stdout } = await execFileAsync('java', ['-cp', `${lib}/*`, mainClass, ...parameters])
      return stdout
    },
    async stop() {
      await Promise.all(brokers.map((broker) => broker.kill('SIGKILL')))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

interface BrokerOptions extends BrokerPlace {
  readonly voters: string
  readonly lib: string
  readonly folder: string
  readonly replicas: number
  readonly settings: Readonly<Record<string, string>>
  readonly secure: { readonly port: number; readonly protocol: string } | null
  readonly scram: readonly string[]
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
    execFileSync('java', ['-cp', `${this.#options.lib}/*`, ...parameters], { stdio: ['ignore', 'ignore', 'pipe'] })
  }

  /** Ready when it says that it has started. */
  async start(): Promise<void> {
    const heap = this.#options.replicas === 1 ? '512m' : '400m'
    const child = spawn(
      'java',
      [`-Xmx${heap}`, `-Xms${heap}`, '-cp', `${this.#options.lib}/*`, 'kafka.Kafka', this.#file('server.properties')],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
    this.#process = child
    this.#exited = new Promise((resolve) => child.once('close', () => resolve()))
    const output = createWriteStream(this.#file('out.log'), { flags: 'a' })
    let started = false
    await new Promise<void>((resolve, reject) => {
      child.stderr?.on('data', (chunk: Buffer) => {
        output.write(chunk)
        if (!started && /Kafka Server started|started \(kafka\.server/.test(chunk.toString())) {
          started = true
          resolve()
        }
      })
      void this.#exited.then(() => reject(new Error(`broker ${this.id} did not start: see ${this.#file('out.log')}`)))
    })
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#process?.kill(signal)
    await this.#exited
  }
}

function properties(options: BrokerOptions): string {
  const { id, port, controller, voters, folder, replicas, secure } = options
  const secureListener = secure === null ? '' : `,SECURE://localhost:${secure.port}`
  const lines = {
    'process.roles': 'broker,controller',
    'node.id': id,
    'controller.quorum.voters': voters,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}${secureListener}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}${secureListener}`,
    'listener.security.protocol.map': `CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:${secure?.protocol ?? 'PLAINTEXT'}`,
    'controller.listener.names': 'CONTROLLER',
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
