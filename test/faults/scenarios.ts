/** Scenarios: every fault that the promises are held against, by name. */
import type { Scenario } from './harness/run.js'
import { EVERT_SCENARIOS } from './scenarios-evert.js'
import { KAFKA_SCENARIOS } from './scenarios-kafka.js'
import { POSTGRES_SCENARIOS } from './scenarios-postgres.js'

export const SCENARIOS: readonly Scenario[] = [...EVERT_SCENARIOS, ...KAFKA_SCENARIOS, ...POSTGRES_SCENARIOS]
