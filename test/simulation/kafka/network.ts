/**
 * Network: connections between the machines of evert and the brokers. On one connection, requests arrive and are answered in order. One
 * that breaks loses responses; its requests that are on the way are lost too, or arrive all the same, maybe much later.
 */
import type { Broker } from '@platformatic/kafka'
import { Cluster } from '../../../src/log/kafka/cluster.js'
import { answered } from '../../../src/log/kafka/errors.js'
import type { KafkaOptions } from '../../../src/log/kafka/options.js'
import type { VersionedRequest } from '../../../src/log/kafka/requests.js'
import type { Machine } from '../machine.js'
import { API as REQUEST, type Answer, type Brokers } from './brokers.js'

const USUAL_MS = 1
const WORST_MS = 250
/** How long a client waits for a response, as evert's does. */
const REQUEST_TIMEOUT_MS = 30_000

interface Request {
  readonly api: number
  readonly parameters: readonly unknown[]
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  settled: boolean
}

function noResponse(code: 'PLT_KFK_NETWORK' | 'PLT_KFK_TIMEOUT' | 'ECONNREFUSED'): Error {
  return Object.assign(new Error(code), { code })
}

class BrokerConnection {
  readonly #brokers: Brokers
  readonly #machine: Machine
  readonly broker: number
  /** Told when it breaks. */
  onBreak: () => void = () => undefined
  #open = true
  readonly #pending: Request[] = []
  /** What has arrived and is not answered yet: a broker takes one at a time from a connection. */
  readonly #arrived: Request[] = []
  #handling = false
  #lastArrivalMs = 0
  #lastResponseMs = 0
  /** After a break: how much later than they should, the requests on the way arrive; infinite for never. */
  #lateMs = 0

  constructor(brokers: Brokers, machine: Machine, broker: number) {
    this.#brokers = brokers
    this.#machine = machine
    this.broker = broker
    machine.onDeath(() => this.break())
    brokers.onCrash.push((crashed) => {
      if (crashed === broker) this.break()
    })
  }

  get open(): boolean {
    return this.#open
  }

  send(api: number, parameters: readonly unknown[]): Promise<unknown> {
    const { world } = this.#brokers
    return new Promise((resolve, reject) => {
      const request = { api, parameters, resolve, reject, settled: false }
      this.#pending.push(request)
      this.#lastArrivalMs = Math.max(this.#lastArrivalMs, world.nowMs + world.random.delayMs(USUAL_MS, WORST_MS))
      world.at(this.#lastArrivalMs, () => this.#arrive(request))
      world.after(REQUEST_TIMEOUT_MS, () => {
        if (!request.settled) this.#machine.deliver(() => this.break('PLT_KFK_TIMEOUT'))
      })
      const fragile = api === REQUEST.endTransaction ? 0.08 : 0.006
      if (this.#brokers.faulty && world.random.chance(fragile)) {
        world.after(world.random.next() * 3, () => this.break())
      }
    })
  }

  #arrive(request: Request): void {
    const { world } = this.#brokers
    if (!this.#open) {
      const lateMs = this.#lateMs
      if (lateMs === Number.POSITIVE_INFINITY) return
      world.after(lateMs, () => this.#take(request))
    } else this.#take(request)
  }

  #take(request: Request): void {
    if (this.#brokers.isDown(this.broker)) {
      if (this.#open) this.break()
      return
    }
    this.#arrived.push(request)
    this.#next()
  }

  #next(): void {
    if (this.#handling) return
    const request = this.#arrived.shift()
    if (request === undefined) return
    this.#handling = true
    this.#brokers.handle(this.broker, request.api, request.parameters, (answer) => {
      this.#handling = false
      this.#respond(request, answer)
      this.#next()
    })
  }

  #respond(request: Request, answer: Answer): void {
    const { world, faulty } = this.#brokers
    // Lost without a word: only the timeout tells.
    if (faulty && world.random.chance(0.001)) return
    this.#lastResponseMs = Math.max(this.#lastResponseMs, world.nowMs + world.random.delayMs(USUAL_MS, WORST_MS))
    world.at(this.#lastResponseMs, () =>
      this.#machine.deliver(() => {
        if (!this.#open || request.settled) return
        this.#settle(request)
        if ('error' in answer) request.reject(answered(answer.error))
        else request.resolve(answer.value)
      }),
    )
  }

  #settle(request: Request): void {
    request.settled = true
    this.#pending.splice(this.#pending.indexOf(request), 1)
  }

  break(code: 'PLT_KFK_NETWORK' | 'PLT_KFK_TIMEOUT' = 'PLT_KFK_NETWORK'): void {
    if (!this.#open) return
    this.#open = false
    const { world } = this.#brokers
    const dice = world.random.next()
    this.#lateMs = dice < 0.3 ? Number.POSITIVE_INFINITY : dice < 0.7 ? 0 : world.random.next() * LATE_MS
    world.say(() => `${this.#machine.name} loses broker ${this.broker} with ${this.#pending.length} requests`)
    this.#machine.deliverLoss(() => this.onBreak())
    for (const request of this.#pending.splice(0)) {
      request.settled = true
      this.#machine.deliver(() => request.reject(noResponse(code)))
    }
  }
}

/** How late a request of a broken connection may be. */
const LATE_MS = 3000

/** The connections of one client of one machine. */
export class SimulatedCluster extends Cluster {
  readonly #brokers: Brokers
  readonly #machine: Machine
  readonly #connections = new Map<number, BrokerConnection>()

  constructor(options: KafkaOptions, at: { readonly brokers: Brokers; readonly machine: Machine }) {
    super(options)
    this.#brokers = at.brokers
    this.#machine = at.machine
  }

  /** Instead of what goes through sockets. */
  override async call<Arguments extends unknown[], Response>(
    broker: Broker,
    { key }: VersionedRequest<Arguments, Response>,
    ...parameters: Arguments
  ): Promise<Response> {
    return (await this.#send(Number(broker.host.replace('broker', '')), key, copyOf(parameters))) as Response
  }

  #send(broker: number, api: number, parameters: readonly unknown[]): Promise<unknown> {
    const { world } = this.#brokers
    if (!this.#machine.maySend()) return new Promise(() => undefined)
    let connection = this.#connections.get(broker)
    if (connection?.open !== true) {
      if (this.#brokers.isDown(broker)) {
        return new Promise((_, reject) => {
          world.after(1, () => this.#machine.deliver(() => reject(noResponse('ECONNREFUSED'))))
        })
      }
      connection = new BrokerConnection(this.#brokers, this.#machine, broker)
      connection.onBreak = () => this.lost()
      this.#connections.set(broker, connection)
    }
    return connection.send(api, parameters)
  }

  override async close(): Promise<void> {
    for (const connection of this.#connections.values()) connection.break()
    await super.close()
  }
}

/** What is sent is copied when it is sent: the buffers of batches are used again. */
function copyOf(parameters: readonly unknown[]): readonly unknown[] {
  return parameters.map((parameter) =>
    Array.isArray(parameter)
      ? parameter.map((entry: unknown) =>
          typeof entry === 'object' && entry !== null && 'records' in entry && Buffer.isBuffer(entry.records)
            ? { ...entry, records: Buffer.from(entry.records) }
            : entry,
        )
      : parameter,
  )
}
