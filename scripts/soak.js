/** npm run soak: what takes longer than a test run. `-- --hours N` has faults at random; without it, more random rows, messages, steps, seeds and rounds. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const JEST = fileURLToPath(new URL('../node_modules/jest/bin/jest.js', import.meta.url))

const { values } = parseArgs({ options: { hours: { type: 'string' } } })
const hours = values.hours === undefined ? null : Number(values.hours)
if (hours !== null && !(hours > 0)) {
  console.error('npm run soak -- --hours N: N is a number above 0, such as 0.5')
  process.exit(2)
}

const more = {
  EVERT_TEST_ROWS: '200000',
  EVERT_TEST_STEPS: '20000',
  EVERT_TEST_MESSAGES: '50000000',
  EVERT_TEST_SEEDS: '1000000',
  EVERT_TEST_ROUNDS: '5000',
}
const environment = hours === null ? { ...more, ...process.env } : { ...process.env, EVERT_SOAK_HOURS: String(hours) }
const suites =
  hours === null
    ? [
        '--testTimeout=36000000',
        'test/differential',
        'test/replica',
        'test/postgres/pgoutput-fuzz',
        'test/simulation',
        'test/backfill-random',
      ]
    : ['test/faults/scenarios']

const { status } = spawnSync(process.execPath, ['--experimental-vm-modules', JEST, ...suites], {
  stdio: 'inherit',
  env: environment,
})
process.exitCode = status ?? 1
