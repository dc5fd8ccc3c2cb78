/** The floor: pg_recvlogical reads the same changes to nowhere. It comes with the distribution's Postgres package. */
import { type Contender, over } from '../contest.js'
import { postgresClient, runTimed } from './processes.js'

export function pgRecvlogical(name: string, { tls = false } = {}): Contender {
  return {
    name,
    floor: name,
    run: ({ url, slot, after }) =>
      runTimed(
        `${postgresClient('pg_recvlogical')} -d '${over(url, { tls })}' -S ${slot} --start -f /dev/null --endpos=${after} -o proto_version=1 -o publication_names=bench -o messages=true`,
      ),
  }
}
