/** Publication: which tables the stream carries. */
import { EvertError } from '../base/errors.js'
import { qualifiedName } from './catalog.js'
import type { Connection } from './connection.js'
import { sqlState } from './connection-error.js'
import type { Server } from './server.js'
import { sql } from './sql.js'
import type { TablePatterns } from './table-patterns.js'

export interface Publication {
  readonly allTables: boolean
  readonly viaRoot: boolean
  /** What it publishes. Updates and deletes need a replica identity. */
  readonly operations: readonly Operation[]
}

const OPERATIONS = ['insert', 'update', 'delete', 'truncate'] as const
export type Operation = (typeof OPERATIONS)[number]

/** Null where there is none. */
export async function inspectPublication(connection: Connection, publication: string): Promise<Publication | null> {
  const [row] = await connection.query(sql('publication', { publication }))
  if (row === undefined) return null
  return {
    allTables: row['puballtables'] === 't',
    viaRoot: row['pubviaroot'] === 't',
    operations: OPERATIONS.filter((operation) => row[`pub${operation}`] === 't'),
  }
}

/** The statement that creates a publication of the matching tables. Error: PUBLICATION_EMPTY. */
export async function publicationStatement(
  connection: Connection,
  options: { readonly publication: string; readonly patterns: TablePatterns; readonly server: Server },
): Promise<string> {
  const { publication, patterns, server } = options
  if (patterns.all && server.superuser) return sql('publication-create-all', { publication })
  const rows = await connection.query(sql('tables'))
  const matching = rows
    .map((row) => ({ schema: row['schema'] ?? '', table: row['table'] ?? '' }))
    .filter(({ schema, table }) => patterns.matches(schema, table))
  if (matching.length === 0) {
    throw new EvertError('PUBLICATION_EMPTY', {
      message: `publication "${publication}" would have no table: --tables matches none of ${rows.length}`,
      hint: `--tables 'public.*' takes every table of a schema`,
    })
  }
  return sql('publication-create', {
    publication,
    tables: matching.map((table) => `only ${qualifiedName(table)}`).join(', '),
  })
}

/** One that another process made meanwhile is as good. Error: POSTGRES_PERMISSION, whose hint is the statement for somebody who may. */
export async function createPublication(connection: Connection, statement: string): Promise<void> {
  try {
    await connection.query(statement)
  } catch (error) {
    if (sqlState(error) === '42710') return
    if (sqlState(error) !== '42501') throw error
    throw new EvertError('POSTGRES_PERMISSION', {
      message: `the publication cannot be created: ${error instanceof Error ? error.message : ''}`,
      hint: `let the owner of the tables, or a superuser, run: ${statement}`,
      cause: error,
    })
  }
}

export async function dropPublication(connection: Connection, publication: string): Promise<void> {
  await connection.query(sql('publication-drop', { publication }))
}
