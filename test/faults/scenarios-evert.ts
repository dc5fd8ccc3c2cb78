/** Scenarios: what can happen to evert's own processes. */
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { ADJACENT, COPIES } from './harness/writer.js'
import type { Run, Scenario } from './harness/run.js'
import type { Stage } from './harness/stage.js'

/** kill -9 at random moments; a supervisor starts it again at once. */
async function killRepeatedly(run: Run, kills: number): Promise<void> {
  for (let kill = 0; kill < kills; kill++) {
    // Some kills hit it at work, and some while it starts.
    if (run.random(3) > 0) await run.evert.says('"streaming"')
    await run.moment()
    await run.kill(run.evert)
    run.recovering()
    run.start()
  }
  await run.evert.says('"streaming"')
}

/** https://github.com/wolfcw/libfaketime: what a process asks of the wall clock is moved by what a file says. */
const FAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1'

function clockFile({ postgres }: Stage): string {
  return `${postgres.dataDirectory}/evert-clock`
}

async function stepClock(stage: Stage, offset: string): Promise<void> {
  await writeFile(clockFile(stage), `${offset}\n`)
}

export const EVERT_SCENARIOS: readonly Scenario[] = [
  {
    name: 'evert-killed',
    fault: 'evert is killed (`kill -9`) at random moments, five times',
    work: (run) => killRepeatedly(run, 5),
  },
  {
    name: 'evert-stopped',
    fault: 'evert is stopped (SIGTERM) under load and started again, three times',
    async work(run) {
      for (let stop = 0; stop < 3; stop++) {
        await run.moment()
        run.recovering()
        await run.stop(run.evert)
        run.start()
        await run.evert.says('"streaming"')
      }
    },
  },
  {
    name: 'evert-out-of-memory',
    fault: 'evert runs out of memory, with heaps of 8 to 14 MB, and is started again with enough',
    async work(run) {
      await run.kill(run.evert)
      let died = 0
      for (const heapMB of [8, 10, 11, 12, 13, 14]) {
        const small = run.expectEnd(run.start([`--max-old-space-size=${heapMB}`, '--max-semi-space-size=1']))
        // Where it lives it is given something to do, and killed.
        const lives = small.says('"streaming"').then(() => run.written())
        await Promise.race([lives, small.ended]).catch(() => undefined)
        if (small.process.exitCode !== null || small.process.signalCode !== null) died++
        await run.kill(small)
      }
      run.recovering()
      run.start()
      expect(died).toBeGreaterThan(0)
    },
  },
  {
    name: 'evert-frozen',
    fault: 'evert is frozen (SIGSTOP) until a second one has taken over, and thawed',
    // The server lets go of the slot of a process that is silent for 10 s.
    recoveryLimitMs: 20_000,
    async work(run) {
      const first = run.evert
      first.process.kill('SIGSTOP')
      run.recovering()
      const second = run.start()
      await second.says('"streaming"')
      await run.written()
      run.expectEnd(first).process.kill('SIGCONT')
      const standsBy = await first.says('standing by').then(
        () => true,
        () => false,
      )
      if (standsBy) return
      const { code, stderr } = await first.ended
      if (code !== 1 || !stderr.includes('LOG_FENCED')) throw new Error(`the first ended with ${code}: ${stderr}`)
    },
  },
  {
    name: 'standby-takes-over',
    fault: 'the active of two evert processes is killed (`kill -9`); the other one takes over',
    recoveryLimitMs: 5000,
    async work(run) {
      const active = run.evert
      const standby = run.start()
      await standby.says('standing by')
      await run.moment()
      await run.kill(active)
      run.recovering()
      await standby.says('"streaming"')
    },
  },
  {
    name: 'clock-stepped',
    fault: 'the clock under evert is stepped three hours forwards, two days backwards, and back',
    missing: () => (existsSync(FAKETIME) ? null : 'libfaketime is not installed'),
    async prepare({ stage }) {
      await stepClock(stage, '+0')
      const file = {
        FAKETIME_TIMESTAMP_FILE: clockFile(stage),
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      }
      return { user: 'postgres', environment: { LD_PRELOAD: FAKETIME, ...file } }
    },
    async work(run) {
      for (const offset of ['+3h', '-2d', '+0']) {
        await stepClock(run.stage, offset)
        await run.written()
        await run.kill(run.evert)
        run.recovering()
        run.start()
        await run.evert.says('"streaming"')
        await run.written()
      }
    },
  },
  {
    name: 'several-changes-one-lsn',
    fault: 'kills while many changes share one LSN (COPY): the loss known from Debezium',
    load: COPIES,
    work: (run) => killRepeatedly(run, 6),
  },
  {
    name: 'adjacent-commits',
    fault:
      'kills while commit records follow each other without a byte between: the loss known from pg-logical-replication',
    load: ADJACENT,
    work: (run) => killRepeatedly(run, 6),
  },
]
