/** Targets: what evert is to reach, and whether it did when it was last measured. */
import type { Contender, Results } from './contest.js'
import { type Cells, conditions, cpuOf, publish, published, shareOf, table } from './report.js'

/** One of a contest: a multiple of the speed of another, or CPU. */
export interface ContestTarget {
  readonly who: Contender
  readonly of?: Contender
  readonly atLeast?: number
  /** µs a row. */
  readonly cpuAtMost?: number
}

const REACHED = 'yes'
const lines: Cells[] = []

export function judge(
  line: string,
  value: number,
  { atLeast = -Infinity, atMost = Infinity, digits = 2 }: { atLeast?: number; atMost?: number; digits?: number },
): void {
  const reached = value >= atLeast && value <= atMost
  const wanted = atMost === Infinity ? `≥ ${atLeast}` : `≤ ${atMost}`
  const day = new Date().toISOString().slice(0, 10)
  lines.push([line, wanted, value.toFixed(digits), reached ? REACHED : '**no**', day])
}

export function judgeContest(
  workload: string,
  rows: number,
  results: Results,
  targets: readonly ContestTarget[],
): void {
  for (const { who, of, atLeast = 0, cpuAtMost } of targets) {
    const runs = results.get(who) ?? []
    if (of !== undefined)
      judge(`${workload}: ${who.name}, of the speed of ${of.name}`, shareOf(runs, results.get(of) ?? []), { atLeast })
    if (cpuAtMost !== undefined) judge(`${workload}: ${who.name}, CPU µs/row`, cpuOf(rows, runs), { atMost: cpuAtMost })
  }
}

/** Of the benchmarks that ran; what others have measured stays, unless all ran. */
export async function publishTargets({ all, only }: { readonly all: boolean; readonly only: string }): Promise<void> {
  if (lines.length === 0) return
  const measured = new Map(lines.map((cells) => [cells[0], cells]))
  const before: readonly Cells[] = all ? [] : linesOf(published('targets'))
  const known = new Set(before.map(([what]) => what))
  const rows = [
    ...before.map((cells) => measured.get(cells[0]!) ?? cells),
    ...lines.filter(([what]) => !known.has(what!)),
  ]
  const count = rows.filter((cells) => cells[3] === REACHED).length
  const text = `${conditions(null)} ${count} of ${rows.length} are reached.\n\n${table(['what', 'wanted', 'measured', 'reached', 'on'], rows)}`
  await publish('targets', text, { only })
}

/** The cells of a table in Markdown. */
function linesOf(text: string): Cells[] {
  const rows = text.split('\n').filter((line) => line.startsWith('|'))
  return rows.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}
