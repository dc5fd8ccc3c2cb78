/** Logger: JSON lines on stderr, or readable ones on a terminal. One line per state change, none per row; facts in fields with units. */
import pico from 'picocolors'
import { pino } from 'pino'

export type LogLevel = 'error' | 'warn' | 'info' | 'debug'
export type LogFormat = 'auto' | 'json' | 'pretty'

/** error = act, warn = look, info = lifecycle, debug = off. */
export interface Logger {
  error(fields: object, message: string): void
  warn(fields: object, message: string): void
  info(fields: object, message: string): void
  debug(fields: object, message: string): void
}

export const silentLogger: Logger = { error() {}, warn() {}, info() {}, debug() {} }

export function createLogger(options: { readonly level: LogLevel; readonly format: LogFormat }): Logger {
  const pretty = options.format === 'pretty' || (options.format === 'auto' && process.stderr.isTTY)
  const settings = { level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime }
  if (!pretty) return pino(settings, pino.destination({ dest: 2, sync: true }))
  // Where a progress bar is, it gives way, and is drawn again below.
  const start = process.stderr.isTTY ? '\r\x1b[2K' : ''
  return pino(settings, { write: (line: string) => void process.stderr.write(`${start}${prettyLine(line)}`) })
}

const COLOURS: Readonly<Record<number, (text: string) => string>> = {
  20: pico.dim,
  30: pico.cyan,
  40: pico.yellow,
  50: pico.red,
}
const NAMES: Readonly<Record<number, string>> = { 20: 'debug', 30: 'info', 40: 'warn', 50: 'error' }

/** `12:00:01 info  slot created  slot=shop lsn=0/16B3748` */
function prettyLine(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as { level: number; time: string; msg: string }
  const colour = COLOURS[level] ?? pico.white
  const facts = Object.entries(fields).map(([key, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    return `${pico.dim(`${key}=`)}${text}`
  })
  return `${pico.dim(time.slice(11, 19))} ${colour((NAMES[level] ?? '').padEnd(5))} ${msg}  ${facts.join(' ')}\n`
}
