/**
 * Nothing lost, nothing repeated: the real bridge, stream, progress, resume, producer and reader against a simulated Postgres, Kafka and
 * clock, one history a seed. EVERT_TEST_SEEDS says how many (10,000), EVERT_TEST_SEED where to begin. One alone, with what happened:
 * node --import ./scripts/typescript.js test/simulation/run.ts SEED 1 trace
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type Mutation, MUTATIONS } from './mutations.js'
import { simulate } from './simulation.js'

const QUICK = process.env['EVERT_TEST_QUICK'] === '1'
const SEEDS = Number(process.env['EVERT_TEST_SEEDS'] ?? (QUICK ? 1000 : 10_000))
const FIRST_SEED = Number(process.env['EVERT_TEST_SEED'] ?? 1)
/** Within this many seeds, every mutation is found; most within ten. */
const MUTANT_SEEDS = 5000
const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** Seeds that failed once, and why. */
const REGRESSIONS: readonly (readonly [seed: number, why: string])[] = [
  [518, 'a commit that arrived late ended the next log transaction'],
  [
    1425,
    'what a lost marker had left open was looked for twice at once, and the second commit ended what was being sent',
  ],
  [1349, 'a message outside of a transaction came again after a snapshot'],
  [2530, 'shapes of tables filled the sink, and nothing was taken any more'],
  [9176, 'the same, in the middle of a transaction'],
  [21208, 'a part that held shapes of tables only ended a log transaction, with the progress of before a snapshot'],
]

async function violationOf(seed: number): Promise<string | null> {
  const { violation } = await simulate(seed)
  return violation === null
    ? null
    : `seed ${seed}: ${violation}; replay with EVERT_TEST_SEED=${seed} EVERT_TEST_SEEDS=1`
}

/** What the simulation of a broken evert finds, or null. */
async function findingOf(mutation: Mutation): Promise<string | null> {
  const seeds = [String(mutation.from ?? 1), String(MUTANT_SEEDS)]
  const faults = mutation.onlyBrokers === true ? ['brokers'] : []
  const command = ['--import', './test/simulation/mutant.js', 'test/simulation/run.ts', ...seeds, ...faults]
  const child = spawn(process.execPath, command, {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: '', EVERT_MUTATION: JSON.stringify(mutation) },
  })
  let output = ''
  let errors = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  const code = await new Promise((resolve) => child.on('close', resolve))
  if (code === 0) return null
  if (!output.startsWith('{')) throw new Error(errors)
  return (JSON.parse(output) as { violation: string }).violation
}

describe('the simulator', () => {
  it(
    `finds nothing lost and nothing repeated in ${SEEDS} histories`,
    async () => {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        expect(await violationOf(seed)).toBeNull()
      }
    },
    Math.max(600_000, SEEDS * 1000),
  )

  it.each(REGRESSIONS)('finds nothing at seed %i, which failed once: %s', async (seed) => {
    expect(await violationOf(seed)).toBeNull()
  })

  it('tells the same history for the same seed', async () => {
    for (const seed of [3, 4, 5]) {
      const [one, other] = [await simulate(seed, { traced: true }), await simulate(seed, { traced: true })]
      expect(one.trace.length).toBeGreaterThan(0)
      expect(one).toEqual(other)
    }
  })

  it.each(MUTATIONS.map((mutation) => [mutation.name, mutation] as const))(
    'finds an evert that %s',
    async (_, mutation) => {
      expect(await findingOf(mutation)).not.toBeNull()
    },
    MUTANT_SEEDS * 1000,
  )
})
