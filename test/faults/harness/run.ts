/** Run: one scenario from the first row to the verdict, with the real command line as processes of their own. */
import { setTimeout as delay } from 'node:timers/promises'
import { type RunningCli, startCli } from '../../support/cli.js'
import { consume, type ConsumedRecord } from '../../support/independent-consumer.js'
import { generator } from '../../support/random.js'
import { consumeWithKcat, kcatInstalled } from './kcat.js'
import { TABLES } from './ledger.js'
import { logTransactions } from './log-transactions.js'
import type { Outcome } from './results.js'
import type { Stage } from './stage.js'
import { Tail } from './tail.js'
import { judge, judgeSample, type Verdict, worst } from './verdict.js'
import { type Load, MIXED, Writer } from './writer.js'

export interface Scenario {
  readonly name: string
  /** What is done to it, as a row of docs/guarantees.md says it. */
  readonly fault: string
  readonly work: (run: Run) => Promise<void>
  readonly load?: Load
  /** Settings of the database, from its first connection on. */
  readonly databaseSettings?: Readonly<Record<string, string>>
  /** Before evert starts; gives what its environment has, and the user it comes as. */
  readonly prepare?: (run: Run) => Promise<{ readonly user: string; readonly environment: Record<string, string> }>
  /** Why it cannot run on this machine, or null. */
  readonly missing?: (stage: Stage) => string | null
  /** The longest that the first change after the fault may take, where that is a promise. */
  readonly recoveryLimitMs?: number
}

const PARTITIONS = 3
/** In a soak an outage alone takes ten minutes. */
export const LIMIT_MS = process.env['EVERT_SOAK_HOURS'] === undefined ? 900_000 : 1_500_000
/** What is written before the fault and after the recovery, so that there is something on both sides. */
const SOME_TRANSACTIONS = 40

export class Run {
  readonly stage: Stage
  readonly random: (below: number) => number
  /** Of the database, and of the pipeline. */
  readonly name: string
  readonly writer: Writer
  /** Rejects when something ends that nobody ended. */
  readonly broken: Promise<never>
  readonly #processes: RunningCli[] = []
  readonly #ours = new Set<RunningCli>()
  #onBroken: (error: Error) => void = () => undefined
  #user = 'postgres'
  #environment: Record<string, string> = {}
  /** In every second run larger transactions come into the log in parts, with the log transaction open from the first to the last. */
  readonly #batches: Record<string, string>
  #tail: Tail | null = null
  #recovered: Promise<number> | null = null

  constructor(stage: Stage, scenario: Scenario, seed: number) {
    this.stage = stage
    this.random = generator(seed)
    this.name = `fault_${seed.toString(36)}_${Date.now().toString(36)}`
    this.#batches = this.random(2) === 0 ? { EVERT_BATCH_BYTES: '64KiB' } : {}
    const { dataDirectory } = stage.postgres
    const url = stage.postgres.url(this.name)
    this.writer = new Writer({ url, seed, load: scenario.load ?? MIXED, folder: dataDirectory })
    this.broken = new Promise((_, reject) => (this.#onBroken = reject))
    this.broken.catch(() => undefined)
  }

  /** What for, for whoever asks why there is no end. */
  waits = 'for nothing yet'

  get topics(): string[] {
    return TABLES.map((table) => `${this.name}.public.${table}`)
  }

  /** The process that was started last. */
  get evert(): RunningCli {
    const last = this.#processes.at(-1)
    if (last === undefined) throw new Error('evert was not started')
    return last
  }

  /** From here on the time counts, until a change is visible that was committed after here. The last call counts. */
  recovering(): void {
    const fromMs = Date.now()
    this.#recovered = this.tail.visible(fromMs).then((visibleMs) => visibleMs - fromMs)
  }

  /** In milliseconds. */
  async recovered(): Promise<number> {
    if (this.#recovered === null) this.recovering()
    return await this.#waiting('for a change to become visible', this.#recovered ?? Promise.resolve(0))
  }

  async #waiting<T>(what: string, work: Promise<T>): Promise<T> {
    this.waits = what
    const result = await work
    this.waits = `no longer ${what}`
    return result
  }

  async stopTail(): Promise<void> {
    await this.#tail?.stop()
  }

  get tail(): Tail {
    this.#tail ??= new Tail(this.stage.kafka.bootstrap, this.topics[0] ?? '')
    return this.#tail
  }

  async prepare({ databaseSettings = {}, prepare }: Scenario): Promise<void> {
    await this.stage.query('postgres', `create database "${this.name}"`)
    for (const [setting, value] of Object.entries(databaseSettings)) {
      await this.stage.query('postgres', `alter database "${this.name}" set ${setting} = '${value}'`)
    }
    await this.writer.prepare()
    if (prepare === undefined) return
    const { user, environment } = await prepare(this)
    this.#user = user
    this.#environment = environment
  }

  start(nodeOptions: readonly string[] = []): RunningCli {
    const parameters = ['run', '--source', this.stage.source(this.name, this.#user), '--log', this.stage.log]
    const tables = TABLES.map((table) => `public.${table}`).join(',')
    const more = ['--name', this.name, '--tables', tables, '--partitions', String(PARTITIONS), '--retention', 'forever']
    const environment = { EVERT_REPLICATION_FACTOR: '3', ...this.#batches, ...this.#environment }
    const cli = startCli([...parameters, ...more], environment, nodeOptions)
    this.#processes.push(cli)
    void cli.ended.then(({ code, stderr }) => {
      if (this.#ours.has(cli)) return
      this.#onBroken(new Error(`evert ended by itself with ${code}: ${stderr.slice(-3000)}`))
    })
    return cli
  }

  /** It is to end, and its end breaks nothing. */
  expectEnd(cli: RunningCli): RunningCli {
    this.#ours.add(cli)
    return cli
  }

  async kill(cli: RunningCli): Promise<void> {
    this.expectEnd(cli).process.kill('SIGKILL')
    await cli.ended
  }

  /** It stops as it promises to, and leaves nothing open. */
  async stop(cli: RunningCli): Promise<void> {
    this.expectEnd(cli).process.kill('SIGTERM')
    const { code, stderr } = await cli.ended
    if (code !== 0) throw new Error(`evert stopped with ${code}: ${stderr.slice(-3000)}`)
  }

  async stopAll(): Promise<void> {
    for (const cli of this.#processes) if (!this.#ours.has(cli)) await this.stop(cli)
  }

  async killAll(): Promise<void> {
    for (const cli of this.#processes) {
      cli.process.kill('SIGCONT')
      await this.kill(cli)
    }
  }

  stderr(): string {
    return this.#processes.map((cli) => cli.stderr().slice(-2000)).join('\n---\n')
  }

  /** Any moment: not a wait for something to happen. */
  async moment(mostMs = 1200): Promise<void> {
    await delay(200 + this.random(mostMs))
  }

  /** How long a fault lasts. */
  async last(ms: number): Promise<void> {
    await this.#waiting(`${ms} ms, as long as the fault lasts`, delay(ms))
  }

  async written(transactions = SOME_TRANSACTIONS): Promise<void> {
    const { ledger } = this.writer
    const wanted = ledger.transactions.length + transactions
    const enough = async (): Promise<void> => {
      while (ledger.transactions.length < wanted) await delay(20)
    }
    await this.#waiting('for transactions to be written', enough())
  }

  /** The slot is confirmed only when the log has everything before. */
  async caughtUp(): Promise<void> {
    const { stage, name } = this
    const [mark] = await stage.query(name, `select pg_logical_emit_message(true, 'test', 'end')::text as lsn`)
    this.waits = 'for the slot to be confirmed'
    const confirmed = `select 1 from pg_replication_slots where slot_name = '${name}' and confirmed_flush_lsn >= '${mark?.['lsn'] ?? ''}'`
    while ((await stage.query(name, confirmed)).length === 0) await delay(50)
  }
}

/** The scenario, and what became of it. Rejects where there is no verdict, with what the processes said last. */
export async function perform(stage: Stage, scenario: Scenario, seed: number): Promise<Outcome> {
  const run = new Run(stage, scenario, seed)
  const late = new AbortController()
  const deadline = delay(LIMIT_MS, undefined, { signal: late.signal }).then(() => {
    throw new Error(`no end after ${LIMIT_MS / 1000} s`)
  })
  deadline.catch(() => undefined)
  try {
    return await Promise.race([follow(run, scenario, seed), run.broken, deadline])
  } catch (error) {
    throw new Error(`${scenario.name}, seed ${seed}, waits ${run.waits}: ${run.stderr()}`, { cause: error })
  } finally {
    late.abort()
    await run.stopTail()
    await run.killAll()
    await stage.heal()
    await run.writer.stop().catch(() => undefined)
    await remove(run)
  }
}

async function follow(run: Run, scenario: Scenario, seed: number): Promise<Outcome> {
  const { stage, writer } = run
  const { bootstrap } = stage.kafka
  await run.prepare(scenario)
  const evert = run.start()
  // The first snapshot is whole before the load begins: no fault of these repeats one.
  await evert.says('"streaming"')
  const writing = writer.start()
  let recoveryMs = 0
  const work = async (): Promise<Verdict> => {
    await run.tail.visible(0)
    await run.written()
    await scenario.work(run)
    recoveryMs = await run.recovered()
    await run.written()
    const records = await read(run)
    const transactionOf = await logTransactions(bootstrap, run.topics, PARTITIONS)
    return judgeSample(writer.ledger, records, { partitions: PARTITIONS, transactionOf })
  }
  const failed = writing.then(() => new Promise<never>(() => undefined))
  const sample = await Promise.race([work(), failed])
  await writer.stop()
  await run.caughtUp()
  await run.stopAll()
  const readings = [await consume(bootstrap, run.topics)]
  if (kcatInstalled) readings.push(await consumeWithKcat(bootstrap, run.topics))
  const transactionOf = await logTransactions(bootstrap, run.topics, PARTITIONS)
  const verdicts = [sample, ...readings.map((records) => judge(writer.ledger, records, transactionOf))]
  const { transactions, rolledBack, doubted } = writer.ledger
  const changes = transactions.reduce((sum, { effects }) => sum + effects.length, 0)
  const figures = { transactions: transactions.length, changes, rolledBack, doubted }
  return { scenario: scenario.name, seed, recoveryMs, ...figures, verdict: worst(verdicts) }
}

async function read(run: Run): Promise<ConsumedRecord[]> {
  const { bootstrap } = run.stage.kafka
  return kcatInstalled ? await consumeWithKcat(bootstrap, run.topics) : await consume(bootstrap, run.topics)
}

async function remove({ stage, name }: Run): Promise<void> {
  const slots = `from pg_replication_slots where slot_name = '${name}'`
  await stage.query('postgres', `select pg_terminate_backend(active_pid) ${slots} and active`)
  while ((await stage.query('postgres', `select 1 ${slots} and active`)).length > 0) await delay(20)
  await stage.query('postgres', `select pg_drop_replication_slot(slot_name) ${slots}`)
  await stage.query('postgres', `drop database if exists "${name}" with (force)`)
  await stage.admin(async (admin) => {
    const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(`${name}.`))
    if (topics.length > 0) await admin.deleteTopics({ topics })
  })
}
