/** Contenders as processes: what they print, and what they take. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Kafka, logLevel } from 'kafkajs'
import type { Result, Work } from '../contest.js'
import { statusMB } from '../listening.js'

export async function output(child: ChildProcess): Promise<string> {
  let text = ''
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  if (code !== 0) throw new Error(`a contender failed with ${code}`)
  return text
}

/**
 * A program of Postgres' clients. What Debian has in the path is a script that looks for the one to run, for longer than some of them take:
 * the program itself is, of each version, in a folder beside the server's.
 */
export function postgresClient(name: string): string {
  const versions = '/usr/lib/postgresql'
  if (!existsSync(versions)) return name
  const found = readdirSync(versions)
    .toSorted((a, b) => Number(b) - Number(a))
    .map((version) => join(versions, version, 'bin', name))
    .find((path) => existsSync(path))
  return found ?? name
}

/** A command that ends by itself, timed by the shell. */
export async function runTimed(command: string): Promise<Result & { readonly printed: string }> {
  const child = spawn('bash', ['-c', `TIMEFORMAT='%R %U %S'; time ${command}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Times are said in the language of the user.
    env: { ...process.env, LC_ALL: 'C' },
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const printed = await output(child)
  const [seconds = 0, user = 0, system = 0] = (said.trim().split('\n').at(-1) ?? '').split(' ').map(Number)
  return { seconds, cpuUs: (user + system) * 1e6, rssMB: 0, printed }
}

const LOOK_MS = 100
/** A worker whose connector has failed goes on living. */
const STUCK_MS = 300_000
const TICK_US = 1e6 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

/**
 * A process that goes on for ever: from the first record that is seen in its topics to the last, so that its start does not count, and
 * neither do the records that were there when the first was seen.
 */
export async function runWatched(child: ChildProcess, { workload, kafka, slot }: Work): Promise<Result> {
  const admin = new Kafka({ brokers: [kafka], logLevel: logLevel.NOTHING }).admin({ retry: { retries: 0 } })
  await admin.connect()
  const records = async (): Promise<number> => {
    let sum = 0
    for (const table of workload.tables) {
      const found = await admin.fetchTopicOffsets(`${slot}.public.${table}`).catch(() => [])
      for (const { high } of found) sum += Number(high)
    }
    return sum
  }
  const until = async (least: number): Promise<{ records: number; atMs: number; cpuUs: number }> => {
    let [before, movedMs] = [0, performance.now()]
    for (;;) {
      const there = await records()
      if (there >= least) return { records: there, atMs: performance.now(), cpuUs: cpuUs(child.pid) }
      const ended = child.exitCode ?? child.signalCode
      if (ended !== null) throw new Error(`a contender ended with ${ended}`)
      if (there > before) [before, movedMs] = [there, performance.now()]
      if (performance.now() - movedMs > STUCK_MS) throw new Error(`a contender is stuck at ${there} records of ${slot}`)
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    }
  }
  const { changes, records: all = changes } = workload
  const watched = async () => {
    const first = await until(1)
    const last = await until(all)
    if (last.records === first.records) throw new Error(`${slot}: over before it was seen to begin; raise BENCH_SCALE`)
    return { first, last, share: all / (last.records - first.records), rssMB: statusMB(child.pid, 'VmHWM') }
  }
  const { first, last, share, rssMB } = await watched().finally(async () => {
    child.kill('SIGKILL')
    await admin.disconnect()
  })
  return { seconds: (share * (last.atMs - first.atMs)) / 1000, cpuUs: share * (last.cpuUs - first.cpuUs), rssMB }
}

/**
 * User and system, of all its threads, or of its children that have ended: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html,
 * fields 14 to 17.
 */
export function cpuUs(pid: number | undefined, of: 'itself' | 'children' = 'itself'): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  const from = of === 'itself' ? 11 : 13
  return (Number(fields[from]) + Number(fields[from + 1])) * TICK_US
}
