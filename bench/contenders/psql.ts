/** The floor of snapshots: psql's \copy reads the same rows to nowhere. It comes with the distribution's Postgres package. */
import { type Contender, overTls } from '../contest.js'
import { runTimed } from './processes.js'

export function psqlCopy(name: string, { tls = false } = {}): Contender {
  return {
    name,
    floor: name,
    run: ({ url, workload }) =>
      runTimed(`psql -qX '${tls ? overTls(url) : url}' -c '\\copy ${workload.tables[0]} to stdout'`),
  }
}
