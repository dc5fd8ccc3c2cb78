/** Scenarios: every fault that the promises are held against, by name. */
import type { Scenario } from './harness/run.js'
import { EVERT_SCENARIOS } from './scenarios-evert.js'

export const SCENARIOS: readonly Scenario[] = [...EVERT_SCENARIOS]
