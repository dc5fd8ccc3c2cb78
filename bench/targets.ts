/** Targets: what evert is to reach, and whether it did in this run. */
import type { Contender, Results } from './contest.js'
import { type Cells, conditions, cpuOf, publish, shareOf, table } from './report.js'

/** One of a contest: a multiple of the speed of another, or CPU. */
export interface ContestTarget {
  readonly who: Contender
  readonly of?: Contender
  readonly atLeast?: number
  /** µs a row. */
  readonly cpuAtMost?: number
}

const lines: Cells[] = []
let missed = 0

export function judge(
  line: string,
  value: number,
  { atLeast = -Infinity, atMost = Infinity, digits = 2 }: { atLeast?: number; atMost?: number; digits?: number },
): void {
  const reached = value >= atLeast && value <= atMost
  if (!reached) missed++
  const wanted = atMost === Infinity ? `≥ ${atLeast}` : `≤ ${atMost}`
  lines.push([line, wanted, value.toFixed(digits), reached ? 'yes' : '**no**'])
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

/** Of the benchmarks that ran; written into README.md where they were all. */
export async function publishTargets(only: string): Promise<void> {
  if (lines.length === 0) return
  const count = `${lines.length - missed} of ${lines.length} are reached.`
  const text = `${conditions(null)} ${count}\n\n${table(['what', 'wanted', 'this run', 'reached'], lines)}`
  await publish('targets', text, { only })
}
