/** Plain headers: what the envelope would say of a change, where the value is the row alone. */
import type { Operation } from './envelope.js'
import type { RecordHeader } from './sink.js'
import type { TransactionStamp } from './transaction-stamp.js'

const OPERATIONS: Readonly<Record<Operation, RecordHeader>> = {
  c: header('evert.op', 'c'),
  u: header('evert.op', 'u'),
  d: header('evert.op', 'd'),
  r: header('evert.op', 'r'),
  t: header('evert.op', 't'),
  m: header('evert.op', 'm'),
}
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
    unchanged: readonly string[] | null,
    keyHeader: RecordHeader | null,
  ): readonly RecordHeader[] {
    this.#stamp.writePosition(this.#position.value, 0)
    const headers = [OPERATIONS[operation], this.#position, ...this.#ofTransaction]
    if (unchanged !== null) headers.push(header('evert.unchanged', JSON.stringify(unchanged)))
    if (keyHeader !== null) headers.push(keyHeader)
    return headers
  }
}
