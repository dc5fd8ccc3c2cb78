/** Brokers: three of them, what they answer to each request, and what goes wrong with them. */
import type { World } from '../world.js'
import { readBatch, type StoredBatch } from './batch.js'
import { Coordinator, type TransactionView } from './coordinator.js'
import { ERROR, Partition } from './partition.js'

/** The keys of Kafka's requests: https://kafka.apache.org/protocol#protocol_api_keys */
export const API = {
  produce: 0,
  fetch: 1,
  listOffsets: 2,
  metadata: 3,
  findCoordinator: 10,
  createTopics: 19,
  initProducerId: 22,
  addPartitions: 24,
  endTransaction: 26,
  describeConfigs: 32,
  describeTransactions: 65,
} as const

export const BROKERS = [1, 2, 3] as const
export const PARTITIONS = 2
const PORT = 9092
const REPLICATION_USUAL_MS = 1
const REPLICATION_WORST_MS = 200
/** How long a broker is silent before the others take it for dead: longer than any request is on its way. */
const SESSION_MS = 300

/** A response, or the code of the error that it holds. */
export type Answer = { readonly value: unknown } | { readonly error: number }
type Respond = (answer: Answer) => void

interface ProduceEntry {
  readonly topic: string
  readonly partition: number
  readonly records: Buffer
}

export class Brokers {
  readonly world: World
  readonly #topics = new Map<string, Partition[]>()
  /** Of all topics. */
  readonly partitions: Partition[] = []
  readonly #coordinators = new Map<string, Coordinator>()
  readonly #downUntilMs = new Map<number, number>()
  /** Told when a commit is decided. */
  onCommit: (transaction: TransactionView) => void = () => undefined
  /** Told when a partition may show more. */
  onChange: () => void = () => undefined
  /** Told when a broker dies, so that its connections do. */
  readonly onCrash: ((broker: number) => void)[] = []
  /** How often a batch is refused for want of replicas. */
  readonly #refusals: number
  /** False once the faults are over. */
  faulty = true

  constructor(world: World) {
    this.world = world
    this.#refusals = world.random.pick([0.001, 0.01, 0.1, 0.25])
  }

  get settled(): boolean {
    return [...this.#coordinators.values()].every((coordinator) => coordinator.settled)
  }

  isDown(broker: number): boolean {
    return this.world.nowMs < (this.#downUntilMs.get(broker) ?? 0)
  }

  #alive(): number[] {
    return BROKERS.filter((broker) => !this.isDown(broker))
  }

  #someone(): number {
    const alive = this.#alive()
    return alive[this.world.random.below(alive.length)] ?? 1
  }

  /** Leaders and coordinators move, as after a rebalance; or a broker dies and comes back. */
  disturb(): void {
    const { random } = this.world
    if (random.chance(0.35) && this.#alive().length === BROKERS.length) {
      this.#crash(this.#someone())
      return
    }
    for (const partition of this.partitions) if (random.chance(0.4)) this.#moveLeader(partition)
    for (const coordinator of this.#coordinators.values()) {
      if (random.chance(0.5)) coordinator.move(this.#someone())
    }
    this.world.say(() => 'kafka: leaders and coordinators move')
  }

  #crash(broker: number): void {
    const { random } = this.world
    this.world.say(() => `kafka: broker ${broker} dies`)
    this.#downUntilMs.set(broker, this.world.nowMs + random.next() * 1500)
    for (const partition of this.partitions) {
      if (partition.leader !== broker) continue
      this.#moveLeader(partition)
      if (random.chance(0.4)) continue
      partition.goneFromMs = this.world.nowMs + SESSION_MS
      partition.leaderlessUntilMs = partition.goneFromMs + random.next() * 1000
    }
    for (const coordinator of this.#coordinators.values()) {
      if (coordinator.broker === broker) coordinator.move(this.#someone())
    }
    for (const work of this.onCrash) work(broker)
  }

  #moveLeader(partition: Partition): void {
    const { random } = this.world
    partition.leaderlessUntilMs = this.world.nowMs + (random.chance(0.5) ? 0 : random.next() * 300)
    partition.goneFromMs = Number.POSITIVE_INFINITY
    const unreplicated = partition.end - partition.highWatermark
    partition.moveTo(this.#someone(), partition.highWatermark + random.below(unreplicated + 1))
    // What the new leader has counts as replicated.
    partition.highWatermark = partition.end
    this.onChange()
  }

  #partition(topic: string, index: number): Partition | undefined {
    return this.#topics.get(topic)?.[index]
  }

  /** `respond` is called once, maybe later. */
  handle(broker: number, api: number, parameters: readonly unknown[], respond: Respond): void {
    switch (api) {
      case API.metadata:
        return respond(this.#metadata(parameters[0] as string[] | null))
      case API.findCoordinator:
        return respond(this.#findCoordinator((parameters[1] as string[])[0] ?? ''))
      case API.createTopics:
        return respond(this.#createTopics(parameters[0] as { name: string; numPartitions: number }[]))
      case API.describeConfigs:
        return respond({ value: { results: [{ configs: [{ value: 'delete' }] }] } })
      case API.describeTransactions:
        return respond(this.#describe(broker, (parameters[0] as string[])[0] ?? ''))
      case API.initProducerId:
      case API.addPartitions:
      case API.endTransaction:
        return respond(this.#transaction(broker, api, parameters))
      case API.produce:
        return this.#produce(broker, parameters[1] as ProduceEntry[], respond)
      case API.listOffsets:
        return respond(this.#listOffsets(broker, parameters[1] === 1, parameters[2] as ListOffsetsTopics))
      case API.fetch:
        return respond(this.#fetch(broker, parameters[0] as { topic: string; partition: number; offset: bigint }))
      default:
        throw new Error(`the simulated brokers know no request ${api}`)
    }
  }

  #metadata(topics: string[] | null): Answer {
    const brokers = this.#alive().map((nodeId) => ({ nodeId, host: `broker${nodeId}`, port: PORT }))
    const described = []
    for (const name of topics ?? this.#topics.keys()) {
      const partitions = this.#topics.get(name)
      if (partitions === undefined) return { error: ERROR.unknownTopic }
      const leaders = partitions.map((partition, partitionIndex) => {
        const led = this.world.nowMs >= partition.leaderlessUntilMs && !this.isDown(partition.leader)
        return { partitionIndex, leaderId: led ? partition.leader : -1 }
      })
      described.push({ name, partitions: leaders })
    }
    return { value: { brokers, controllerId: brokers[0]?.nodeId ?? 1, topics: described } }
  }

  #coordinator(id: string): Coordinator {
    let found = this.#coordinators.get(id)
    if (found === undefined) {
      found = new Coordinator({
        world: this.world,
        broker: this.#someone(),
        producerId: 1000n + BigInt(this.#coordinators.size),
        onCommit: (transaction) => this.onCommit(transaction),
        onMarker: () => this.onChange(),
      })
      this.#coordinators.set(id, found)
    }
    return found
  }

  #findCoordinator(id: string): Answer {
    const { broker } = this.#coordinator(id)
    return { value: { coordinators: [{ host: `broker${broker}`, port: PORT }] } }
  }

  #describe(broker: number, id: string): Answer {
    const coordinator = this.#coordinator(id)
    const misplaced = coordinator.misplaced(broker)
    if (misplaced !== ERROR.none) return { error: misplaced }
    return { value: { transactionStates: [{ transactionState: coordinator.stateName }] } }
  }

  #createTopics(topics: readonly { name: string; numPartitions: number }[]): Answer {
    let error: number = ERROR.none
    for (const { name, numPartitions } of topics) {
      if (this.#topics.has(name)) error = ERROR.topicExists
      else {
        const make = (_: unknown, index: number): Partition => new Partition(name, index, this.#someone())
        const partitions = Array.from({ length: numPartitions }, make)
        this.#topics.set(name, partitions)
        this.partitions.push(...partitions)
      }
    }
    return error === ERROR.none ? { value: {} } : { error }
  }

  #transaction(broker: number, api: number, parameters: readonly unknown[]): Answer {
    if (api === API.addPartitions) return this.#addPartitions(broker, parameters[0] as [AddPartitions])
    const [id, second, third, fourth] = parameters
    const coordinator = this.#coordinator(id as string)
    const misplaced = coordinator.misplaced(broker)
    if (misplaced !== ERROR.none) return { error: misplaced }
    if (api === API.endTransaction) {
      const error = coordinator.endTransaction(second as bigint, third as number, fourth as boolean)
      return error === ERROR.none ? { value: {} } : { error }
    }
    const from = { producerId: third as bigint, epoch: fourth as number }
    const { error, epoch } = coordinator.initProducerId(second as number, from)
    if (error !== ERROR.none) return { error }
    return { value: { producerId: coordinator.producerId, producerEpoch: epoch } }
  }

  #addPartitions(broker: number, [request]: readonly [AddPartitions]): Answer {
    const coordinator = this.#coordinator(request.transactionalId)
    const misplaced = coordinator.misplaced(broker)
    if (misplaced !== ERROR.none) return { error: misplaced }
    const partitions: Partition[] = []
    for (const { name, partitions: indexes } of request.topics) {
      for (const index of indexes) {
        const partition = this.#partition(name, index)
        if (partition === undefined) return { error: ERROR.unknownTopic }
        partitions.push(partition)
      }
    }
    const error = coordinator.addPartitions(request.producerId, request.producerEpoch, partitions)
    return error === ERROR.none ? { value: {} } : { error }
  }

  #coordinatorOf(producerId: bigint): Coordinator | undefined {
    return [...this.#coordinators.values()].find((coordinator) => coordinator.producerId === producerId)
  }

  /** Each partition for itself; the response waits until everything of it is replicated. */
  #produce(broker: number, entries: readonly ProduceEntry[], respond: Respond): void {
    const results: { topic: string; partition: number; error: number }[] = []
    let waiting = 1
    const settle = (): void => {
      if (--waiting === 0) respond({ value: results })
    }
    for (const { topic, partition: index, records } of entries) {
      const add = (error: number): void => void results.push({ topic, partition: index, error })
      // A partition that is missing from the response has not been taken.
      if (this.faulty && this.world.random.chance(this.#refusals / 2)) continue
      const partition = this.#partition(topic, index)
      const batch = readBatch(records)
      const error = partition === undefined ? ERROR.unknownTopic : this.#refusal(broker, partition, batch)
      if (error !== ERROR.none || partition === undefined) {
        add(error)
        continue
      }
      const taken = partition.append(batch)
      if (taken.error !== ERROR.none) {
        add(taken.error)
        continue
      }
      const again = taken.batch !== batch && this.world.random.chance(0.5)
      waiting++
      this.#replicate(broker, partition, taken.batch, (code) => {
        add(code === ERROR.none && again ? ERROR.duplicateSequence : code)
        settle()
      })
    }
    settle()
  }

  #refusal(broker: number, partition: Partition, batch: StoredBatch): number {
    if (partition.leader !== broker || this.world.nowMs < partition.leaderlessUntilMs) return ERROR.notLeader
    if (this.faulty && this.world.random.chance(this.#refusals)) return ERROR.notEnoughReplicas
    if (partition.hasOpen(batch.producerId)) return ERROR.none
    const coordinator = this.#coordinatorOf(batch.producerId)
    return coordinator?.verify(batch.producerId, batch.epoch, partition) ?? ERROR.invalidProducerIdMapping
  }

  #replicate(broker: number, partition: Partition, batch: StoredBatch, done: (code: number) => void): void {
    const { random } = this.world
    const late = this.faulty && random.chance(0.01) ? random.pick([7, 20]) : null
    this.world.after(random.delayMs(REPLICATION_USUAL_MS, REPLICATION_WORST_MS), () => {
      const replicate = (): void => {
        partition.replicated(batch)
        this.onChange()
      }
      if (late !== null) this.world.after(random.next() * 100, replicate)
      else replicate()
      const there = partition.leader === broker && partition.batches.includes(batch)
      done(there ? (late ?? ERROR.none) : ERROR.notLeader)
    })
  }

  #listOffsets(broker: number, committed: boolean, topics: ListOffsetsTopics): Answer {
    const answers = []
    for (const { name, partitions } of topics) {
      const offsets = []
      for (const { partitionIndex, timestamp } of partitions) {
        const partition = this.#partition(name, partitionIndex)
        if (partition === undefined) return { error: ERROR.unknownTopic }
        if (partition.leader !== broker) return { error: ERROR.notLeader }
        const end = committed ? partition.stable : partition.highWatermark
        offsets.push({ partitionIndex, offset: timestamp === -2n ? 0n : BigInt(end) })
      }
      answers.push({ name, partitions: offsets })
    }
    return { value: { topics: answers } }
  }

  #fetch(broker: number, request: { topic: string; partition: number; offset: bigint }): Answer {
    const partition = this.#partition(request.topic, request.partition)
    const nothing = { lastStableOffset: -1n, abortedTransactions: [], records: Buffer.alloc(0) }
    if (partition === undefined) return { value: { ...nothing, error: ERROR.unknownTopic } }
    if (partition.leader !== broker) return { value: { ...nothing, error: ERROR.notLeader } }
    const { batches, aborted, stable } = partition.fetch(Number(request.offset))
    // Not always everything at once.
    const some = batches.slice(0, this.world.random.chance(0.7) ? batches.length : 1)
    const last = some.at(-1)?.baseOffset ?? -1
    const abortedTransactions = aborted
      .filter(({ firstOffset }) => firstOffset <= last)
      .map((of) => ({ ...of, firstOffset: BigInt(of.firstOffset) }))
    return {
      value: {
        error: ERROR.none,
        lastStableOffset: BigInt(stable),
        abortedTransactions,
        records: Buffer.concat(some.map(({ bytes }) => bytes)),
      },
    }
  }
}

type ListOffsetsTopics = readonly {
  readonly name: string
  readonly partitions: readonly { readonly partitionIndex: number; readonly timestamp: bigint }[]
}[]

interface AddPartitions {
  readonly transactionalId: string
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly topics: readonly { readonly name: string; readonly partitions: readonly number[] }[]
}
