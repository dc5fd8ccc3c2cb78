/** The floor of snapshots: psql's \copy reads the same rows to nowhere. It comes with the distribution's Postgres package. */
import type { Contender } from '../contest.js'
import { runTimed } from './processes.js'

export const PSQL_COPY: Contender = {
  name: 'psql \\copy',
  floor: 'psql \\copy',
  run: ({ url, workload }) => runTimed(`psql -qX '${url}' -c '\\copy ${workload.tables[0]} to stdout'`),
}
