/** Promises 1 to 4, whatever breaks: the real command line under write load, as independent readers see the log afterwards. */
import { kcatInstalled } from './harness/kcat.js'
import { record } from './harness/results.js'
import { LIMIT_MS, perform, type Scenario } from './harness/run.js'
import { Stage } from './harness/stage.js'
import { CLEAN } from './harness/verdict.js'
import { SCENARIOS } from './scenarios.js'
import { describeKafka } from '../support/servers.js'

/** `npm run soak -- --hours N` */
const SOAK_HOURS = Number(process.env['EVERT_SOAK_HOURS'] ?? 0)

let stage: Stage

function seedOf(): number {
  return Number(process.env['EVERT_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
}

function loud(message: string): void {
  process.stderr.write(`\n${message}\n\n`)
}

async function requireClean(scenario: Scenario): Promise<void> {
  const seed = seedOf()
  const missing = scenario.missing?.(stage) ?? null
  if (missing !== null) {
    loud(`THE SCENARIO ${scenario.name} DOES NOT RUN: ${missing}`)
    return
  }
  if (SOAK_HOURS > 0) loud(`${scenario.name}, EVERT_TEST_SEED=${seed}`)
  const outcome = await perform(stage, scenario, seed)
  record(outcome)
  const { verdict, recoveryMs, changes } = outcome
  expect({ seed, verdict }).toEqual({ seed, verdict: CLEAN })
  expect(changes).toBeGreaterThan(100)
  if (scenario.recoveryLimitMs !== undefined) expect(recoveryMs).toBeLessThanOrEqual(scenario.recoveryLimitMs)
}

describeKafka('nothing lost, nothing repeated', () => {
  beforeAll(async () => {
    if (!kcatInstalled) {
      const message = 'kcat is not installed: kafkajs alone reads the log'
      if (process.env['CI'] !== undefined) throw new Error(message)
      loud(message)
    }
    stage = await Stage.open()
  })

  afterAll(async () => {
    await stage?.close()
  })

  if (SOAK_HOURS === 0) {
    it.each(SCENARIOS.map((scenario) => [scenario.name, scenario] as const))(
      '%s',
      async (_, scenario) => {
        await requireClean(scenario)
      },
      LIMIT_MS + 60_000,
    )
  } else {
    it(
      `in ${SOAK_HOURS} hours of faults at random`,
      async () => {
        const endMs = Date.now() + SOAK_HOURS * 3_600_000
        while (Date.now() < endMs) {
          const scenario = SCENARIOS[Math.floor(Math.random() * SCENARIOS.length)]
          if (scenario !== undefined) await requireClean(scenario)
        }
      },
      SOAK_HOURS * 3_600_000 + 600_000,
    )
  }
})
