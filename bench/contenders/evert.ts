/** evert, in a process of its own: from when the server begins to send to the commit of the last change. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { byPosition, type Contender, over, type Result } from '../contest.js'
import { output } from './processes.js'

/** See ../evert.js. */
export interface EvertRun {
  readonly url: string
  readonly kafka: string
  readonly slot: string
  /** LSN of the last change, or null for a snapshot. */
  readonly end: string | null
  readonly format?: string
  readonly compression?: string
  readonly partitions?: number
  readonly publication?: string
}

export interface EvertResult extends Result {
  /** By the clock that all processes have, in ms. */
  readonly beganAtMs: number
  readonly endedAtMs: number
}

export async function runEvert(options: EvertRun): Promise<EvertResult> {
  const [result] = await runEverts([options])
  return result!
}

/** Side by side: each has loaded its code before any of them connects. */
export async function runEverts(all: readonly EvertRun[]): Promise<EvertResult[]> {
  const script = new URL('../evert.js', import.meta.url).pathname
  const children = all.map((options) => {
    const told = JSON.stringify({ ...options, waits: all.length > 1 })
    return spawn(process.execPath, [script, told], { stdio: ['pipe', 'pipe', 'inherit'] })
  })
  const outputs = children.map(output)
  if (all.length > 1) await Promise.race([Promise.all(children.map((child) => once(child.stdout, 'data'))), ...outputs])
  for (const { stdin } of children) stdin.end('\n')
  return (await Promise.all(outputs)).map((text) => JSON.parse(text) as EvertResult)
}

interface Variant {
  readonly floor: string
  readonly tls?: boolean
  readonly format?: string
  readonly compression?: string
  readonly partitions?: number
}

export function evert(name: string, { floor, tls = false, ...rest }: Variant): Contender {
  return {
    name,
    floor,
    run: ({ url, kafka, slot, end }) => runEvert({ ...rest, url: over(url, { tls }), kafka, slot, end }),
    place: byPosition,
  }
}

/** From the first row to the commit of the last. */
export function evertSnapshot(name: string, variant: Variant): Contender {
  const { run, ...rest } = evert(name, variant)
  return { ...rest, run: (work) => run({ ...work, end: null }) }
}
