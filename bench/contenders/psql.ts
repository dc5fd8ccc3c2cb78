/** The floor of snapshots: psql's \copy reads the same rows to nowhere, from when it asks for them. It comes with the distribution's Postgres package. */
import { type Contender, over, type Result } from '../contest.js'
import { postgresClient, runTimed } from './processes.js'

export function psqlCopy(name: string, { tls = false } = {}): Contender {
  return {
    name,
    floor: name,
    run: ({ url, workload }) =>
      timed(`-c '\\timing' -c "\\copy ${workload.tables[0]} to '/dev/null'" '${over(url, { tls })}'`),
  }
}

/** By its own clock, since connecting is no part of it; CPU is that of the whole process. */
async function timed(parameters: string): Promise<Result> {
  const { printed, ...result } = await runTimed(`${postgresClient('psql')} -qX ${parameters}`)
  return { ...result, seconds: Number(/Time: (\d+\.\d+) ms/.exec(printed)![1]) / 1000 }
}
