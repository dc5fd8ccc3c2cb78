/** Run: simulates seeds from a command line, `run.ts FROM COUNT [trace] [brokers]`; a violation is printed as JSON and ends it with exit code 1. */
import { simulate } from './simulation.js'

const [from = '1', count = '1', ...words] = process.argv.slice(2)
const traced = words.includes('trace')
const onlyBrokers = words.includes('brokers')
let steps = 0
for (let seed = Number(from); seed < Number(from) + Number(count); seed++) {
  const outcome = await simulate(seed, { traced, onlyBrokers })
  steps += outcome.steps
  if (traced) console.log(outcome.trace.join('\n'))
  if (outcome.violation === null) continue
  console.log(JSON.stringify({ ...outcome, trace: undefined }))
  process.exit(1)
}
console.log(JSON.stringify({ seeds: Number(count), steps }))
process.exit(0)
