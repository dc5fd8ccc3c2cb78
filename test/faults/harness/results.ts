/** Results: one line for each run of a scenario, which the table of docs/guarantees.md is made of. */
import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '../../support/cache.js'
import type { Verdict } from './verdict.js'

export interface Outcome {
  readonly scenario: string
  readonly seed: number
  readonly verdict: Verdict
  /** From the end of the fault, or the kill, to the first change visible that was committed after it. */
  readonly recoveryMs: number
  readonly transactions: number
  readonly changes: number
  readonly rolledBack: number
  /** COMMITs without an answer. */
  readonly doubted: number
}

/** JSON lines; EVERT_FAULT_RESULTS names another file. */
export function resultsFile(): string {
  return process.env['EVERT_FAULT_RESULTS'] ?? join(cacheFolder('faults'), 'results.jsonl')
}

export function record(outcome: Outcome): void {
  appendFileSync(resultsFile(), `${JSON.stringify(outcome)}\n`)
}
