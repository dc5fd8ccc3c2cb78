/** How evert tail shows a record: a JSON object a line, or a line for a person. */
import pico from 'picocolors'
import { unescapeIdentifier } from '../event/topic-name.js'
import type { LogRecord } from '../log/log.js'

/**
 * {"topic","partition","offset","timestamp","key","value","headers"}, timestamp in milliseconds since 1970. Key and value are the
 * log's own bytes: a number keeps all its digits.
 */
export function jsonLine(record: LogRecord): string {
  const { topic, partition, offset, timestampMs, key, value } = record
  const headers = Object.fromEntries(record.headers.map((header) => [header.key, header.value.toString()]))
  return `{"topic":${JSON.stringify(topic)},"partition":${partition},"offset":${offset},"timestamp":${timestampMs},"key":${key?.toString() ?? 'null'},"value":${value?.toString() ?? 'null'},"headers":${JSON.stringify(headers)}}\n`
}

const OPERATIONS: Readonly<Record<string, string>> = {
  c: pico.green('insert  '),
  u: pico.yellow('update  '),
  d: pico.red('delete  '),
  r: pico.cyan('row     '),
  t: pico.red('truncate'),
  m: pico.magenta('message '),
}

/** Near the front in every envelope. */
const OPERATION = /"op":"([a-z])"/
const HEAD_BYTES = 512

/** The letter of the operation; empty for a tombstone. Where the value is the row alone, it is a header. */
export function operationOf({ value, headers }: LogRecord): string {
  const header = headers.find(({ key }) => key === 'evert.op')
  if (header !== undefined) return header.value.toString()
  return value === null ? '' : (OPERATION.exec(value.toString('latin1', 0, HEAD_BYTES))?.[1] ?? '')
}

interface Event {
  readonly before: Row | null
  readonly after: Row | null
  readonly unchanged?: readonly string[]
  readonly message?: { readonly prefix: string; readonly content: string }
}

/** What happened, from whatever format. */
function eventIn(record: LogRecord): Event {
  const value = JSON.parse(quoteLongNumbers(record.value?.toString() ?? 'null'))
  if (record.headers.some(({ key }) => key === 'evert.op')) {
    return operationOf(record) === 'm' ? { before: null, after: null, message: value } : { before: null, after: value }
  }
  return 'specversion' in value ? value.data : value
}
type Row = Readonly<Record<string, unknown>>

/** `12:00:01.250 update public.cart {"customer":123,"product":999} …`, null for a tombstone whose delete was shown. */
export function readableLine(record: LogRecord): string | null {
  if (operationOf(record) === '') return null
  const time = pico.dim(new Date(record.timestampMs).toISOString().slice(11, 23))
  return `${time} ${readableEvent(record)}\n`
}

/** `update public.cart {"customer":123,"product":999} quantity 3 → 4` */
export function readableEvent(record: LogRecord): string {
  const event = eventIn(record)
  const table = record.topic.split('.').slice(1).map(unescapeIdentifier).join('.')
  const key = record.key === null ? {} : (JSON.parse(quoteLongNumbers(record.key.toString())) as Row)
  const shownKey = record.key === null ? '' : pico.dim(plain(key))
  return `${OPERATIONS[operationOf(record)] ?? ''} ${pico.bold(table)} ${shownKey} ${describe(event, key)}`.trimEnd()
}

/** What a person wants to know that the key does not say: what changed where the old row is known, else the new row. */
function describe({ before, after, unchanged, message }: Event, key: Row): string {
  if (message !== undefined) return `${message.prefix}: ${clip(message.content)}`
  if (after === null) return ''
  const columns = Object.entries(after).filter(([name]) => !(name in key))
  const changed = columns.filter(([name, value]) => before !== null && name in before && !same(before[name], value))
  const shown =
    changed.length === 0
      ? plain(Object.fromEntries(columns))
      : changed.map(([name, value]) => `${name} ${pico.dim(plain(before?.[name]))} → ${plain(value)}`).join(', ')
  return unchanged === undefined ? shown : `${shown} ${pico.dim(`unchanged: ${unchanged.join(', ')}`)}`
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

const SHOWN_CHARACTERS = 60

function clip(text: string): string {
  return text.length <= SHOWN_CHARACTERS ? text : `${text.slice(0, 40)}… (${text.length} characters)`
}

function plain(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'string' ? clip(inner) : inner))
}

/** Numbers that a double would round are shown as text. */
function quoteLongNumbers(json: string): string {
  return json.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,}(?![\d.eE])/g, (token) =>
    token.startsWith('"') ? token : `"${token}"`,
  )
}
