/** Plain headers: what the envelope would say of a change, where the value is the row alone. */
import type { Operation } from './envelope.js'
import { columnsIn } from './row.js'
import type { RecordHeader } from './sink.js'
import type { CompiledTable } from './table.js'
import { OMITTED, type Tuple, UNCHANGED } from './tuple.js'
import type { TransactionStamp } from './transaction-stamp.js'

const OPERATIONS: Readonly<Record<Operation, RecordHeader>> = {
  c: header('evert.op', 'c'),
  u: header('evert.op', 'u'),
  d: header('evert.op', 'd'),
  r: header('evert.op', 'r'),
  t: header('evert.op', 't'),
  m: header('evert.op', 'm'),
}
const ABSENT = [
  ['evert.unchanged', UNCHANGED],
  ['evert.omitted', OMITTED],
] as const
const POSITION_BYTES = 25

function header(key: string, value: string): RecordHeader {
  return { key, value: Buffer.from(value) }
}

export class PlainHeaders {
  readonly #stamp: TransactionStamp
  /** Written anew for each record: a sink copies what it keeps. */
  readonly #position = { key: 'evert.position', value: Buffer.alloc(POSITION_BYTES) }
  #ofTransaction: readonly RecordHeader[] = []

  constructor(stamp: TransactionStamp) {
    this.#stamp = stamp
  }

  /** After the stamp began a transaction, or learned its origin. */
  begin(origin: string | null): void {
    const { xid, timeUs } = this.#stamp
    this.#ofTransaction = [
      header('evert.ts_us', String(timeUs)),
      ...(xid === null ? [] : [header('evert.txid', String(xid))]),
      ...(origin === null ? [] : [header('evert.origin', origin)]),
    ]
  }

  /** Takes the next ordinal. */
  of(
    operation: Operation,
    at: { readonly table: CompiledTable; readonly row: Tuple } | null,
    keyHeader: RecordHeader | null,
  ): readonly RecordHeader[] {
    this.#stamp.writePosition(this.#position.value, 0)
    const headers = [OPERATIONS[operation], this.#position, ...this.#ofTransaction]
    for (const [name, state] of at === null ? [] : ABSENT) {
      const columns = at === null ? null : columnsIn(state, at.table, at.row)
      if (columns !== null) headers.push(header(name, JSON.stringify(columns)))
    }
    if (keyHeader !== null) headers.push(keyHeader)
    return headers
  }
}
