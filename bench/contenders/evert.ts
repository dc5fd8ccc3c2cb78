/** evert, in a process of its own: from the first change it reads to the commit of the last. */
import { spawn } from 'node:child_process'
import { byPosition, type Contender, type Result } from '../contest.js'
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

export async function runEvert(options: EvertRun): Promise<Result> {
  const script = new URL('../evert.js', import.meta.url).pathname
  const child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] })
  return JSON.parse(await output(child)) as Result
}

export function evert(
  name: string,
  options: { readonly floor: string; readonly tls?: boolean; readonly format?: string; readonly compression?: string },
): Contender {
  const { floor, tls = false, ...rest } = options
  return {
    name,
    floor,
    run: ({ url, kafka, slot, end }) =>
      runEvert({ ...rest, url: `${url}?sslmode=${tls ? 'require' : 'disable'}`, kafka, slot, end }),
    place: byPosition,
  }
}

export const EVERT_SNAPSHOT: Contender = {
  name: 'evert, 2 readers',
  floor: 'psql \\copy',
  run: ({ url, kafka, slot }) => runEvert({ url, kafka, slot, end: null }),
  place: byPosition,
}
