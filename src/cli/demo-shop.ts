/** The shop of the demo: its tables, and what is traded in it, with the row changes that each transaction is to become. */
import pg from 'pg'

const TABLES = {
  customers: { id: 'int', name: 'text', city: 'text' },
  products: { id: 'int', name: 'text', price: 'numeric', stock: 'int', manual: 'text' },
  cart: { customer: 'int', product: 'int', quantity: 'int', added: 'timestamptz' },
  orders: { id: 'bigint', customer: 'int', total: 'numeric', lines: 'jsonb' },
} as const
type Table = keyof typeof TABLES

const SCHEMA = `
create table customers (id int primary key, name text not null, city text);
create table products (id int primary key, name text not null, price numeric(10,2) not null, stock int not null, manual text);
create table cart (customer int, product int, quantity int not null, added timestamptz not null default clock_timestamp(),
  primary key (customer, product));
create table orders (id bigint generated always as identity primary key, customer int not null, total numeric(12,2) not null, lines jsonb);
insert into customers values (1, 'Ada', 'London'), (2, 'Grace', 'New York'), (3, 'Edgar', 'Portland'), (4, 'Élodie', 'Lyon');
insert into products select id, (array['teapot', 'lamp', 'kite', 'atlas', 'drum', 'telescope'])[id], id * 12.5, 1000, null from generate_series(1, 6) id;
`

/** Column values as the event is to have them, all of them as text. */
export type ExpectedRow = Readonly<Record<string, string | null>>

export interface ExpectedChange {
  readonly op: 'r' | 'c' | 'u' | 'd'
  readonly table: string
  /** The new row, or the deleted one's key. */
  readonly row: ExpectedRow
}

export interface ShopTransaction {
  /** As source.txId has it. */
  readonly txId: number
  readonly statements: readonly string[]
  readonly committed: boolean
  /** In the order of the statements; empty where it was rolled back. */
  readonly changes: readonly ExpectedChange[]
}

type Scene = readonly [table: Table, statement: string][]

export class Shop {
  readonly #client: pg.Client
  /** Every change so far, in commit order. */
  readonly changes: ExpectedChange[] = []
  transactions = 0
  #turn = 0
  /** The product whose manual was written last. */
  #wide = 1
  /** A small generator of its own, so that two demos trade alike. */
  #seed = 7

  private constructor(client: pg.Client) {
    this.#client = client
  }

  static async open(url: string): Promise<Shop> {
    const client = new pg.Client({
      connectionString: url,
      types: { getTypeParser: () => (text: string) => text } as never,
    })
    // A server that goes away is seen by the next query.
    client.on('error', () => undefined)
    await client.connect()
    await client.query(SCHEMA)
    const shop = new Shop(client)
    for (const table of ['customers', 'products'] as const) {
      const { rows } = await client.query<ExpectedRow>(`select ${textColumns(table)} from ${table}`)
      for (const row of rows) shop.changes.push({ op: 'r', table, row })
    }
    return shop
  }

  /** The next transaction, traded and committed (or, now and then, rolled back). */
  async trade(): Promise<ShopTransaction> {
    const rollback = this.#turn % 7 === 5
    const scene = this.#scene(this.#turn++)
    await this.#client.query('begin')
    const changes: ExpectedChange[] = []
    for (const [table, statement] of scene) {
      const deleting = statement.startsWith('delete')
      const op = deleting ? 'd' : statement.startsWith('insert') ? 'c' : 'u'
      const { rows } = await this.#client.query<ExpectedRow>(
        `${statement} returning ${deleting ? keyColumns(table) : textColumns(table)}`,
      )
      for (const row of rows) changes.push({ op, table, row })
    }
    const { rows } = await this.#client.query<{ xid: string }>('select pg_current_xact_id()::xid::text as xid')
    await this.#client.query(rollback ? 'rollback' : 'commit')
    const done = { txId: Number(rows[0]?.xid), statements: scene.map(([, text]) => text), committed: !rollback }
    if (rollback) return { ...done, changes: [] }
    this.transactions++
    this.changes.push(...changes)
    return { ...done, changes }
  }

  /** An LSN behind everything that was traded. */
  async mark(): Promise<string> {
    const { rows } = await this.#client.query<{ lsn: string }>(
      `select pg_logical_emit_message(true, 'demo', 'the end')::text as lsn`,
    )
    return rows[0]?.lsn ?? '0/0'
  }

  async close(): Promise<void> {
    await this.#client.end()
  }

  #random(limit: number): number {
    this.#seed = (this.#seed * 48_271) % 2_147_483_647
    return this.#seed % limit
  }

  #scene(turn: number): Scene {
    const customer = 1 + this.#random(4)
    const product = 1 + this.#random(6)
    const quantity = 1 + this.#random(5)
    switch (turn % 7) {
      case 0:
        return [
          ['cart', 'delete from cart'],
          ['cart', `insert into cart values (1, 2, 1), (3, 5, 2)`],
        ]
      case 1:
        return [['cart', `update cart set quantity = quantity + ${quantity} where customer = 1 and product = 2`]]
      case 2:
        return [
          [
            'orders',
            `insert into orders (customer, total, lines) select 3, sum(quantity * price), jsonb_agg(product) from cart join products on id = product where customer = 3`,
          ],
          ['products', `update products set stock = stock - 2 where id = 5`],
          ['cart', `delete from cart where customer = 3`],
        ]
      case 3:
        // A wide row: its manual is stored out of line.
        this.#wide = product
        return [
          [
            'products',
            `update products set manual = (select string_agg(md5((g * ${turn})::text), ' ') from generate_series(1, 400) g) where id = ${product}`,
          ],
        ]
      case 4:
        // The manual did not change, so Postgres does not send it: the event names it.
        return [['products', `update products set price = price + 0.25 where id in (${this.#wide}, ${product})`]]
      case 5:
        return [
          ['products', `update products set stock = 0`],
          ['cart', `delete from cart`],
        ]
      default:
        return [
          [
            'customers',
            `update customers set city = '${['Paris', 'Oslo', 'Łódź', '東京'][quantity % 4]}' where id = ${customer}`,
          ],
        ]
    }
  }
}

const KEYS: Readonly<Record<Table, readonly string[]>> = {
  customers: ['id'],
  products: ['id'],
  cart: ['customer', 'product'],
  orders: ['id'],
}

function keyColumns(table: Table): string {
  return KEYS[table].map((name) => `${table}.${name}::text as ${name}`).join(', ')
}

function textColumns(table: Table): string {
  return Object.entries(TABLES[table])
    .map(([name, type]) =>
      type === 'timestamptz'
        ? `regexp_replace(to_char(${name} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '\\.?0+Z$', 'Z') as ${name}`
        : `${table}.${name}::text as ${name}`,
    )
    .join(', ')
}
