/** The command line: which command, which options, which exit code. */
import { setMaxListeners } from 'node:events'
import { readFileSync } from 'node:fs'
import yargs, { type Argv } from 'yargs'
import { EvertError, EXIT } from '../base/errors.js'
import { createLogger, type Logger } from '../base/logger.js'
import { nearest } from '../base/nearest.js'
import { type Option, OPTIONS, optionsOf } from '../config.js'
import type { Command } from './command.js'
import { COMMANDS } from './commands.js'
import { loadConfig } from './load-config.js'
import { version } from './version.js'

/** A stop that takes longer than this ends at once: nothing is lost by it. */
const STOP_TIMEOUT_MS = 9500

export async function main(parameters: readonly string[]): Promise<number> {
  let logger = createLogger({ level: 'info', format: 'auto' })
  try {
    const invocation = await parse(parameters)
    if (invocation === null) return EXIT.done
    const { command, flags } = invocation
    const config = loadConfig({ command: command.name, flags, environment: process.env, readFile })
    logger = createLogger({ level: config['log-level'] ?? 'info', format: config['log-format'] ?? 'auto' })
    // The parameters may hold a password, which `ps` would show to everybody.
    process.title = `evert ${command.name}`
    const run = await command.load()
    const signal = stopSignal(logger)
    try {
      await run({ config, logger, signal })
      return EXIT.done
    } catch (error) {
      if (!signal.aborted) throw error
      // What was under way when it was told to stop fails in many ways, and none of them says more.
      logger.warn({}, `evert ${command.name} was stopped before it was done`)
      return EXIT.failed
    }
  } catch (error) {
    return report(error, logger)
  }
}

/** Null where the help or the version was asked for, and printed. Errors: OPTION_UNKNOWN, OPTION_MISSING. */
async function parse(
  parameters: readonly string[],
): Promise<{ command: Command; flags: Record<string, unknown> } | null> {
  // Without commands: for each of them that it runs yargs makes the text of its help, which takes a tenth of a start.
  let parser = parserOf(parameters).help(false).version(false).boolean(['help', 'version'])
  for (const option of OPTIONS) parser = parser.option(option.name, { type: typeOf(option) })
  const { _: words, $0: _program, help, version: asked, ...flags } = await parser.parseAsync()
  if (help === true || asked === true || (words.at(-1) === 'help' && !parameters.includes('--'))) {
    await describe(parameters)
    return null
  }
  const [word, ...more] = words.map(String)
  const names: readonly string[] = COMMANDS.map(({ name }) => name)
  if (word === undefined) {
    throw new EvertError('OPTION_MISSING', { message: 'a command is missing', hint: `evert ${names.join(' | ')}` })
  }
  const command = COMMANDS.find(({ name }) => name === word)
  const [argument] = more
  if (command?.word !== undefined && argument !== undefined && more.length === 1 && flags[command.word] === undefined) {
    flags[command.word] = argument
    more.pop()
  }
  if (command === undefined || more.length > 0) {
    const near = command === undefined ? nearest(word, names) : null
    const stray = command === undefined ? word : String(more[0])
    // A URL may hold a password.
    const shown = stray.includes('://') ? 'a URL' : `"${stray}"`
    const message = command === undefined ? `evert has no command ${shown}` : `${shown} belongs to no option`
    throw new EvertError('OPTION_UNKNOWN', {
      message,
      hint:
        near === null
          ? `evert ${command === undefined ? names.join(' | ') : `${word} --help`}`
          : `did you mean evert ${near}?`,
    })
  }
  // yargs gives undefined for what is declared and was not given.
  return { command, flags: Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined)) }
}

/** Prints the help, or the version. */
async function describe(parameters: readonly string[]): Promise<void> {
  let parser = parserOf(parameters)
    .usage('Postgres turned inside out: every row change as an immutable event in Kafka, exactly once.')
    .help('help', 'what a command does, and its options')
    .version('version', 'the version', version())
    .wrap(Math.min(process.stdout.columns ?? 100, 120))
    .epilogue('evert COMMAND --help says more. Options may also stand in EVERT_… variables and in evert.yaml.')
  for (const command of COMMANDS) {
    parser = parser.command(command.name, command.summary, (own) => {
      let described = own.usage(`evert ${command.name}: ${command.summary}\n\n${command.prose}`)
      for (const option of optionsOf(command.name)) {
        const { name, help, value, boolean, default: byDefault } = option
        described = described.option(name, {
          type: typeOf(option),
          describe: boolean === true ? help : `${help}: ${value}`,
          ...(typeof byDefault === 'string' ? { defaultDescription: byDefault } : {}),
        })
      }
      return described.epilogue(`Examples:\n${command.examples.map((example) => `  ${example}`).join('\n')}`)
    })
  }
  await parser.parseAsync()
}

function parserOf(parameters: readonly string[]): Argv {
  return yargs(joined(parameters))
    .scriptName('evert')
    .parserConfiguration({
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'duplicate-arguments-array': false,
      'parse-numbers': false,
    })
    .exitProcess(false)
    .fail(false)
}

function typeOf({ boolean }: Option): 'boolean' | 'string' {
  return boolean === true ? 'boolean' : 'string'
}

/** A lone dash is the value of the option before it; the parser would take it for a word of its own. */
function joined(parameters: readonly string[]): string[] {
  const words: string[] = []
  for (const word of parameters) {
    const option = words.at(-1)
    if (word === '-' && option?.startsWith('--') === true) words[words.length - 1] = `${option}=-`
    else words.push(word)
  }
  return words
}

function readFile(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

/** Aborted by the first signal; the second one, or a stop that hangs, ends the process at once. */
function stopSignal(logger: Logger): AbortSignal {
  const stop = new AbortController()
  // Everything that waits listens to it.
  setMaxListeners(0, stop.signal)
  const onSignal = (name: NodeJS.Signals): void => {
    if (stop.signal.aborted) process.exit(EXIT.failed)
    logger.info({ signal: name }, 'stopping')
    stop.abort()
    setTimeout(() => {
      logger.warn({ afterMs: STOP_TIMEOUT_MS }, 'the stop takes too long: ending at once')
      process.exit(EXIT.unavailable)
    }, STOP_TIMEOUT_MS).unref()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return stop.signal
}

function report(error: unknown, logger: Logger): number {
  if (error instanceof EvertError) {
    logger.error({ code: error.code, ...(error.hint === undefined ? {} : { hint: error.hint }) }, error.message)
    return error.exit
  }
  const known = error instanceof Error ? error : new Error(String(error))
  logger.error({ code: 'BUG', stack: known.stack }, `this is a bug in evert, please report it: ${known.message}`)
  return EXIT.bug
}

// Who reads the output may have seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed)
})
