/** Value types: what a column's type is made of, compiled for writing. Types that are not built in are described by the catalog. */
import type { TypeDescriptions } from './type-description.js'
import { arrayElement, KIND, type Kind, scalarKind, type ValueOptions } from './type-kinds.js'

export interface ValueType {
  readonly kind: Kind
  /** Of an array. */
  readonly element: ValueType | null
  readonly delimiter: number
  /** Of a composite, in order. */
  readonly attributes: readonly Attribute[]
  /** True where a value with fewer fields has the first of them. */
  readonly prefixes: boolean
  readonly oid: number
  /** The most that one value takes beside its own characters: quotes, labels, nulls. */
  readonly constantBytes: number
  /** The most that each separator inside a value may add: the constant bytes of what follows it. */
  readonly separatorBytes: number
}

interface Attribute {
  /** `"name":` */
  readonly label: Buffer
  readonly type: ValueType
}

/** A value of a composite type has other fields than the type is known to have: it was altered before or after it was asked for. */
export class TypeAltered extends Error {
  readonly typeOid: number
  constructor(typeOid: number) {
    super(`composite type ${typeOid} was altered`)
    this.typeOid = typeOid
  }
}

/** A value is not in the text form of its type. */
export class ValueMalformed extends Error {}

const COMMA = 0x2c
/** Quotes, and what a date beyond year 9999 grows by. */
const SCALAR_BYTES = 16
/** Separators that the size of a value is counted by; an array of another one (no known type has any) is text. */
export const SEPARATORS = [',', ';', ':'] as const

function scalar(oid: number, kind: Kind): ValueType {
  const bytes = { constantBytes: SCALAR_BYTES, separatorBytes: 0 }
  return { kind, element: null, delimiter: COMMA, attributes: [], prefixes: false, oid, ...bytes }
}

export interface CompileValues extends ValueOptions {
  /** Whether a composite may have fewer fields than its type, where nothing speaks against it. */
  readonly prefixes?: boolean
}

/** The type as it is to be written; what nobody describes is its Postgres text as a JSON string. */
export function valueType(oid: number, options: CompileValues, types: TypeDescriptions): ValueType {
  const builtIn = scalarKind(oid, options)
  if (builtIn !== null) return scalar(oid, builtIn)
  const array = arrayElement(oid)
  if (array !== null) return arrayOf(oid, valueType(array.element, options, types), array.delimiter)
  const description = types[String(oid)]
  switch (description?.is) {
    case 'domain':
      return valueType(description.base, options, types)
    case 'array': {
      if (!SEPARATORS.some((separator) => separator === description.delimiter)) break
      return arrayOf(oid, valueType(description.element, options, types), description.delimiter.charCodeAt(0))
    }
    case 'composite': {
      const attributes = description.attributes.map(({ name, typeOid }) => ({
        label: Buffer.from(`${JSON.stringify(name)}:`),
        type: valueType(typeOid, options, types),
      }))
      return composite(oid, attributes, options.prefixes === true && !description.dropped)
    }
    case 'hstore':
      return scalar(oid, KIND.hstore)
    case undefined:
      break
  }
  return scalar(oid, KIND.text)
}

function arrayOf(oid: number, element: ValueType, delimiter: number): ValueType {
  // An element of several fields has so many separators, with the one before it, and each pays its part.
  const shares = element.kind === KIND.composite && !element.prefixes ? Math.max(1, element.attributes.length) : 1
  return {
    kind: KIND.array,
    element,
    delimiter,
    attributes: [],
    prefixes: false,
    oid,
    constantBytes: 2 + element.constantBytes,
    separatorBytes: Math.max(Math.ceil((1 + element.constantBytes) / shares), element.separatorBytes),
  }
}

function composite(oid: number, attributes: readonly Attribute[], prefixes: boolean): ValueType {
  return {
    kind: KIND.composite,
    element: null,
    delimiter: COMMA,
    attributes,
    prefixes,
    oid,
    constantBytes: attributes.reduce((sum, { label, type }) => sum + label.length + 1 + type.constantBytes, 2),
    separatorBytes: attributes.reduce((most, { type }) => Math.max(most, type.separatorBytes), 0),
  }
}
