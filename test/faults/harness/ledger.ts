/** Ledger: what was committed in the database, change by change, as its writer knows it and not as anything downstream tells it. */

export const TABLES = ['account', 'entry', 'mover'] as const
export type Table = (typeof TABLES)[number]

/** One event that has to come. */
export interface Effect {
  readonly table: Table
  readonly key: string
  /** Says which change of the key it is; no two changes share it. */
  readonly identity: string
  /** Its place in the history of the key. */
  readonly rank: number
}

export interface CommittedTransaction {
  readonly tag: string
  readonly effects: readonly Effect[]
}

export interface Change {
  readonly table: Table
  readonly id: number
  readonly tag: string
  readonly step: number
  /** What else the row says: the counter of an account, the length of a note. */
  readonly detail: number
}

export const inserted = ({ table, id, tag, step, detail }: Change): string =>
  `${table} c ${id} ${tag}/${step} ${detail}`

/** An update of an entry leaves its note alone, and a large one is not sent then: only an account has a detail. */
export const updated = ({ table, id, tag, step, detail }: Change): string =>
  `${table} u ${id} ${tag}/${step} ${table === 'account' ? detail : ''}`

/** A deletion carries its key alone: the transaction is known by its xid, and deletes a key once. */
export const deleted = (table: Table, id: number, xid: number): string => `${table} d ${id} ${xid}`

export const snapshotted = (table: Table, id: number): string => `${table} r ${id}`

export class Ledger {
  readonly #transactions: CommittedTransaction[] = []
  readonly #snapshot: Effect[] = []
  /** Transactions that were rolled back, on purpose or by a crash: nothing of them may be seen. */
  rolledBack = 0
  /** Transactions whose COMMIT was sent and never answered: the database was asked afterwards. */
  doubted = 0

  get transactions(): readonly CommittedTransaction[] {
    return this.#transactions
  }

  get snapshot(): readonly Effect[] {
    return this.#snapshot
  }

  commit(transaction: CommittedTransaction): void {
    this.#transactions.push(transaction)
  }

  /** A row that was there before the pipeline: the first snapshot holds it. */
  present(table: Table, id: number): void {
    this.#snapshot.push({ table, key: `${table} ${id}`, identity: snapshotted(table, id), rank: -1 })
  }
}
