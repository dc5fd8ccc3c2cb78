/** Schema record: tells a consumer the shape of a table from a position on; on the topic `<name>.schema`. */
import { formatPosition, type Position } from './position.js'
import type { Relation, RelationDescription, ReplicaIdentity, ToldFormat } from './relation.js'
import type { FormatName } from './envelope.js'
import type { ValueOptions } from './type-kinds.js'
import type { TypeDescriptions } from './type-description.js'

export interface SchemaValue {
  readonly schema: string
  readonly table: string
  /** pg_class.oid: the same through a rename, another one after drop and create. */
  readonly oid: number
  readonly replicaIdentity: ReplicaIdentity
  readonly columns: readonly {
    readonly name: string
    /** With modifiers, such as `numeric(10,2)`; null where the type was gone before it could be asked for. */
    readonly type: string | null
    readonly typeOid: number
    readonly typeModifier: number
  }[]
  /** Columns of the event's key, in order; empty where there is none. */
  readonly key: readonly string[]
  /** By OID, what domains, arrays, composites and hstore among the types are made of. */
  readonly types: TypeDescriptions
  /** How the events are written. */
  readonly format: FormatName
  readonly values: ValueOptions
  /** Of the first change that has this shape. */
  readonly position: string
}

/** Every version has a key of its own, so that a compacted topic keeps the history. */
export function schemaRecord(
  relation: Relation,
  description: RelationDescription & { readonly told: ToldFormat },
  at: Position,
): { readonly key: Buffer; readonly value: Buffer } {
  const { schema, table, oid, replicaIdentity } = relation
  const { typeNames, types, told } = description
  const position = formatPosition(at)
  const columns = relation.columns.map(({ name, typeOid, typeModifier }, i) => {
    return { name, type: typeNames[i] ?? null, typeOid, typeModifier }
  })
  const keyColumns = relation.columns.filter(({ key }) => key).map(({ name }) => name)
  const value: SchemaValue = { schema, table, oid, replicaIdentity, columns, key: keyColumns, types, ...told, position }
  const key = JSON.stringify({ schema, table, position })
  return { key: Buffer.from(key), value: Buffer.from(JSON.stringify(value)) }
}
