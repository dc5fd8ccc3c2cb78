/** The floor: pg_recvlogical reads the same changes to nowhere. It comes with the distribution's Postgres package. */
import type { Contender } from '../contest.js'
import { runTimed } from './processes.js'

export function pgRecvlogical(name: string, sslmode: 'disable' | 'require'): Contender {
  return {
    name,
    floor: name,
    run: ({ url, slot, after }) =>
      runTimed(
        `pg_recvlogical -d '${url}?sslmode=${sslmode}' -S ${slot} --start -f - --endpos=${after} -o proto_version=1 -o publication_names=bench -o messages=true`,
      ),
  }
}
