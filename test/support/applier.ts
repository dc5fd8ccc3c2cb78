/**
 * An applier of evert's events, as somebody who has only the documentation would write one: it rebuilds tables in another database from
 * the log alone. It imports nothing of evert.
 */
import type pg from 'pg'

interface Event {
  readonly op: string
  readonly before: Row | null
  readonly after: Row | null
  readonly unchanged?: readonly string[]
  readonly source: { readonly schema: string; readonly table: string; readonly position: string }
}
type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json }
type Row = Readonly<Record<string, Json>>

interface Published {
  readonly value: Buffer | null
  readonly headers: readonly { readonly key: string; readonly value: Buffer }[]
}

interface Shape {
  readonly schema: string
  readonly table: string
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly key: readonly string[]
  readonly position: string
}

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`

export class Applier {
  readonly #client: pg.Client
  readonly #shapes: Shape[]
  readonly #current = new Map<string, Shape>()
  /** Rows that are between their old key and their new one, by the old one. */
  readonly #moved = new Map<string, Readonly<Record<string, string | null>>>()

  /** Shapes as they stand on the schema topic, in any order. */
  constructor(client: pg.Client, shapes: readonly string[]) {
    this.#client = client
    this.#shapes = shapes
      .map((text) => JSON.parse(text) as Shape)
      .toSorted((a, b) => (a.position < b.position ? -1 : 1))
  }

  /** The events of all tables, in any order; tombstones may be among them. */
  async apply(records: readonly Published[]): Promise<void> {
    const parsed = records.flatMap(({ value, headers }) =>
      value === null ? [] : [{ event: JSON.parse(String(value)) as Event, headers }],
    )
    const position = ({ event }: (typeof parsed)[number]): string => event.source.position
    for (const { event, headers } of parsed.toSorted((a, b) => (position(a) < position(b) ? -1 : 1))) {
      const header = (name: string): string | null => {
        const found = headers.find(({ key }) => key === name)
        return found === undefined ? null : String(found.value)
      }
      await this.#reshape(event)
      await this.#one(event, header('evert.oldkey'), header('evert.newkey'))
    }
  }

  async #reshape({ source }: Event): Promise<void> {
    const table = `${quote(source.schema)}.${quote(source.table)}`
    const shape = this.#shapes.findLast(
      (one) => one.schema === source.schema && one.table === source.table && one.position <= source.position,
    )
    const before = this.#current.get(table)
    if (shape === undefined) throw new Error(`no shape of ${table} at ${source.position}`)
    if (shape === before) return
    this.#current.set(table, shape)
    if (before === undefined) {
      const columns = shape.columns.map(({ name, type }) => `${quote(name)} ${type}`)
      await this.#client.query(
        `create table ${table} (${columns.join(', ')}, primary key (${shape.key.map(quote).join(', ')}))`,
      )
      return
    }
    const has = (list: Shape['columns'], name: string, type: string): boolean =>
      list.some((column) => column.name === name && column.type === type)
    for (const { name, type } of before.columns) {
      if (!has(shape.columns, name, type)) await this.#client.query(`alter table ${table} drop column ${quote(name)}`)
    }
    for (const { name, type } of shape.columns) {
      if (!has(before.columns, name, type))
        await this.#client.query(`alter table ${table} add column ${quote(name)} ${type}`)
    }
  }

  async #one(
    { op, before, after, unchanged = [], source }: Event,
    oldKey: string | null,
    newKey: string | null,
  ): Promise<void> {
    const table = `${quote(source.schema)}.${quote(source.table)}`
    const shape = this.#current.get(table)
    if (shape === undefined) return
    const where = (row: Row): string =>
      shape.key.map((name) => `${quote(name)} = ${this.#literal(shape, name, row[name] ?? null)}`).join(' and ')
    const names = Object.keys(after ?? {})
    switch (op) {
      case 'c':
      case 'r': {
        const values = names.map((name) => this.#literal(shape, name, after?.[name] ?? null))
        // Under its new key a row keeps what Postgres did not send.
        const kept = unchanged.length === 0 ? null : this.#moved.get(`${table} ${oldKey}`)
        if (kept === undefined) throw new Error(`an insert into ${table} leaves out ${String(unchanged)}`)
        const all = [...names, ...unchanged].map(quote).join(', ')
        const texts = unchanged.map((name) => kept?.[name] ?? null)
        const places = unchanged.map((name, i) => `$${i + 1}::text::${typeOf(shape, name)}`)
        await this.#client.query(`insert into ${table} (${all}) values (${[...values, ...places].join(', ')})`, texts)
        break
      }
      case 'u': {
        const sets = names.map((name) => `${quote(name)} = ${this.#literal(shape, name, after?.[name] ?? null)}`)
        const result = await this.#client.query(`update ${table} set ${sets.join(', ')} where ${where(after ?? {})}`)
        if (result.rowCount !== 1) throw new Error(`an update of ${table} found ${result.rowCount} rows`)
        break
      }
      case 'd': {
        const texts = shape.columns.map(({ name }) => `${quote(name)}::text`).join(', ')
        const result = await this.#client.query(`delete from ${table} where ${where(before ?? {})} returning ${texts}`)
        if (result.rowCount !== 1) throw new Error(`a delete from ${table} found ${result.rowCount} rows`)
        if (newKey !== null) this.#moved.set(`${table} ${JSON.stringify(before)}`, result.rows[0])
        break
      }
      case 't':
        await this.#client.query(`truncate ${table}`)
        break
      default:
        throw new Error(`unknown operation ${op}`)
    }
  }

  #literal(shape: Shape, name: string, value: Json): string {
    const type = typeOf(shape, name)
    if (value === null) return 'null'
    if (type === 'bytea') return `decode('${String(value)}', 'base64')`
    const text = Array.isArray(value) ? arrayLiteral(value as readonly Json[]) : String(value)
    return ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'::${type}`
  }
}

function typeOf(shape: Shape, name: string): string {
  return shape.columns.find((column) => column.name === name)?.type ?? 'text'
}

function arrayLiteral(items: readonly Json[]): string {
  const element = (item: Json): string => {
    if (item === null) return 'NULL'
    if (Array.isArray(item)) return arrayLiteral(item as readonly Json[])
    return `"${String(item).replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
  }
  return `{${items.map(element).join(',')}}`
}
