/** Writes docs/guarantees.md: its table of faults has every scenario, with what the runs on this machine gave. */
import './typescript.js'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const { SCENARIOS } = await import('../test/faults/scenarios.ts')
const { resultsFile } = await import('../test/faults/harness/results.ts')

const PAGE = fileURLToPath(new URL('../docs/guarantees.md', import.meta.url))
const [BEGIN, END] = ['<!-- Generated from runs: npm run guarantees -->', '<!-- End of what is generated -->']

const results = existsSync(resultsFile())
  ? readFileSync(resultsFile(), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  : []

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

function row({ name, fault }) {
  const runs = results.filter(({ scenario }) => scenario === name)
  if (runs.length === 0) return `| \`${name}\` | ${fault} | 0 | – | – |`
  const sum = (kind) => runs.reduce((total, { verdict }) => total + verdict[kind], 0)
  const verdict = ['missing', 'repeated', 'outOfOrder', 'halfVisible'].map(sum).join(' / ')
  const seconds = (median(runs.map(({ recoveryMs }) => recoveryMs)) / 1000).toFixed(1)
  return `| \`${name}\` | ${fault} | ${runs.length} | ${verdict} | ${seconds} |`
}

const table = `| scenario | fault | runs | missing / repeated / out of order / half-visible | recovery, median, s |
| --- | --- | --- | --- | --- |
${SCENARIOS.map(row).join('\n')}`

const changes = results.reduce((total, run) => total + run.changes, 0)
const transactions = results.reduce((total, run) => total + run.transactions, 0)
const summary = `${results.length} runs, ${transactions} transactions, ${changes} changes.`

const page = readFileSync(PAGE, 'utf8')
const [before, after] = [page.slice(0, page.indexOf(BEGIN)), page.slice(page.indexOf(END))]
writeFileSync(PAGE, `${before}${BEGIN}\n\n${table}\n\n${summary}\n\n${after}`)
