/** Relation: the shape of a table at one point of the stream, as a Relation message says it. */
import type { FormatName } from './envelope.js'
import type { ValueOptions } from './type-kinds.js'
import type { TypeDescriptions } from './type-description.js'

/**
 * How Postgres identifies old rows: the primary key, a chosen unique index, every column, or nothing.
 * https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
 */
export type ReplicaIdentity = 'default' | 'index' | 'full' | 'nothing'

export interface Column {
  readonly name: string
  /** pg_type.oid, unsigned. */
  readonly typeOid: number
  /** pg_attribute.atttypmod, -1 for none. */
  readonly typeModifier: number
  /** Part of the event's key. */
  readonly key: boolean
}

export interface Relation {
  /** pg_class.oid, unsigned. */
  readonly oid: number
  readonly schema: string
  readonly table: string
  readonly replicaIdentity: ReplicaIdentity
  /** In the order of the stream. */
  readonly columns: readonly Column[]
}

/** What the stream does not say of a relation version: asked of the catalog once, and remembered. */
export interface RelationDescription {
  /** In the table's column order; asked because under REPLICA IDENTITY FULL the stream flags every column. Null where the table is gone. */
  readonly primaryKey: readonly string[] | null
  /** By column, with modifiers, such as `numeric(10,2)`; null where the type is gone. */
  readonly typeNames: readonly (string | null)[]
  readonly types: TypeDescriptions
  /** In which format the version was told on the schema topic; absent where it was not told yet. */
  readonly told?: ToldFormat
}

/** How events were written when a version was told. */
export interface ToldFormat {
  readonly format: FormatName
  readonly values: ValueOptions
}
