/** Visibility: which transactions a snapshot sees, by the ids that the stream gives them. */

/** Ids are compared as Postgres does it, modulo 2^32: the one that is less than half of that behind is the older. */
function precedes(a: number, b: number): boolean {
  return ((a - b) | 0) < 0
}

/** `xmin:xmax:xip,…`: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS */
export class Visibility {
  /** The first id that was not seen to be over. */
  readonly xmax: number
  readonly underWay: ReadonlySet<number>

  constructor(snapshot: string) {
    const [, xmax = '', underWay = ''] = snapshot.split(':')
    this.xmax = low(xmax)
    this.underWay = new Set(underWay === '' ? [] : underWay.split(',').map(low))
  }

  /** Whether it sees what a transaction did, if that committed. */
  sees(xid: number): boolean {
    return precedes(xid, this.xmax) && !this.underWay.has(xid)
  }
}

function low(id: string): number {
  return Number(BigInt(id) & 0xffffffffn)
}

/** How many transactions may pass until it is looked which of them can be seen. */
const LOOK_AFTER = 10_000

/**
 * Transactions that have been streamed, or may have been, while snapshots do not see them yet: where a standby is waited for
 * (synchronous_standby_names), a commit is in the WAL long before. About 10 ns a transaction.
 */
export class Unseen {
  #unseen: number[]

  /** What was under way when the stream began may have been streamed before. */
  constructor(snapshot: Visibility, nextXid: number) {
    this.#unseen = [...snapshot.underWay]
    for (let xid = snapshot.xmax; precedes(xid, nextXid); xid = (xid + 1) >>> 0) this.#unseen.push(xid)
  }

  /** True where there are too many to be kept any longer without a look. */
  streamed(xid: number): boolean {
    return this.#unseen.push(xid) >= LOOK_AFTER
  }

  /** Forgets what every later snapshot sees too. */
  look(snapshot: Visibility): void {
    this.#unseen = this.#unseen.filter((xid) => !snapshot.sees(xid))
  }

  get size(): number {
    return this.#unseen.length
  }

  copy(): Set<number> {
    return new Set(this.#unseen)
  }
}
