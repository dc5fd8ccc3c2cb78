/** `evert run` as it comes, which is asked by its metrics how far it is. */
import { readFileSync } from 'node:fs'
import type pg from 'pg'
import { startCli } from '../test/support/cli.js'

export interface Listening {
  /** The sum over its labels; null where it has no value. */
  metric(name: string): Promise<number | null>
  /** User and system, since it started. */
  cpuUs(): Promise<number>
  peakMB(): number
  residentMB(): number
  /** Until it is worth asking again. */
  moment(): Promise<void>
  stop(): Promise<void>
}

export async function startListening(parameters: readonly string[]): Promise<Listening> {
  const evert = startCli([...parameters, '--listen', '0'])
  await evert.says('"streaming"')
  const { port } = JSON.parse(/^.*metrics are at.*$/m.exec(evert.stderr())![0]) as { port: number }
  const metric = async (name: string): Promise<number | null> => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    const values = [...text.matchAll(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'gm'))].map(([, value]) => Number(value))
    return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0)
  }
  return {
    metric,
    cpuUs: async () => ((await metric('process_cpu_seconds_total')) ?? 0) * 1e6,
    peakMB: () => statusMB(evert.process.pid, 'VmHWM'),
    residentMB: () => statusMB(evert.process.pid, 'VmRSS'),
    moment: () => new Promise((resolve) => setTimeout(resolve, 25)),
    async stop() {
      evert.process.kill('SIGTERM')
      await evert.ended
    },
  }
}

export function statusMB(pid: number | undefined, line: 'VmHWM' | 'VmRSS'): number {
  return Number(new RegExp(`${line}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

/** As `evert snapshot` asks. */
export async function askedOf(client: pg.Client, request: object): Promise<void> {
  await client.query(`select pg_logical_emit_message(true, 'evert', $1)`, [JSON.stringify(request)])
}
