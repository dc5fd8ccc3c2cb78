/** Type kinds: how the text form of a built-in Postgres type becomes JSON. OIDs below 10000 never change: src/include/catalog/pg_type.dat */

/** What a value's text form is, and so how it is written. */
export const KIND = {
  /** Digits: as they are. */
  integer: 0,
  /** A number, but NaN and the infinities are strings. */
  float: 1,
  boolean: 2,
  /** Text that may need escapes. Also what an unknown type is. */
  text: 3,
  /** Text that never needs escapes. */
  ascii: 4,
  date: 5,
  timestamp: 6,
  timestamptz: 7,
  bytea: 8,
  money: 9,
  array: 10,
  composite: 11,
  hstore: 12,
  /** JSON that stays as it is, byte for byte. */
  nested: 13,
  /** bytea as hexadecimal digits. */
  hex: 14,
  /** timestamp and timestamptz as microseconds since 1970. */
  epochUs: 15,
} as const

export type Kind = (typeof KIND)[keyof typeof KIND]

/** How values are written where there is a choice. The first of each is the default. */
export interface ValueOptions {
  readonly json: 'string' | 'nested'
  readonly bytea: 'base64' | 'hex'
  readonly numeric: 'string' | 'number'
  readonly timestamps: 'iso' | 'epoch-us'
}

export const DEFAULT_VALUES: ValueOptions = { json: 'string', bytea: 'base64', numeric: 'string', timestamps: 'iso' }

const COMMA = 0x2c
const SEMICOLON = 0x3b

/** [type OID, array type OID, kind]: every built-in type with a kind of its own; all others are text. */
const BUILT_IN: readonly (readonly [number, number, Kind])[] = [
  [16, 1000, KIND.boolean],
  [17, 1001, KIND.bytea],
  [18, 1002, KIND.text], // "char"
  [19, 1003, KIND.text], // name
  [20, 1016, KIND.integer], // int8
  [21, 1005, KIND.integer], // int2
  [22, 1006, KIND.text], // int2vector
  [23, 1007, KIND.integer], // int4
  [24, 1008, KIND.text], // regproc
  [25, 1009, KIND.text],
  [26, 1028, KIND.integer], // oid
  [27, 1010, KIND.text], // tid
  [28, 1011, KIND.text], // xid
  [29, 1012, KIND.text], // cid
  [30, 1013, KIND.text], // oidvector
  [114, 199, KIND.text], // json
  [142, 143, KIND.text], // xml
  [600, 1017, KIND.ascii], // point
  [601, 1018, KIND.ascii], // lseg
  [602, 1019, KIND.ascii], // path
  [604, 1027, KIND.ascii], // polygon
  [628, 629, KIND.ascii], // line
  [650, 651, KIND.ascii], // cidr
  [700, 1021, KIND.float], // float4
  [701, 1022, KIND.float], // float8
  [718, 719, KIND.ascii], // circle
  [774, 775, KIND.ascii], // macaddr8
  [790, 791, KIND.money],
  [829, 1040, KIND.ascii], // macaddr
  [869, 1041, KIND.ascii], // inet
  [1033, 1034, KIND.text], // aclitem
  [1042, 1014, KIND.text], // bpchar
  [1043, 1015, KIND.text], // varchar
  [1082, 1182, KIND.date],
  [1083, 1183, KIND.ascii], // time
  [1114, 1115, KIND.timestamp],
  [1184, 1185, KIND.timestamptz],
  [1186, 1187, KIND.ascii], // interval, printed by IntervalStyle iso_8601
  [1266, 1270, KIND.ascii], // timetz
  [1560, 1561, KIND.ascii], // bit
  [1562, 1563, KIND.ascii], // varbit
  [1700, 1231, KIND.ascii], // numeric: a string, so that no digit is lost
  [1790, 2201, KIND.text], // refcursor
  [2202, 2207, KIND.text], // regprocedure
  [2203, 2208, KIND.text], // regoper
  [2204, 2209, KIND.text], // regoperator
  [2205, 2210, KIND.text], // regclass
  [2206, 2211, KIND.text], // regtype
  [2950, 2951, KIND.ascii], // uuid
  [2970, 2949, KIND.text], // txid_snapshot
  [3220, 3221, KIND.ascii], // pg_lsn
  [3614, 3643, KIND.text], // tsvector
  [3615, 3645, KIND.text], // tsquery
  [3642, 3644, KIND.text], // gtsvector
  [3734, 3735, KIND.text], // regconfig
  [3769, 3770, KIND.text], // regdictionary
  [3802, 3807, KIND.text], // jsonb
  [3904, 3905, KIND.text], // int4range
  [3906, 3907, KIND.text], // numrange
  [3908, 3909, KIND.text], // tsrange
  [3910, 3911, KIND.text], // tstzrange
  [3912, 3913, KIND.text], // daterange
  [3926, 3927, KIND.text], // int8range
  [4072, 4073, KIND.text], // jsonpath
  [4089, 4090, KIND.text], // regnamespace
  [4096, 4097, KIND.text], // regrole
  [4191, 4192, KIND.text], // regcollation
  [4451, 6150, KIND.text], // int4multirange
  [4532, 6151, KIND.text], // nummultirange
  [4533, 6152, KIND.text], // tsmultirange
  [4534, 6153, KIND.text], // tstzmultirange
  [4535, 6155, KIND.text], // datemultirange
  [4536, 6157, KIND.text], // int8multirange
  [5038, 5039, KIND.text], // pg_snapshot
  [5069, 271, KIND.text], // xid8
]

/** box and its array, the one built-in whose elements a semicolon parts. */
const BOX = 603
const BOX_ARRAY = 1020

const KINDS = new Map<number, Kind>([[BOX, KIND.ascii]])
const ELEMENTS = new Map<number, { readonly element: number; readonly delimiter: number }>([
  [BOX_ARRAY, { element: BOX, delimiter: SEMICOLON }],
])
for (const [oid, arrayOid, kind] of BUILT_IN) {
  KINDS.set(oid, kind)
  ELEMENTS.set(arrayOid, { element: oid, delimiter: COMMA })
}

const NUMERIC_OID = 1700
const JSON_OID = 114
const JSONB_OID = 3802

/** The kind of a built-in scalar type, or null. */
export function scalarKind(typeOid: number, options: ValueOptions): Kind | null {
  const kind = KINDS.get(typeOid)
  if (kind === undefined) return null
  if (typeOid === JSON_OID || typeOid === JSONB_OID) return options.json === 'nested' ? KIND.nested : kind
  if (typeOid === NUMERIC_OID) return options.numeric === 'number' ? KIND.float : kind
  if (kind === KIND.bytea) return options.bytea === 'hex' ? KIND.hex : kind
  if (kind === KIND.timestamp || kind === KIND.timestamptz) return options.timestamps === 'iso' ? kind : KIND.epochUs
  return kind
}

/** What a built-in array type is made of, or null. */
export function arrayElement(typeOid: number): { readonly element: number; readonly delimiter: number } | null {
  return ELEMENTS.get(typeOid) ?? null
}
