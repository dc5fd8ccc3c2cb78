/** The floor of snapshots: psql's \copy reads the same rows to nowhere. It comes with the distribution's Postgres package. */
import { type Contender, over } from '../contest.js'
import { runTimed } from './processes.js'

export function psqlCopy(name: string, { tls = false } = {}): Contender {
  return {
    name,
    floor: name,
    run: ({ url, workload }) =>
      runTimed(`psql -qX '${over(url, { tls })}' -c '\\copy ${workload.tables[0]} to stdout'`),
  }
}
