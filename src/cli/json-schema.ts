/** JSON Schema of a table's events (draft 2020-12), from what the schema topic says of it. */
import type { FormatName } from '../event/envelope.js'
import type { SchemaValue } from '../event/schema-record.js'
import { KIND } from '../event/type-kinds.js'
import { type ValueType, valueType } from '../event/value-types.js'

export type JsonSchema = Readonly<Record<string, unknown>>

const DIALECT = 'https://json-schema.org/draft/2020-12/schema'
const INTEGER = { type: 'integer' }
const STRING = { type: 'string' }

/** Of the value of an event, tombstones included. */
export function eventSchema(version: SchemaValue): JsonSchema {
  const title = `${version.schema}.${version.table}`
  const row = rowSchema(version)
  return { $schema: DIALECT, title, $defs: { row }, ...ENVELOPES[version.format](version) }
}

/** Columns may be absent: those that Postgres did not send, and all but the key's in `before`. */
function rowSchema({ columns, values, types }: SchemaValue): JsonSchema {
  const properties = columns.map(({ name, type, typeOid }) => {
    return [
      name,
      { ...orNull(schemaOf(valueType(typeOid, values, types))), ...(type === null ? {} : { $comment: type }) },
    ]
  })
  return { type: 'object', properties: Object.fromEntries(properties), additionalProperties: false }
}

function orNull(schema: JsonSchema): JsonSchema {
  return Object.keys(schema).length === 0 ? schema : { anyOf: [schema, { type: 'null' }] }
}

function schemaOf(type: ValueType): JsonSchema {
  switch (type.kind) {
    case KIND.integer:
      return INTEGER
    case KIND.float:
      return { anyOf: [{ type: 'number' }, { enum: ['NaN', 'Infinity', '-Infinity'] }] }
    case KIND.epochUs:
      return { anyOf: [INTEGER, { enum: ['infinity', '-infinity'] }] }
    case KIND.boolean:
      return { type: 'boolean' }
    case KIND.nested:
      return {}
    case KIND.hstore:
      return { type: 'object', additionalProperties: orNull(STRING) }
    case KIND.array: {
      // Postgres' arrays may have any number of dimensions, whatever their type says.
      const element = type.element === null ? {} : schemaOf(type.element)
      return { type: 'array', items: { anyOf: [element, { type: 'null' }, { type: 'array' }] } }
    }
    case KIND.composite: {
      const properties = type.attributes.map(({ label, type: attribute }) => {
        return [JSON.parse(label.toString().slice(0, -1)), orNull(schemaOf(attribute))]
      })
      return { type: 'object', properties: Object.fromEntries(properties), additionalProperties: false }
    }
    default:
      return STRING
  }
}

const ROW = { $ref: '#/$defs/row' }
const ROWS = {
  op: { enum: ['c', 'u', 'd', 'r', 't'] },
  before: orNull(ROW),
  after: orNull(ROW),
  unchanged: { type: 'array', items: STRING },
  omitted: { type: 'array', items: STRING },
}

function envelopeOf(properties: JsonSchema, required: readonly string[]): JsonSchema {
  return { type: ['object', 'null'], properties, required, additionalProperties: false }
}

const TIMES = { ts_ms: INTEGER, ts_us: INTEGER, ts_ns: INTEGER }

const ENVELOPES: Readonly<Record<FormatName, (version: SchemaValue) => JsonSchema>> = {
  evert: ({ schema, table }) => {
    const source = {
      type: 'object',
      properties: {
        schema: { const: schema },
        table: { const: table },
        txId: INTEGER,
        origin: STRING,
        lsn: INTEGER,
        ts_us: INTEGER,
        position: { type: 'string', pattern: '^[0-9a-f]{16}-[0-9a-f]{8}$' },
      },
      required: ['schema', 'table', 'lsn', 'ts_us', 'position'],
    }
    return envelopeOf({ ...ROWS, source }, ['op', 'before', 'after', 'source'])
  },
  debezium: () =>
    envelopeOf({ ...ROWS, source: { type: 'object' }, transaction: { type: 'null' }, ...TIMES }, ['op', 'source']),
  plain: () => orNull(ROW),
  cloudevents: ({ schema, table }) => {
    const data = { type: 'object', properties: ROWS, required: ['op', 'before', 'after'] }
    return {
      type: ['object', 'null'],
      properties: {
        specversion: { const: '1.0' },
        type: STRING,
        id: STRING,
        source: STRING,
        subject: { const: `${schema}.${table}` },
        data,
      },
      required: ['specversion', 'id', 'source', 'type', 'data'],
    }
  },
}
