/** How far rows are that are read: a bar on a terminal, a line every ten seconds elsewhere. */
import { SingleBar } from 'cli-progress'
import type { Logger } from '../base/logger.js'

const LINE_EVERY_MS = 10_000

interface Rows {
  readonly rows: number
  /** Planner statistics: an estimate, which the bar outgrows where the table did. */
  readonly estimatedRows: number
}

export class RowsProgress {
  readonly #what: string
  readonly #logger: Logger
  #bar: SingleBar | null = null
  #startedMs = 0
  #lastLineMs = 0
  #rowsBefore = 0

  /** What it is that goes on: a word for people. */
  constructor(what: string, logger: Logger) {
    this.#what = what
    this.#logger = logger
  }

  /** Where an earlier process has read some of the rows, the rate is that of this one. */
  begin({ rows, estimatedRows }: Rows): void {
    this.end()
    this.#startedMs = this.#lastLineMs = performance.now()
    this.#rowsBefore = rows
    if (!process.stderr.isTTY) return
    this.#bar = new SingleBar({
      stream: process.stderr,
      format: `${this.#what} {bar} {value}${estimatedRows === 0 ? '' : ' of about {total}'} rows{left}  {table}`,
      linewrap: null,
    })
    this.#bar.start(Math.max(estimatedRows, rows), rows, { table: '', left: '' })
  }

  /** `more` stands in the line, too. */
  at({ rows, estimatedRows }: Rows, table: string, more: object): void {
    const nowMs = performance.now()
    const rowsASecond = Math.round(((rows - this.#rowsBefore) / (nowMs - this.#startedMs)) * 1000)
    const secondsLeft = estimatedRows > rows && rowsASecond > 0 ? Math.ceil((estimatedRows - rows) / rowsASecond) : null
    if (this.#bar !== null) {
      if (rows > this.#bar.getTotal()) this.#bar.setTotal(rows)
      return this.#bar.update(rows, { table, left: secondsLeft === null ? '' : `, ${secondsLeft} s left` })
    }
    if (nowMs - this.#lastLineMs < LINE_EVERY_MS) return
    this.#lastLineMs = nowMs
    this.#logger.info({ rows, estimatedRows, rowsASecond, secondsLeft, table, ...more }, `${this.#what} goes on`)
  }

  /** However it ended: a bar that is not stopped keeps the process alive. */
  end(): void {
    this.#bar?.stop()
    this.#bar = null
  }
}
