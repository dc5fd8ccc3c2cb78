/** Table: a relation compiled for encoding: every constant part of its events is ready as bytes. */
import { jsonBytes } from './json.js'
import type { Relation } from './relation.js'
import type { SinkTopic } from './sink.js'
import { KIND, type ValueOptions } from './type-kinds.js'
import { type TypeDescriptions, type ValueType, valueType } from './value-types.js'

export interface CompiledColumn {
  /** `"name":` */
  readonly label: Buffer
  /** The name as a JSON string, for `unchanged`. */
  readonly name: Buffer
  readonly type: ValueType
  readonly key: boolean
}

export interface CompiledTable {
  readonly relation: Relation
  readonly topic: SinkTopic
  readonly columns: readonly CompiledColumn[]
  /** Indexes of the key columns, in the table's column order; empty where the table has no key. */
  readonly keyColumns: readonly number[]
  /** True where a value may turn out to be of a composite type that was altered. */
  readonly composite: boolean
  /** `"schema":"public","table":"cart"` */
  readonly source: Buffer
  /** Bytes of all constant parts of one event: what the encoder reserves beside the values. */
  readonly constantBytes: number
}

/** `source` and punctuation that is not the table's: txId, lsn, ts_us, position, origin, and what stands between. */
const ENVELOPE_BYTES = 512

export interface CompileOptions {
  readonly relation: Relation
  readonly topic: SinkTopic
  readonly types: TypeDescriptions
  readonly values: ValueOptions
}

export function compileTable({ relation, topic, types, values }: CompileOptions): CompiledTable {
  const columns = relation.columns.map((column) => ({
    label: Buffer.from(`${JSON.stringify(column.name)}:`),
    name: jsonBytes(column.name),
    type: valueType(column.typeOid, values, types),
    key: column.key,
  }))
  const source = Buffer.from(`"schema":${JSON.stringify(relation.schema)},"table":${JSON.stringify(relation.table)}`)
  // A name may stand in before, after, unchanged and the key; 64 bytes cover a null, quotes, and every short value's growth.
  const perColumn = columns.reduce((sum, column) => sum + 4 * (column.label.length + 1) + 64, 0)
  return {
    relation,
    topic,
    columns,
    keyColumns: columns.flatMap((column, index) => (column.key ? [index] : [])),
    composite: columns.some(({ type }) => holdsComposite(type)),
    source,
    constantBytes: perColumn + source.length + ENVELOPE_BYTES,
  }
}

function holdsComposite(type: ValueType): boolean {
  return type.kind === KIND.composite || (type.element !== null && holdsComposite(type.element))
}
