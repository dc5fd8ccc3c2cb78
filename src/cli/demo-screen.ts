/** What the demo shows on a terminal: the SQL of each transaction beside the events it became. */
import { stripVTControlCharacters } from 'node:util'
import pico from 'picocolors'
import type { LogRecord } from '../log/log.js'
import { positionIn } from '../log/position-in.js'
import type { ShopTransaction } from './demo-shop.js'
import { readableEvent } from './tail-format.js'

interface Place {
  readonly name: string
  /** Null for one that is thrown away. */
  readonly log: string | null
}

const MAX_WIDTH = 180
const MIN_BESIDE = 100

export class DemoScreen {
  readonly #width = Math.min(process.stdout.columns ?? 120, MAX_WIDTH)

  open({ log }: Place): void {
    const place = log ?? 'the embedded log, in a temporary folder'
    this.#print([
      '',
      `${pico.bold('evert')} turns a database inside out: every row change becomes an immutable event.`,
      pico.dim(`Postgres 18 in a temporary folder → evert → ${place}. Ctrl-C ends the demo.`),
      '',
      ...this.#beside([pico.bold('what the shop does')], [pico.bold('what followers of the log see')]),
      pico.dim('─'.repeat(this.#width)),
    ])
  }

  transaction(traded: ShopTransaction, records: readonly LogRecord[], ms: number): void {
    const { statements, committed } = traded
    const left = ['begin;', ...statements.map((text) => `  ${text};`), committed ? 'commit;' : 'rollback;']
    const ordered = records.toSorted((a, b) => (positionOf(a) < positionOf(b) ? -1 : 1))
    const right = committed
      ? [...ordered.map(readableEvent), pico.dim(`seen ${ms < 1 ? 'less than 1' : Math.round(ms)} ms after the commit`)]
      : [pico.dim('rolled back: nothing was published')]
    this.#print([...this.#beside(left.map(colourSql), right), ''])
  }

  close(
    summary: {
      readonly transactions: number
      readonly changes: number
      readonly events: number
      readonly missing: number
      readonly repeated: number
      readonly outOfOrder: number
    },
    { name, log }: Place,
  ): void {
    const { transactions, changes, events, missing, repeated, outOfOrder } = summary
    const good = missing + repeated + outOfOrder === 0
    const verdict = `${missing} missing, ${repeated} repeated, ${outOfOrder} out of order`
    this.#print([
      pico.dim('─'.repeat(this.#width)),
      `The shop committed ${transactions} transactions with ${changes} changes; the log, read back, has ${events} events:`,
      good ? pico.green(`✓ ${verdict}`) : pico.red(`✗ ${verdict}`),
      log === null
        ? 'Now with your own: evert run --source postgres://… --log kafka://host:port'
        : `The events are still there: evert tail --log ${log} --name ${name} --from beginning`,
      '',
    ])
  }

  /** Two columns, or on a narrow terminal one above the other. */
  #beside(left: readonly string[], right: readonly string[]): string[] {
    if (this.#width < MIN_BESIDE) {
      return [
        ...left.flatMap((line) => fold(line, this.#width)),
        ...right.flatMap((line) => fold(line, this.#width - 4)).map((line) => `  → ${line}`),
      ]
    }
    const half = Math.floor((this.#width - 3) * 0.45)
    const leftLines = left.flatMap((line) => fold(line, half))
    const rightLines = right.flatMap((line) => fold(line, this.#width - half - 3))
    return Array.from({ length: Math.max(leftLines.length, rightLines.length) }, (_, index) => {
      const text = leftLines[index] ?? ''
      const padding = ' '.repeat(Math.max(0, half - visible(text)))
      return `${text}${padding} ${pico.dim('│')} ${rightLines[index] ?? ''}`
    })
  }

  #print(lines: readonly string[]): void {
    process.stdout.write(`${lines.join('\n')}\n`)
  }
}

function positionOf(record: LogRecord): string {
  return positionIn(record) ?? ''
}

function visible(text: string): number {
  return stripVTControlCharacters(text).length
}

const KEYWORDS =
  /\b(begin|commit|rollback|insert into|update|delete from|set|where|values|select|from|join|on|returning|as|and|or)\b/g

function colourSql(line: string): string {
  return line.replace(KEYWORDS, (word) => pico.blue(word))
}

/** Lines of at most that many visible characters, broken between words; colours go on over a break. */
function fold(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  const indent = /^ */.exec(stripVTControlCharacters(text))?.[0] ?? ''
  for (const word of text.split(/(?<=[ ,])/)) {
    if (visible(line) + visible(word.trimEnd()) > width && visible(line) > indent.length) {
      lines.push(line.trimEnd())
      line = `${indent}  `
    }
    line += visible(word) > width - indent.length - 2 ? clip(word, width - indent.length - 2) : word
  }
  return [...lines, line.trimEnd()]
}

function clip(word: string, width: number): string {
  return `${stripVTControlCharacters(word).slice(0, width - 1)}…`
}
