/**
 * Debezium's envelope, as its Postgres connector writes it with schemas off, so that what was set up for it reads this unchanged:
 * https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
 *
 * What differs, because it would not be true: a value that Postgres did not send is absent and named in `unchanged`, where Debezium writes
 * a placeholder into the row; `before` holds the columns that were sent, where Debezium fills the row up with nulls.
 */
import type { Envelope, Origins } from './envelope.js'

export function debezium({ pipeline, database, version }: Origins): Envelope {
  const fixed = `"version":${JSON.stringify(version)},"connector":"postgresql","name":${JSON.stringify(pipeline)},"db":${JSON.stringify(database)}`
  return {
    name: 'debezium',
    head: (operation) => (operation === 'm' ? '{"op":"m"' : `{"op":"${operation}","before":`),
    between: ',"after":',
    source(subject) {
      const { schema, table } = subject ?? { schema: '', table: '' }
      return `,"source":{${fixed},"schema":${JSON.stringify(schema)},"table":${JSON.stringify(table)},`
    },
    stamp({ commitLsn, timeUs, xid, origin, snapshot, lastLsn }) {
      const times = `"ts_ms":${timeUs / 1000n},"ts_us":${timeUs},"ts_ns":${timeUs * 1000n}`
      const last = lastLsn === null ? 'null' : String.raw`\"${lastLsn}\"`
      const whose = `"origin":${origin === null ? null : JSON.stringify(origin.name)},"origin_lsn":${origin?.lsn ?? null},`
      return {
        beforeLsn: String.raw`${times},"snapshot":"${snapshot}",${whose}"sequence":"[${last},\"`,
        betweenLsns: String.raw`\"]","txId":${xid},"xmin":null,"lsn":`,
        beforeOrdinal: `,"position":"${commitLsn}-`,
        end: `"},"transaction":null,${times}}`,
      }
    },
    keyHeaders: { old: '__debezium.oldkey', new: '__debezium.newkey' },
    headers: null,
  }
}
