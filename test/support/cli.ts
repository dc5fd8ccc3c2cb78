/** The real command line, as a process of its own. `npm test` has built it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../../bin/evert.js', import.meta.url))

export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunningCli {
  readonly process: ChildProcess
  /** What it has written so far. */
  readonly stdout: () => string
  readonly stderr: () => string
  /** Resolves when stderr holds a text; rejects when the process ends before. */
  says(text: string): Promise<void>
  readonly ended: Promise<CliResult>
}

const running = new Map<ChildProcess, Promise<CliResult>>()

/** Kills what a test left running, and waits until it is gone. */
export async function killAll(): Promise<void> {
  for (const [child, ended] of running) {
    child.kill('SIGKILL')
    await ended
  }
}

export function startCli(
  parameters: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  nodeOptions: readonly string[] = [],
  { detached = false } = {},
): RunningCli {
  const child = spawn(process.execPath, [...nodeOptions, PROGRAM, ...parameters], {
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached,
  })
  let stdout = ''
  let stderr = ''
  const listeners = new Set<() => void>()
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
    for (const look of listeners) look()
  })
  const ended = new Promise<CliResult>((resolve) => {
    child.once('close', (code) => {
      running.delete(child)
      resolve({ code, stdout, stderr })
    })
  })
  running.set(child, ended)
  return {
    process: child,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    says: (text) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (!stderr.includes(text)) return
          listeners.delete(look)
          resolve()
        }
        listeners.add(look)
        look()
        void ended.then(({ code }) => reject(new Error(`it ended with ${code} before it said "${text}": ${stderr}`)))
      }),
  }
}

export async function runCli(
  parameters: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CliResult> {
  return await startCli(parameters, environment).ended
}
