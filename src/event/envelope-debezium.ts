/**
 * Debezium's envelope, as its Postgres connector writes it with schemas off, so that what was set up for it reads this unchanged:
 * https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
 *
 * What differs, because it would not be true: a value that Postgres did not send is absent and named in `unchanged`, where Debezium writes
 * a placeholder into the row; `before` holds the columns that were sent, where Debezium fills the row up with nulls.
 */
import { type Envelope, type Origins, parts } from './envelope.js'

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
    stamp({ hasXid, origin, snapshot, hasLast }) {
      const times = parts`"ts_ms":${{ field: 'timeMs' }},"ts_us":${{ field: 'timeUs' }},"ts_ns":${{ field: 'timeNs' }}`
      const whose =
        origin === null
          ? '"origin":null,"origin_lsn":null,'
          : parts`"origin":${JSON.stringify(origin)},"origin_lsn":${{ field: 'originLsn' }},`
      const last = hasLast ? parts`\\"${{ field: 'lastLsn' }}\\"` : 'null'
      return {
        beforeLsn: parts`${times},"snapshot":"${String(snapshot)}",${whose}"sequence":"[${last},\\"`,
        betweenLsns: parts`\\"]","txId":${hasXid ? { field: 'xid' } : 'null'},"xmin":null,"lsn":`,
        beforeOrdinal: parts`,"position":"${{ field: 'commitLsn' }}-`,
        end: parts`"},"transaction":null,${times}}`,
      }
    },
    keyHeaders: { old: '__debezium.oldkey', new: '__debezium.newkey' },
    headers: null,
  }
}
