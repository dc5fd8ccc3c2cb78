/** Tables of the simulated database: their relations, their rows, and the text that Postgres sends of them. */
import type { Relation } from '../../../src/event/relation.js'
import type { Row } from './messages.js'

const INT4 = 23
const TEXT = 25

export type Fields = Readonly<Record<string, number | string | null>>

/** A row is known by the JSON of its key. */
export class Table {
  relation: Relation
  /** Counts up when the table is altered. */
  version = 0
  readonly primaryKey: readonly string[]
  readonly rows = new Map<string, Fields>()

  constructor(relation: Relation, primaryKey: readonly string[]) {
    this.relation = relation
    this.primaryKey = primaryKey
  }

  key(row: Fields): string {
    return JSON.stringify(Object.fromEntries(this.primaryKey.map((name) => [name, row[name]])))
  }

  /** As the stream says a row: text values, in the order of the columns. */
  text(row: Fields): Row {
    return this.relation.columns.map(({ name }) => {
      const value = row[name] ?? null
      return value === null ? null : String(value)
    })
  }

  /** As the stream says the old key of a row: everything else is NULL. */
  keyText(row: Fields): Row {
    return this.relation.columns.map(({ name, key }) => (key ? String(row[name]) : null))
  }

  /** As an event shows a row. */
  shown(row: Fields): Fields {
    return Object.fromEntries(this.relation.columns.map(({ name }) => [name, row[name] ?? null]))
  }

  /** alter table … add column */
  addColumn(): void {
    const name = `extra${this.version}`
    const column = { name, key: false, typeOid: TEXT, typeModifier: -1 }
    this.relation = { ...this.relation, columns: [...this.relation.columns, column] }
    this.version++
  }
}

/** One with a simple key, one with a key of two columns, one under REPLICA IDENTITY FULL, whose key only the catalog knows. */
export function makeTables(): Table[] {
  const column = (name: string, typeOid: number, key = false): Relation['columns'][number] => {
    return { name, typeOid, typeModifier: -1, key }
  }
  const item = [column('id', INT4, true), column('name', TEXT)]
  const cart = [column('customer', INT4, true), column('product', TEXT, true), column('quantity', INT4)]
  const note = [column('id', INT4), column('body', TEXT)]
  const relation = { schema: 'public', replicaIdentity: 'default' } as const
  return [
    new Table({ ...relation, oid: 16401, table: 'item', columns: item }, ['id']),
    new Table({ ...relation, oid: 16402, table: 'cart', columns: cart }, ['customer', 'product']),
    new Table({ ...relation, oid: 16403, table: 'note', columns: note, replicaIdentity: 'full' }, ['id']),
  ]
}
