/** Type kinds: which JSON a built-in Postgres type becomes. OIDs below 16384 never change: src/include/catalog/pg_type.dat */

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
} as const

export type Kind = (typeof KIND)[keyof typeof KIND]

export interface ValueType {
  readonly kind: Kind
  /** Of an array: what its elements are, and the byte between them. */
  readonly element: Kind
  readonly delimiter: number
}

const COMMA = 0x2c
const SEMICOLON = 0x3b

const scalar = (kind: Kind): ValueType => ({ kind, element: KIND.text, delimiter: COMMA })
const arrayOf = (element: Kind, delimiter = COMMA): ValueType => ({ kind: KIND.array, element, delimiter })

/** [type OID, array type OID, kind]: every built-in type with a kind of its own; all others are text. */
const BUILT_IN: readonly (readonly [number, number, Kind])[] = [
  [16, 1000, KIND.boolean],
  [17, 1001, KIND.bytea],
  [18, 1002, KIND.text], // "char"
  [19, 1003, KIND.text], // name
  [20, 1016, KIND.integer], // int8
  [21, 1005, KIND.integer], // int2
  [23, 1007, KIND.integer], // int4
  [25, 1009, KIND.text],
  [26, 1028, KIND.integer], // oid
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
  [2950, 2951, KIND.ascii], // uuid
  [3220, 3221, KIND.ascii], // pg_lsn
  [3614, 3643, KIND.text], // tsvector
  [3615, 3645, KIND.text], // tsquery
  [3802, 3807, KIND.text], // jsonb
  [3904, 3905, KIND.text], // int4range
  [3906, 3907, KIND.text], // numrange
  [3908, 3909, KIND.text], // tsrange
  [3910, 3911, KIND.text], // tstzrange
  [3912, 3913, KIND.text], // daterange
  [3926, 3927, KIND.text], // int8range
  [4072, 4073, KIND.text], // jsonpath
  [4451, 6150, KIND.text], // int4multirange
  [4532, 6151, KIND.text], // nummultirange
  [4533, 6152, KIND.text], // tsmultirange
  [4534, 6153, KIND.text], // tstzmultirange
  [4535, 6155, KIND.text], // datemultirange
  [4536, 6157, KIND.text], // int8multirange
]

/** box and its array, the one built-in whose elements a semicolon parts. */
const BOX = 603
const BOX_ARRAY = 1020

const BY_OID = new Map<number, ValueType>()
for (const [oid, arrayOid, kind] of BUILT_IN) {
  BY_OID.set(oid, scalar(kind))
  BY_OID.set(arrayOid, arrayOf(kind))
}
BY_OID.set(BOX, scalar(KIND.ascii))
BY_OID.set(BOX_ARRAY, arrayOf(KIND.ascii, SEMICOLON))

const UNKNOWN = scalar(KIND.text)

/** The type's kind; a type that is not built in is its Postgres text as a JSON string. */
export function valueType(typeOid: number): ValueType {
  return BY_OID.get(typeOid) ?? UNKNOWN
}
