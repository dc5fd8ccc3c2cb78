/** Catalog: the published tables as the server describes them now. The stream describes them as they were. */
import * as z from 'zod'
import { EvertError } from '../base/errors.js'
import type { Relation, RelationDescription, ReplicaIdentity } from '../event/relation.js'
import { typeDescriptions } from '../event/type-description.js'
import type { Connection } from './connection.js'
import { quoteIdentifier, sql } from './sql.js'
import type { TablePatterns } from './table-patterns.js'

export interface PublishedTable {
  readonly relation: Relation
  /** A partitioned table is published as one, in place of its partitions. */
  readonly partitioned: boolean
  /** The publication's WHERE, in parentheses. */
  readonly rowFilter: string | null
  /** 0 where the table was never analyzed. */
  readonly estimatedRows: number
  /** On disk, with what is TOASTed. */
  readonly bytes: number
  /** Of its rows alone. */
  readonly heapBytes: number
  /** Of its longest heap; null where something of it is not in a heap, which ctids number. */
  readonly blocks: number | null
  /** What keeps the role from reading all rows: no USAGE on the schema, no SELECT, row-level security. */
  readonly obstacle: Obstacle | null
  /** False where Postgres refuses updates and deletes, because nothing would say which row they mean. */
  readonly identifiable: boolean
}

const IDENTITY: Readonly<Record<string, ReplicaIdentity>> = { d: 'default', n: 'nothing', f: 'full', i: 'index' }

const columns = z
  .array(z.object({ name: z.string(), typeOid: z.number(), typeModifier: z.number(), key: z.boolean() }))
  .nullable()
const obstacle = z.enum(['schema', 'table', 'rows']).nullable()
type Obstacle = 'schema' | 'table' | 'rows'

/** All of them, or the one of an OID: the sizes of thousands take seconds. */
export async function publishedTables(connection: Connection, publication: string, oid = 0): Promise<PublishedTable[]> {
  const rows = await connection.query(sql('published-tables', { publication, oid: String(oid) }))
  return rows.map((row) => ({
    relation: {
      oid: Number(row['oid']),
      schema: row['schema'] ?? '',
      table: row['table'] ?? '',
      replicaIdentity: IDENTITY[row['relreplident'] ?? ''] ?? 'nothing',
      columns: columns.parse(JSON.parse(row['columns'] ?? 'null')) ?? [],
    },
    partitioned: row['relkind'] === 'p',
    rowFilter: row['row_filter'] ?? null,
    estimatedRows: Number(row['estimated_rows']),
    bytes: Number(row['bytes']),
    heapBytes: Number(row['heap_bytes']),
    blocks: row['blocks'] === null ? null : Number(row['blocks']),
    obstacle: obstacle.parse(row['obstacle']),
    identifiable: row['identifiable'] === 't',
  }))
}

/** Those of a publication that --tables means. Error: PUBLICATION_EMPTY. */
export async function requireMatching(
  connection: Connection,
  { publication, patterns }: { readonly publication: string; readonly patterns: TablePatterns },
): Promise<PublishedTable[]> {
  const published = await publishedTables(connection, publication)
  const tables = published.filter(({ relation }) => patterns.matches(relation.schema, relation.table))
  if (tables.length > 0) return tables
  throw new EvertError('PUBLICATION_EMPTY', {
    message: `publication "${publication}" has ${published.length} tables, and --tables matches none of them`,
    hint: `alter publication "${publication}" add table …, or change --tables`,
  })
}

const described = z.object({
  primaryKey: z.array(z.string()).nullable(),
  typeNames: z.array(z.string().nullable()),
  types: typeDescriptions,
})

/** What the stream does not say of a relation, as the catalog has it now; what is gone by now is not described. */
export async function describeRelation(connection: Connection, relation: Relation): Promise<RelationDescription> {
  const types = JSON.stringify(relation.columns.map(({ typeOid, typeModifier }) => [typeOid, typeModifier]))
  const [row] = await connection.query(sql('relation', { table: String(relation.oid), types }))
  const json = (column: string): unknown => JSON.parse(row?.[column] ?? 'null')
  return described.parse({ primaryKey: json('primary_key'), typeNames: json('type_names'), types: json('types') })
}

/** `"public"."cart"` */
export function qualifiedName(relation: { readonly schema: string; readonly table: string }): string {
  return `${quoteIdentifier(relation.schema)}.${quoteIdentifier(relation.table)}`
}

/** Error: POSTGRES_PERMISSION, with what to grant. */
export function requireSelect(tables: readonly PublishedTable[], role: string, otherwise = '--snapshot none'): void {
  const refused = tables.filter((table) => table.obstacle !== null)
  if (refused.length === 0) return
  const names = refused.map((table) => qualifiedName(table.relation)).join(', ')
  const grants = [...new Set(refused.flatMap((table) => grantsFor(table, quoteIdentifier(role))))]
  throw new EvertError('POSTGRES_PERMISSION', {
    message: `role "${role}" may not read all rows of ${names}, and so cannot publish a snapshot`,
    hint: `${grants.join('; ')}; or ${otherwise}`,
  })
}

/** Said of them from the moment at which they are published, also where nobody reads that. */
export const WITHOUT_IDENTITY =
  'tables without a replica identity: Postgres refuses their updates and deletes while they are published; add a primary key, or alter table … replica identity full'

export function unidentifiable(tables: readonly PublishedTable[]): string[] {
  return tables.filter((table) => !table.identifiable).map((table) => qualifiedName(table.relation))
}

/** Without USAGE on the schema nothing is known of the table's own grants that would still be missing: both are named. */
function grantsFor({ obstacle: kind, relation }: PublishedTable, role: string): string[] {
  if (kind === 'rows') return [`alter role ${role} bypassrls`]
  const select = `grant select on ${qualifiedName(relation)} to ${role}`
  return kind === 'schema' ? [`grant usage on schema ${quoteIdentifier(relation.schema)} to ${role}`, select] : [select]
}
