/** Formats: the envelopes that there are, by name. */
import { debezium } from './envelope-debezium.js'
import { type Envelope, type FormatName, type Operation, type Origins, parts } from './envelope.js'

export function envelope(name: FormatName, origins: Origins): Envelope {
  switch (name) {
    case 'evert':
      return EVERT
    case 'debezium':
      return debezium(origins)
    case 'plain':
      return PLAIN
    case 'cloudevents':
      return cloudEvents(origins)
  }
}

const KEY_HEADERS = { old: 'evert.oldkey', new: 'evert.newkey' } as const

export const EVERT: Envelope = {
  name: 'evert',
  head: (operation) => (operation === 'm' ? '{"op":"m"' : `{"op":"${operation}","before":`),
  between: ',"after":',
  source: (subject) =>
    subject === null
      ? ',"source":{'
      : `,"source":{"schema":${JSON.stringify(subject.schema)},"table":${JSON.stringify(subject.table)},`,
  stamp: ({ hasXid, origin }) => ({
    beforeLsn: parts`${hasXid ? parts`"txId":${{ field: 'xid' }},` : ''}${origin === null ? '' : `"origin":${JSON.stringify(origin)},`}"lsn":`,
    betweenLsns: null,
    beforeOrdinal: parts`,"ts_us":${{ field: 'timeUs' }},"position":"${{ field: 'commitLsn' }}-`,
    end: ['"}}'],
  }),
  keyHeaders: KEY_HEADERS,
  headers: null,
}

/** The row itself; a delete is a tombstone. Kafka Streams, ksqlDB and upsert sinks take it as a table. */
const PLAIN: Envelope = {
  name: 'plain',
  head: () => null,
  between: '',
  source: () => '',
  stamp: () => ({ beforeLsn: [], betweenLsns: null, beforeOrdinal: parts`${{ field: 'commitLsn' }}-`, end: [] }),
  keyHeaders: KEY_HEADERS,
  headers: null,
}

const EVENT_TYPES: Readonly<Record<Operation, string>> = {
  c: 'evert.insert',
  u: 'evert.update',
  d: 'evert.delete',
  r: 'evert.row',
  t: 'evert.truncate',
  m: 'evert.message',
}

/**
 * CloudEvents 1.0, structured JSON: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md, on Kafka as
 * https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md says. `id` is the position.
 */
function cloudEvents({ pipeline }: Origins): Envelope {
  const source = JSON.stringify(`/evert/${pipeline}`)
  return {
    name: 'cloudevents',
    head(operation, subject) {
      const about = subject === null ? '' : `"subject":${JSON.stringify(`${subject.schema}.${subject.table}`)},`
      const data = operation === 'm' ? '{"op":"m"' : `{"op":"${operation}","before":`
      return `{"specversion":"1.0","type":"${EVENT_TYPES[operation]}","source":${source},${about}"datacontenttype":"application/json","data":${data}`
    },
    between: ',"after":',
    source: () => '},',
    stamp: ({ hasXid, origin }) => ({
      // Numbers of 64 bits are strings: an integer attribute has 32.
      beforeLsn: parts`"time":"${{ field: 'time' }}",${hasXid ? parts`"everttxid":"${{ field: 'xid' }}",` : ''}${origin === null ? '' : `"evertorigin":${JSON.stringify(origin)},`}"evertlsn":"`,
      betweenLsns: null,
      beforeOrdinal: parts`","id":"${{ field: 'commitLsn' }}-`,
      end: ['"}'],
    }),
    keyHeaders: KEY_HEADERS,
    headers: [{ key: 'content-type', value: Buffer.from('application/cloudevents+json; charset=UTF-8') }],
  }
}
