/** Topic names: `<pipeline>.<schema>.<table>`, escaped so that every identifier has one and no two tables share one. */
import type { TopicRequest } from './sink.js'

/** Kafka allows these in a topic name, and at most 249 of them. `_` is ours to escape with; `.` parts schema from table. */
const PLAIN = /[A-Za-z0-9-]/

/**
 * Kafka's topic names allow letters, digits, `.`, `_` and `-`. Whatever else an identifier holds, and a dot in it, becomes `__` and two
 * hex digits a byte of its UTF-8 form. An underscore stays where a letter that stays follows it: elsewhere it would make a `__` of its
 * own with what comes next, and this could not be undone.
 */
export function escapeIdentifier(identifier: string): string {
  let escaped = ''
  const bytes = Buffer.from(identifier)
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0
    const letter = String.fromCharCode(byte)
    const next = bytes[i + 1]
    const lone = letter === '_' && next !== undefined && PLAIN.test(String.fromCharCode(next))
    escaped += PLAIN.test(letter) || lone ? letter : `__${byte.toString(16).padStart(2, '0')}`
  }
  return escaped
}

export function unescapeIdentifier(escaped: string): string {
  const bytes: number[] = []
  for (let i = 0; i < escaped.length; i++) {
    if (escaped.startsWith('__', i)) {
      bytes.push(Number.parseInt(escaped.slice(i + 2, i + 4), 16))
      i += 3
    } else {
      bytes.push(escaped.charCodeAt(i))
    }
  }
  return Buffer.from(bytes).toString()
}

export function tableTopic(pipeline: string, schema: string, table: string): string {
  return `${pipeline}.${escapeIdentifier(schema)}.${escapeIdentifier(table)}`
}

/** A topic beside those of tables, of which a late reader needs the last record of each key. */
export function lastingTopic(name: string): TopicRequest {
  return { name, keyed: true, lasting: true }
}

/** Where logical messages go. It has two parts, so no table can share it. */
export function messageTopic(pipeline: string): string {
  return `${pipeline}.message`
}

/** Where the shapes of tables go. */
export function schemaTopic(pipeline: string): string {
  return `${pipeline}.schema`
}

/** Where machines are told what happens to a pipeline. */
export function notificationTopic(pipeline: string): string {
  return `${pipeline}.notification`
}

/** A pipeline's own, by its name: of a schema and a table, or one of those beside them. */
export function isTopicOf(pipeline: string, topic: string): boolean {
  const [first, second = '', ...more] = topic.split('.')
  if (first !== pipeline) return false
  return more.length === 1 || (more.length === 0 && ['message', 'schema', 'notification', 'progress'].includes(second))
}
