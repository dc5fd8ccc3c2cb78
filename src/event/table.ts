/** Table: a relation compiled for encoding: every constant part of its events is ready as bytes. */
import type { Envelope } from './envelope.js'
import { jsonBytes } from './json.js'
import type { Relation } from './relation.js'
import type { SinkTopic } from './sink.js'
import { KIND, type Kind } from './type-kinds.js'
import type { TypeDescriptions } from './type-description.js'
import { type CompileValues, type ValueType, valueType } from './value-types.js'

export interface CompiledColumn {
  /** `"name":` */
  readonly label: Buffer
  /** The name as a JSON string, for `unchanged`. */
  readonly name: Buffer
  readonly type: ValueType
  readonly kind: Kind
  readonly key: boolean
  /** The most that a byte of a short value becomes; 0 where a value must be looked at to know. */
  readonly growth: number
}

export interface CompiledTable {
  readonly relation: Relation
  readonly topic: SinkTopic
  readonly columns: readonly CompiledColumn[]
  /** Indexes of the key columns, in the table's column order; empty where the table has no key. */
  readonly keyColumns: readonly number[]
  /** True where a value may turn out to be of a composite type that was altered. */
  readonly composite: boolean
  /** Null where an event is the row alone. */
  readonly heads: Heads | null
  /** What closes the rows, and all that the table says. */
  readonly source: Buffer
  /** The largest key and value together that the topic takes. */
  readonly maxRecordBytes: number
  /** The most that a byte of a short row becomes; 0 where its values must be looked at to know. */
  readonly growth: number
  /** Bytes of all constant parts of one event: what the encoder reserves beside the values. */
  readonly constantBytes: number
}

/** Of one operation: what stands before the rows and between them. */
interface Head {
  /** `{"op":"u","before":` */
  readonly before: Buffer
  /** `,"after":` */
  readonly between: Buffer
  /** `{"op":"c","before":null,"after":` */
  readonly withoutBefore: Buffer
}
type Heads = Readonly<Record<'c' | 'u' | 'd' | 'r' | 't', Head>>

/** What a record batch with one record has beside key and value: its header, lengths, and our own record headers. */
export const RECORD_OVERHEAD_BYTES = 1024
/** Punctuation and nulls that are not a column's. */
const ENVELOPE_BYTES = 128

export interface CompileOptions {
  readonly relation: Relation
  readonly topic: SinkTopic
  readonly types: TypeDescriptions
  readonly values: CompileValues
  readonly envelope: Envelope
}

export function compileTable({ relation, topic, types, values, envelope }: CompileOptions): CompiledTable {
  const columns = relation.columns.map(({ name, typeOid, key }): CompiledColumn => {
    const type = valueType(typeOid, values, types)
    const label = Buffer.from(`${JSON.stringify(name)}:`)
    return { label, name: jsonBytes(name), type, kind: type.kind, key, growth: growthOf(type) }
  })
  const source = Buffer.from(envelope.source(relation))
  const heads = headsOf(envelope, relation)
  // A name may stand in before, after, unchanged and the key; 64 bytes cover a null, quotes, and every short value's growth.
  const perColumn = columns.reduce((sum, column) => sum + 4 * (column.label.length + 1) + 64, 0)
  return {
    relation,
    topic,
    columns,
    keyColumns: columns.flatMap((column, index) => (column.key ? [index] : [])),
    composite: columns.some(({ type }) => holdsComposite(type)),
    heads,
    maxRecordBytes: (topic.maxRecordBytes ?? Number.POSITIVE_INFINITY) - RECORD_OVERHEAD_BYTES,
    source,
    growth: columns.some(({ growth }) => growth === 0) ? 0 : Math.max(0, ...columns.map(({ growth }) => growth)),
    constantBytes: perColumn + source.length + (heads?.c.withoutBefore.length ?? 0) + ENVELOPE_BYTES,
  }
}

function headsOf(envelope: Envelope, relation: Relation): Heads | null {
  const { between } = envelope
  const headOf = (operation: keyof Heads): Head | null => {
    const before = envelope.head(operation, relation)
    if (before === null) return null
    const withoutBefore = Buffer.from(`${before}null${between}`)
    return { before: Buffer.from(before), between: Buffer.from(between), withoutBefore }
  }
  const [c, u, d, r, t] = [headOf('c'), headOf('u'), headOf('d'), headOf('r'), headOf('t')]
  return c === null || u === null || d === null || r === null || t === null ? null : { c, u, d, r, t }
}

/** A control character becomes six bytes; what a scalar grows by beside that, a table's constant bytes cover. */
function growthOf({ kind }: ValueType): number {
  return kind === KIND.array || kind === KIND.composite || kind === KIND.hstore ? 0 : 6
}

function holdsComposite(type: ValueType): boolean {
  return type.kind === KIND.composite || (type.element !== null && holdsComposite(type.element))
}
