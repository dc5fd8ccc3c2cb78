/**
 * Simulation: one seed, one history. A database at work, evert on one or two machines, brokers, and faults for a while; then everything
 * is left in peace, and all that was committed must be seen.
 */
import { EvertError } from '../../src/base/errors.js'
import { type Surroundings, PIPELINE, run } from './evert.js'
import { Brokers } from './kafka/brokers.js'
import { Machine } from './machine.js'
import { Server } from './postgres/server.js'
import { Verdict } from './verdict.js'
import { Violation, World } from './world.js'

export interface Outcome {
  readonly seed: number
  /** What was broken, or null. */
  readonly violation: string | null
  readonly steps: number
  readonly records: number
  readonly virtualMs: number
  readonly trace: readonly string[]
}

/** Peace must bring everything to its end within it. */
const PEACE_MS = 10 * 60_000
/** What may end a process of evert while others disturb it; a supervisor starts it again. */
const EXPECTED_ENDS: readonly string[] = ['LOG_FENCED', 'TRANSACTION_TOO_LONG']

export interface SimulationOptions {
  readonly traced?: boolean
  /** Nothing fails but brokers, which makes what only they can cause a hundred times as frequent. */
  readonly onlyBrokers?: boolean
}

export async function simulate(seed: number, options: SimulationOptions = {}): Promise<Outcome> {
  const simulation = new Simulation(seed, options)
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0 // thousands of simulated errors are made, and nobody looks at theirs
  let violation: string | null = null
  try {
    await simulation.run()
    await new Promise((resolve) => setImmediate(resolve)) // the process has a life outside of the simulation
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    violation = error.message
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
  return { seed, violation, ...simulation.figures }
}

class Simulation {
  readonly #world: World
  readonly #server: Server
  readonly #brokers: Brokers
  readonly #verdict: Verdict
  readonly #around: Surroundings
  readonly #onlyBrokers: boolean
  #machines: Machine[] = []
  #machineCount = 0
  /** Work and faults, while they go on. */
  #unrest = 2
  #peaceMs = 0
  #failure: Error | null = null
  #changed = false
  #steps = 0

  constructor(seed: number, { traced = false, onlyBrokers = false }: SimulationOptions) {
    this.#onlyBrokers = onlyBrokers
    const world = new World(seed, traced)
    const { random } = world
    this.#world = world
    this.#server = new Server(world, PIPELINE)
    this.#brokers = new Brokers(world)
    this.#around = {
      server: this.#server,
      brokers: this.#brokers,
      limits: { bytes: random.pick([200, 200, 300, 1500, 6000, 1_000_000]), ageMs: random.pick([0, 0, 5]) },
      batchBytes: random.pick([300, 300, 700, 1_000_000]),
      transactionTimeoutMs: random.pick([5000, 60_000]),
      snapshot: random.chance(0.3) ? 'initial' : 'none',
    }
    const { ledger } = this.#server.database
    if (this.#around.snapshot === 'initial') this.#server.database.fill()
    this.#verdict = new Verdict({
      ledger,
      pipeline: PIPELINE,
      partitionsOf: (topic) => this.#brokers.partitions.filter((partition) => partition.topic === topic).length,
    })
    this.#watch()
  }

  /** The verdict hears of everything that counts when it happens. */
  #watch(): void {
    // Thrown here, a violation would be caught by evert, whose doing it is.
    const judge = (work: () => void): void => {
      try {
        work()
      } catch (error) {
        this.#failure ??= asViolation(error)
      }
    }
    this.#brokers.onCommit = (transaction) => judge(() => this.#verdict.onCommit(transaction))
    this.#brokers.onChange = () => (this.#changed = true)
    this.#server.onSend = (_, bytes) => {
      if (bytes[0] !== 0x64 || bytes[5] !== 0x72) return
      const acknowledged = bytes.readBigUInt64BE(14)
      judge(() => this.#verdict.onAcknowledge(acknowledged, this.#server.database.insertLsn))
    }
  }

  get figures(): Omit<Outcome, 'seed' | 'violation'> {
    const { trace, nowMs } = this.#world
    return { steps: this.#steps, records: this.#verdict.visibleRecords, virtualMs: nowMs, trace }
  }

  async run(): Promise<void> {
    const { random } = this.#world
    this.#startMachine()
    // What a new producer sends first is a case of its own.
    if (random.chance(0.3)) this.#server.database.burst()
    this.#work(random.between(10, 80))
    this.#disturb(random.between(0, 8))
    while (!this.#finished()) {
      if (!this.#world.step()) throw new Violation('nothing is left to happen')
      this.#steps++
      await microtasks()
      if (this.#failure !== null) throw this.#failure
      if (this.#changed) this.#verdict.look(this.#brokers.partitions)
      this.#changed = false
    }
    this.#verdict.lookAgain(this.#brokers.partitions)
    for (const machine of this.#machines) machine.kill()
  }

  #finished(): boolean {
    if (this.#unrest > 0) return false
    const { nowMs } = this.#world
    const { slot, database } = this.#server
    const last = database.ledger.committed.at(-1)
    const released = last === undefined || slot.confirmedLsn >= last.endLsn
    const copied = this.#around.snapshot === 'none' || this.#verdict.copied
    if (released && copied && this.#brokers.settled && this.#verdict.missing === 0) return true
    if (nowMs > this.#peaceMs + PEACE_MS) {
      throw new Violation(`after ${PEACE_MS / 60_000} minutes of peace ${this.#verdict.missing} records are missing`)
    }
    return false
  }

  /** The database at work, until its steps are done and so are the faults. */
  #work(steps: number): void {
    const { random } = this.#world
    if (steps === 0) {
      this.#server.database.commitAll()
      this.#server.wake()
      this.#done()
      return
    }
    this.#server.database.step()
    this.#server.wake()
    this.#world.after(random.delayMs(20, 1500), () => this.#work(steps - 1))
  }

  #disturb(faults: number): void {
    const { random } = this.#world
    this.#world.after(random.delayMs(200, 3000), () => {
      if (faults > 0) {
        this.#fault()
        this.#disturb(faults - 1)
      } else this.#done()
    })
  }

  #fault(): void {
    if (this.#onlyBrokers) {
      this.#brokers.disturb()
      return
    }
    const { random } = this.#world
    const machine = this.#machines.at(-1)
    const dice = random.next()
    if (dice < 0.3) machine?.killAfter(random.below(12))
    else if (dice < 0.4) machine?.kill()
    else if (dice < 0.5) machine?.stop()
    else if (dice < 0.65) this.#freeze(machine)
    else if (dice < 0.75) this.#server.breakWire()
    else if (dice < 0.8) this.#server.crash()
    else this.#brokers.disturb()
  }

  /** Paused for so long that another one is started in its place; then it comes back. */
  #freeze(machine: Machine | undefined): void {
    const { random } = this.#world
    if (machine === undefined || machine.frozen) return
    machine.freeze()
    if (random.chance(0.7)) this.#world.after(random.next() * 1000, () => this.#startMachine())
    this.#world.after(random.next() * 12_000, () => machine.thaw())
  }

  /** Of the database's work and the faults, one is over. */
  #done(): void {
    if (--this.#unrest > 0) return
    this.#world.say(() => 'peace')
    this.#peaceMs = this.#world.nowMs
    this.#brokers.faulty = false
    for (const machine of this.#machines) machine.thaw()
  }

  /** A supervisor starts evert again whenever it ends. */
  #startMachine(): void {
    const machine = new Machine(`evert${++this.#machineCount}`, this.#world)
    this.#machines.push(machine)
    this.#world.say(() => `${machine.name} starts`)
    const ended = (): void => {
      if (!this.#machines.includes(machine)) return
      this.#machines = this.#machines.filter((other) => other !== machine)
      if (this.#machines.length > 0) return
      const { random } = this.#world
      // Sometimes before everything that it has sent has arrived.
      this.#world.after(random.next() * random.pick([5, 500]), () => this.#startMachine())
    }
    machine.onDeath(ended)
    run(machine, this.#around).then(
      () => machine.kill(),
      (error: unknown) => {
        this.#world.say(() => `${machine.name} ends: ${String(error)}`)
        const expected = error instanceof EvertError && EXPECTED_ENDS.includes(error.code)
        if (!expected) this.#failure = asViolation(error)
        machine.kill()
      },
    )
  }
}

function asViolation(error: unknown): Error {
  if (error instanceof Violation) return error
  if (error instanceof EvertError) return new Violation(`evert stops with ${error.code}: ${error.message}`)
  return new Violation(`evert stops with ${error instanceof Error ? error.stack : String(error)}`)
}

/** Everything that evert does on its own has been done when this is resolved: it is behind all microtasks. */
function microtasks(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve))
}
