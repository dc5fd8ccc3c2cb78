/** Actions: what a transaction of the writer is made of. Each changes a key once and notes the events that have to come of it. */
import type pg from 'pg'
import { deleted, type Effect, inserted, type Table, updated } from './ledger.js'

/** The rows that a session may change, and no other session does: their history is the session's own. */
export interface Rows {
  readonly entries: Set<number>
  readonly movers: Set<number>
  nextId: number
}

/** A transaction that is being made. */
export interface Draft {
  readonly client: pg.Client
  readonly tag: string
  readonly xid: number
  /** Orders the transactions of a session. */
  readonly turn: number
  step: number
  effects: Effect[]
  /** What becomes of the rows when it commits. */
  outcomes: ((rows: Rows) => void)[]
  readonly touched: Set<number>
  readonly rows: Rows
  readonly random: (below: number) => number
  /** A file that the server itself may write and read. */
  readonly copyFile: string
}

export type Action = keyof typeof ACTIONS

const NARROW = 12
const STEPS = 10_000

function note(draft: Draft, table: Table, id: number, identity: string): void {
  const rank = draft.turn * STEPS + draft.step
  draft.effects.push({ table, key: `${table} ${id}`, identity, rank })
}

/** Ids are used once, whether their transaction commits or not. */
function takeIds(draft: Draft, count: number): number {
  const first = draft.rows.nextId
  draft.rows.nextId += count
  return first
}

/** Up to `count` rows of the session that the transaction has not changed yet. */
function pick(draft: Draft, from: ReadonlySet<number>, count: number): number[] {
  const all = [...from].filter((id) => !draft.touched.has(id))
  const start = all.length === 0 ? 0 : draft.random(all.length)
  const picked = [...all.slice(start), ...all.slice(0, start)].slice(0, count)
  for (const id of picked) draft.touched.add(id)
  return picked
}

function noteInserts(draft: Draft, first: number, count: number, detail: number): void {
  const { tag } = draft
  for (let index = 0; index < count; index++) {
    const id = first + index
    note(draft, 'entry', id, inserted({ table: 'entry', id, tag, step: draft.step, detail }))
    draft.touched.add(id)
    draft.step++
  }
  if (detail !== NARROW) return
  draft.outcomes.push((rows) => {
    for (let index = 0; index < count; index++) rows.entries.add(first + index)
  })
}

const ROWS = `select $1::bigint + g, $2::text, $3::int + g, repeat('e', $5::int) from generate_series(0, $4::int - 1) g`

async function insert(draft: Draft, count: number, noteLength = NARROW): Promise<void> {
  const first = takeIds(draft, count)
  const values = [first, draft.tag, draft.step, count, noteLength]
  await draft.client.query(`insert into entry (id, tx, step, note) ${ROWS}`, values)
  noteInserts(draft, first, count, noteLength)
}

/** COPY writes many rows into one WAL record: all of these changes have one LSN. */
async function copy(draft: Draft): Promise<void> {
  const count = 5 + draft.random(40)
  const first = takeIds(draft, count)
  const rows = `select ${first} + g, '${draft.tag}', ${draft.step} + g, repeat('e', ${NARROW}) from generate_series(0, ${count - 1}) g`
  await draft.client.query(`copy (${rows}) to '${draft.copyFile}'`)
  await draft.client.query(`copy entry (id, tx, step, note) from '${draft.copyFile}'`)
  noteInserts(draft, first, count, NARROW)
}

async function update(draft: Draft, count: number): Promise<void> {
  const { tag } = draft
  for (const id of pick(draft, draft.rows.entries, count)) {
    await draft.client.query(`update entry set tx = $2, step = $3 where id = $1`, [id, tag, draft.step])
    note(draft, 'entry', id, updated({ table: 'entry', id, tag, step: draft.step, detail: 0 }))
    draft.step++
  }
}

async function remove(draft: Draft, count: number): Promise<void> {
  const ids = pick(draft, draft.rows.entries, count)
  await draft.client.query(`delete from entry where id = any($1::bigint[])`, [ids])
  for (const id of ids) {
    note(draft, 'entry', id, deleted('entry', id, draft.xid))
    draft.step++
  }
  draft.outcomes.push((rows) => {
    for (const id of ids) rows.entries.delete(id)
  })
}

/** A key change: the end of one row and the beginning of another. */
async function move(draft: Draft): Promise<void> {
  const { tag } = draft
  for (const from of pick(draft, draft.rows.movers, 1)) {
    const to = takeIds(draft, 1)
    await draft.client.query(`update mover set id = $2, tx = $3, step = $4 where id = $1`, [from, to, tag, draft.step])
    note(draft, 'mover', from, deleted('mover', from, draft.xid))
    note(draft, 'mover', to, inserted({ table: 'mover', id: to, tag, step: draft.step, detail: 0 }))
    draft.touched.add(to)
    draft.step++
    draft.outcomes.push((rows) => {
      rows.movers.delete(from)
      rows.movers.add(to)
    })
  }
}

/** A part that is undone while the transaction goes on, or one that is kept. */
async function savepoint(draft: Draft): Promise<void> {
  const before = { effects: draft.effects.length, outcomes: draft.outcomes.length }
  await draft.client.query('savepoint part')
  await insert(draft, 1 + draft.random(3))
  await update(draft, 1)
  await move(draft)
  if (draft.random(2) === 0) {
    await draft.client.query('release savepoint part')
    return
  }
  await draft.client.query('rollback to savepoint part')
  draft.effects = draft.effects.slice(0, before.effects)
  draft.outcomes = draft.outcomes.slice(0, before.outcomes)
}

export const ACTIONS = {
  insert: (draft: Draft) => insert(draft, 1 + draft.random(4)),
  large: (draft: Draft) => insert(draft, 500 + draft.random(400)),
  wide: (draft: Draft) => insert(draft, 1 + draft.random(3), 10_000 + draft.random(50_000)),
  copy,
  update: (draft: Draft) => update(draft, 1 + draft.random(4)),
  remove: (draft: Draft) => remove(draft, 1 + draft.random(2)),
  clear: (draft: Draft) => remove(draft, 600),
  move,
  savepoint,
} as const

/** Every transaction ends with it: accounts are shared by the sessions, and their counter says in which order they came. */
export async function countUp(draft: Draft, account: number): Promise<void> {
  const { tag, step } = draft
  const { rows } = await draft.client.query<{ n: number }>(
    `update account set n = n + 1, tx = $2, step = $3 where id = $1 returning n`,
    [account, tag, step],
  )
  const detail = rows[0]?.n ?? -1
  const identity = updated({ table: 'account', id: account, tag, step, detail })
  draft.effects.push({ table: 'account', key: `account ${account}`, identity, rank: detail })
  draft.step++
}
