/** Writer: sessions that write random transactions, the same for a seed, through every crash of the server, and keep the ledger. */
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { generator } from '../../support/random.js'
import { type Action, ACTIONS, countUp, type Draft, type Rows } from './actions.js'
import { Ledger } from './ledger.js'

export interface Load {
  readonly sessions: number
  /** Bounds the rate: each session rests that long between two transactions. */
  readonly pauseMs: number
  /** How often each action is taken, as a share of all. */
  readonly weights: Partial<Record<Action, number>>
  readonly mostActions: number
}

/** Everything that a transaction may be made of. */
export const MIXED: Load = {
  sessions: 3,
  pauseMs: 40,
  mostActions: 4,
  weights: { insert: 30, update: 30, remove: 12, move: 14, savepoint: 8, copy: 3, large: 1, clear: 1, wide: 2 },
}

/** Many small transactions side by side, so that commit records follow each other without a byte between them. */
export const ADJACENT: Load = { sessions: 6, pauseMs: 8, mostActions: 0, weights: {} }

/** Many changes in one WAL record. */
export const COPIES: Load = { sessions: 3, pauseMs: 40, mostActions: 2, weights: { copy: 3, move: 1, update: 1 } }

const ACCOUNTS = 60
const MOVERS = 30
const ID_SPACE = 10_000_000

export const SCHEMA = `
  create table account (id int primary key, tx text not null, step int not null, n int not null);
  create table entry (id bigint primary key, tx text not null, step int not null, note text not null);
  create table mover (id bigint primary key, tx text not null, step int not null);
  create table ledger (tx text primary key);
  insert into account select g, '', 0, 0 from generate_series(0, ${ACCOUNTS - 1}) g;
`

export interface WriterOptions {
  readonly url: string
  readonly seed: number
  readonly load: Load
  /** A folder that the server itself may write. */
  readonly folder: string
}

export class Writer {
  readonly ledger = new Ledger()
  readonly #options: WriterOptions
  readonly #sessions: Session[]
  readonly #stop = new AbortController()
  #running: Promise<unknown> = Promise.resolve()

  constructor(options: WriterOptions) {
    this.#options = options
    this.#sessions = Array.from(
      { length: options.load.sessions },
      (_, index) => new Session(index + 1, options, this.ledger, this.#stop.signal),
    )
  }

  /** The rows that the first snapshot finds. */
  async prepare(): Promise<void> {
    const client = await open(this.#options.url)
    await client.query(SCHEMA)
    for (let id = 0; id < ACCOUNTS; id++) this.ledger.present('account', id)
    for (const session of this.#sessions) {
      for (const id of session.rows.movers) {
        await client.query(`insert into mover values ($1, '', 0)`, [id])
        this.ledger.present('mover', id)
      }
    }
    await client.end()
  }

  /** Rejects when a session meets an error that no crash explains. */
  start(): Promise<unknown> {
    this.#running = Promise.all(this.#sessions.map((session) => session.run()))
    return this.#running
  }

  /** Every transaction that was begun has come to its end, and the ledger knows which. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }
}

async function open(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

class Session {
  readonly rows: Rows
  readonly #number: number
  readonly #options: WriterOptions
  readonly #ledger: Ledger
  readonly #signal: AbortSignal
  readonly #random: (below: number) => number
  readonly #actions: Action[]
  #turn = 0
  /** Its COMMIT was sent, and the answer never came. */
  #doubt: Draft | null = null

  constructor(number: number, options: WriterOptions, ledger: Ledger, signal: AbortSignal) {
    this.#number = number
    this.#options = options
    this.#ledger = ledger
    this.#signal = signal
    this.#random = generator(options.seed * 31 + number * 7919)
    const first = number * ID_SPACE
    const movers = Array.from({ length: MOVERS }, (_, index) => first + index)
    this.rows = { entries: new Set(), movers: new Set(movers), nextId: first + MOVERS }
    this.#actions = Object.entries(options.load.weights).flatMap(([action, weight]) =>
      Array.from({ length: weight }, () => action as Action),
    )
  }

  async run(): Promise<void> {
    let client: pg.Client | null = null
    while (!this.#signal.aborted || this.#doubt !== null) {
      try {
        client ??= await open(this.#options.url)
        if (this.#doubt === null) await this.#transaction(client)
        else await this.#ask(client, this.#doubt)
        await delay(this.#options.load.pauseMs)
      } catch (error) {
        if (!passes(error)) throw error
        await client?.end().catch(() => undefined)
        client = null
        await delay(50)
      }
    }
    await client?.end().catch(() => undefined)
  }

  async #transaction(client: pg.Client): Promise<void> {
    const turn = this.#turn++
    const tag = `${this.#number}-${turn}`
    let committing = false
    let draft: Draft | null = null
    try {
      await client.query('begin')
      draft = await this.#begin(client, tag, turn)
      const actions = this.#options.load.mostActions === 0 ? 0 : 1 + this.#random(this.#options.load.mostActions)
      for (let index = 0; index < actions; index++) {
        const action = this.#actions[this.#random(this.#actions.length)]
        if (action !== undefined) await ACTIONS[action](draft)
      }
      await countUp(draft, this.#random(ACCOUNTS))
      if (this.#random(10) === 0) {
        await client.query('rollback')
        this.#ledger.rolledBack++
        return
      }
      committing = true
      await client.query('commit')
    } catch (error) {
      if (committing) this.#doubt = draft
      else this.#ledger.rolledBack++
      throw error
    }
    this.#committed(draft)
  }

  /** The row in `ledger` commits with the rest, so that the database can be asked afterwards. */
  async #begin(client: pg.Client, tag: string, turn: number): Promise<Draft> {
    const { rows } = await client.query<{ xid: string }>(
      `insert into ledger values ($1) returning (pg_current_xact_id()::text::numeric % 4294967296)::text as xid`,
      [tag],
    )
    return {
      client,
      tag,
      turn,
      xid: Number(rows[0]?.xid),
      step: 0,
      effects: [],
      outcomes: [],
      touched: new Set(),
      rows: this.rows,
      random: this.#random,
      copyFile: `${this.#options.folder}/session-${this.#options.seed}-${this.#number}.copy`,
    }
  }

  #committed(draft: Draft): void {
    for (const outcome of draft.outcomes) outcome(this.rows)
    this.#ledger.commit({ tag: draft.tag, effects: draft.effects })
  }

  /** Waits for the other transaction where it is still running, and then conflicts with its row, or does not. */
  async #ask(client: pg.Client, draft: Draft): Promise<void> {
    await client.query('begin')
    const { rowCount } = await client.query('insert into ledger values ($1) on conflict do nothing', [draft.tag])
    await client.query('rollback')
    this.#doubt = null
    this.#ledger.doubted++
    if (rowCount === 0) this.#committed(draft)
    else this.#ledger.rolledBack++
  }
}

/** A server that goes away, or is not there yet; a deadlock. Anything else is a mistake of the writer. */
function passes(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return !(error instanceof TypeError)
  return /^(08|53|57|40)/.test(error.code ?? '')
}
