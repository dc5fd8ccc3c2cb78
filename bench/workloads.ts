/** Workloads: what is written before the clock starts. Rows are made once (workloads.sql), and every run drains the same WAL. */

export interface Workload {
  readonly name: string
  readonly tables: readonly string[]
  readonly changes: number
  /** How many records evert makes of them, where it is another number: a delete is followed by a tombstone. */
  readonly records?: number
  /** Before the slot is there. */
  readonly before?: readonly string[]
  readonly fill: string
  /** Its rows are to be read from the table, not its changes from the WAL. */
  readonly atRest?: boolean
}

const SCALE = Number(process.env['BENCH_SCALE'] ?? 1)
export const count = (full: number): number => Math.max(10_000, Math.round((full * SCALE) / 10_000) * 10_000)

const narrow = (rows: number, per: number): Workload => ({
  name: `narrow, ${per === rows ? 'all rows in one transaction' : per === 1 ? '1 row a transaction' : `${per} rows a transaction`}`,
  tables: ['narrow'],
  changes: rows,
  fill: `call fill_narrow(${rows}, ${per})`,
})

const MANY = count(1_000_000)
const FEW = count(300_000)

const WIDE = {
  name: 'wide, 100 rows a transaction',
  tables: ['wide'],
  changes: FEW,
  fill: `call fill_wide(${FEW}, 100)`,
}

export const DRAIN: readonly Workload[] = [narrow(MANY, 100), narrow(FEW, 1), WIDE]

/** What counts here is how formats compare, for which fewer rows are enough. */
export const COST: readonly Workload[] = [narrow(FEW, 100), WIDE]

/** A transaction of fill_mix: inserts, updates, deletes (with tombstones), wide rows and long ones. */
const MIX = { changes: 60 + 30 + 5 + 20 + 5, records: 60 + 30 + 2 * 5 + 20 + 5 }

/** What else happens to tables: beside the floor, without peers. */
export const MORE: readonly Workload[] = [
  narrow(FEW, 10),
  narrow(FEW, 1000),
  narrow(MANY, MANY),
  {
    name: 'updates, 100 a transaction',
    tables: ['narrow'],
    changes: FEW,
    before: [`call fill_narrow(${FEW}, 10000)`],
    fill: `call change_narrow(${FEW}, 100, 'update narrow set a = a + 1')`,
  },
  {
    name: 'updates, replica identity full',
    tables: ['narrow'],
    changes: FEW,
    before: ['alter table narrow replica identity full', `call fill_narrow(${FEW}, 10000)`],
    fill: `call change_narrow(${FEW}, 100, 'update narrow set a = a + 1')`,
  },
  {
    name: 'deletes, 100 a transaction',
    tables: ['narrow'],
    changes: FEW,
    records: 2 * FEW,
    before: [`call fill_narrow(${FEW}, 10000)`],
    fill: `call change_narrow(${FEW}, 100, 'delete from narrow')`,
  },
  { name: 'rows of 1.6 kB', tables: ['long'], changes: count(200_000), fill: `call fill_long(${count(200_000)}, 100)` },
  {
    name: 'a mix of all of them',
    tables: ['narrow', 'wide', 'long'],
    changes: (FEW / 100) * MIX.changes,
    records: (FEW / 100) * MIX.records,
    fill: `call fill_mix(${FEW / 100})`,
  },
]

export const SNAPSHOT: readonly Workload[] = [
  { ...narrow(MANY, 10_000), name: 'narrow rows', atRest: true },
  { name: 'wide rows', tables: ['wide'], changes: FEW, fill: `call fill_wide(${FEW}, 10000)`, atRest: true },
]

/** Those that are asked for, by name or how it begins; all of them for ''. */
export function chosen<T extends { readonly name: string }>(from: readonly T[], only: string): readonly T[] {
  const found = from.filter(({ name }) => name.startsWith(only))
  if (found.length > 0) return found
  const names = from.map(({ name }) => `\n  ${name}`).join('')
  throw new Error(`there is no workload "${only}"; there are:${names}`)
}
