/** Report: results as a table in Markdown and as a chart, printed, and put into README.md where the run was a whole one. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { format } from 'prettier'
import { type Contender, median, REPEATS, type Result, type Results } from './contest.js'
import { postgresClient } from './contenders/processes.js'
import type { Workload } from './workloads.js'

const README = new URL('./README.md', import.meta.url)
/** A short or small run is for looking at. */
const WHOLE = REPEATS >= 5 && REPEATS % 2 === 1 && process.env['BENCH_SCALE'] === undefined

export type Cells = readonly (string | number)[]

export function conditions(repeats: number | null = REPEATS): string {
  const [cpu] = cpus()
  const [clients = '?'] =
    /\d[\d.]*/.exec(execFileSync(postgresClient('psql'), ['--version'], { encoding: 'utf8' })) ?? []
  const often = repeats === null ? '' : `, median of ${repeats}`
  return `${new Date().toISOString().slice(0, 10)}, Node ${process.version}, Postgres 18 (its clients ${clients}), Kafka 4.3, ${cpus().length} cores (${cpu?.model.trim() ?? '?'}) shared by all${often}.`
}

/** What a contest says, one line for each contender. */
export function contestCells({ name, changes }: Workload, results: Results): Cells[] {
  const byName = new Map([...results].map(([contender, runs]) => [contender.name, runs]))
  return [...results].map(([{ name: who, floor }, runs]) => {
    const { rate, share, cpu, rss, bytes, spread } = figures(changes, runs, byName.get(floor) ?? runs)
    return [name, who, rate, share, cpu, rss, bytes, spread]
  })
}

/** As they stand in tables. */
export interface Figures {
  readonly rate: string
  readonly share: string
  readonly cpu: string
  readonly rss: string
  readonly bytes: string
  readonly spread: string
}

export function figures(rows: number, runs: readonly Result[], floor: readonly Result[]): Figures {
  const rates = runs.map(({ seconds }) => rows / seconds)
  const whole = (n: number): string => Math.round(n).toLocaleString('en')
  const bytes = runs[0]?.bytes
  return {
    rate: whole(median(rates)),
    share: shareOf(runs, floor).toFixed(2),
    cpu: cpuOf(rows, runs).toFixed(2),
    rss: runs[0]?.rssMB === 0 ? '–' : whole(Math.max(...runs.map(({ rssMB }) => rssMB))),
    bytes: bytes === undefined ? '–' : whole(bytes / rows),
    spread: `${whole(Math.min(...rates))} to ${whole(Math.max(...rates))}`,
  }
}

/** Of the speed of others, by the runs in pairs. */
export function shareOf(runs: readonly Result[], others: readonly Result[]): number {
  return median(runs.map(({ seconds }, run) => (others[run]?.seconds ?? 0) / seconds))
}

/** µs a row. */
export function cpuOf(rows: number, runs: readonly Result[]): number {
  return median(runs.map(({ cpuUs, otherRows = 0 }) => cpuUs / (rows + otherRows)))
}

export function contestHead(floor: string): Cells {
  return ['workload', 'who', 'rows/s', `of ${floor}`, 'CPU µs/row', 'peak RSS MB', 'bytes/row', 'spread rows/s']
}

/** A line as soon as it is known. */
export function tell(cells: Cells): void {
  process.stdout.write(`${cells.join(' | ')}\n`)
}

export function table(head: Cells, rows: readonly Cells[]): string {
  const line = (cells: Cells): string => `| ${cells.join(' | ')} |\n`
  return `${line(head)}${line(head.map(() => '---'))}${rows.map(line).join('')}`
}

interface Publication {
  readonly chart?: string
  /** What was asked for, where it was not all that belongs into the table. */
  readonly only?: string
}

/** What README.md has between `<!-- name -->` and `<!-- /name -->`. */
export function published(name: string): string {
  const [readme, from, to] = placeOf(name)
  return readme.slice(from, to)
}

/** The text of README.md, and where the place begins and ends in it. */
function placeOf(name: string): [string, number, number] {
  const readme = readFileSync(README, 'utf8')
  const head = `<!-- ${name} -->`
  const [from, to] = [readme.indexOf(head) + head.length, readme.indexOf(`<!-- /${name} -->`)]
  if (from < head.length || to < from) throw new Error(`bench/README.md has no place for ${name}`)
  return [readme, from, to]
}

/** Prints it, and writes it between `<!-- name -->` and `<!-- /name -->`. */
export async function publish(name: string, text: string, { chart, only = '' }: Publication = {}): Promise<void> {
  process.stdout.write(`\n${text}\n`)
  if (!WHOLE || only !== '') return
  const [readme, from, to] = placeOf(name)
  if (chart !== undefined) writeFileSync(new URL(`./${name}.svg`, import.meta.url), chart)
  const image = chart === undefined ? '' : `![${name}](${name}.svg)\n\n`
  const written = `${readme.slice(0, from)}\n\n${image}${text}\n${readme.slice(to)}`
  writeFileSync(README, await format(written, { parser: 'markdown', printWidth: 120 }))
}

interface Bars {
  readonly title: string
  readonly bars: readonly { readonly name: string; readonly value: number }[]
}

export function barsOf({ name, changes }: Workload, results: Results): Bars {
  const value = (runs: readonly Result[]): number => median(runs.map(({ seconds }) => changes / seconds))
  return {
    title: name,
    bars: [...results].map(([who, runs]: [Contender, readonly Result[]]) => ({ name: who.name, value: value(runs) })),
  }
}

const [ROW, LABEL, WIDTH] = [22, 240, 860]

/** Horizontal bars, group by group, all on one scale; readable on light and on dark. */
export function barChart(unit: string, groups: readonly Bars[]): string {
  const most = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => value)))
  const lines: string[] = []
  let y = 4
  for (const { title, bars } of groups) {
    lines.push(`<text x="0" y="${y + 16}" class="title">${escapeXml(title)} (${unit})</text>`)
    y += ROW + 4
    for (const { name, value } of bars) {
      const width = Math.max(1, Math.round((value / most) * (WIDTH - LABEL - 90)))
      const own = name.startsWith('evert') ? 'evert' : 'other'
      lines.push(
        `<text x="${LABEL - 8}" y="${y + 15}" text-anchor="end">${escapeXml(name)}</text>`,
        `<rect x="${LABEL}" y="${y + 2}" width="${width}" height="${ROW - 6}" class="${own}"/>`,
        `<text x="${LABEL + width + 6}" y="${y + 15}">${Math.round(value).toLocaleString('en')}</text>`,
      )
      y += ROW
    }
    y += 10
  }
  const style =
    'text{font:13px system-ui,sans-serif;fill:#57606a}.title{font-weight:600}.evert{fill:#1f883d}.other{fill:#8c959f}@media(prefers-color-scheme:dark){text{fill:#9198a1}}'
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}"><style>${style}</style>\n${lines.join('\n')}\n</svg>\n`
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
