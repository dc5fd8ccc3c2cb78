/** Loading the configuration of a command: flags before EVERT_ variables before the YAML file before defaults. */
import { parse as parseYaml } from 'yaml'
import { EvertError } from '../base/errors.js'
import { nearest } from '../base/nearest.js'
import { type CommandName, type Config, type Option, OPTIONS, optionsOf, variableOf } from '../config.js'

export interface ConfigSources {
  readonly command: CommandName
  readonly flags: Readonly<Record<string, unknown>>
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Contents of a file, or null where it cannot be read. */
  readonly readFile: (path: string) => string | null
}

const DEFAULT_FILE = 'evert.yaml'
const ALL: readonly Option[] = OPTIONS
/** Those of the test suite, which processes that it starts inherit, and those that Kubernetes sets for a Service of the name evert. */
const FOREIGN = /^EVERT_(TEST_|SERVICE_(HOST|PORT)|PORT(_|$))/

/** One that was meant to be the value of an option may hold a password. */
function withoutUrl(name: string): string {
  return name.replace(/(postgres(ql)?)?:\/\/.*/s, '…')
}

/** Errors: OPTION_UNKNOWN with the nearest known name, OPTION_INVALID, which never repeats a secret. */
export function loadConfig(sources: ConfigSources): Config {
  const { command, flags, environment } = sources
  const known = optionsOf(command)
  requireKnown(Object.keys(flags), names(known), (name) => `evert ${command} has no option --${withoutUrl(name)}`, '--')
  const variables = Object.keys(environment).filter((name) => name.startsWith('EVERT_') && !FOREIGN.test(name))
  requireKnown(variables, names(ALL).map(variableOf), (name) => `the environment variable ${name} is not known`)
  const file = readConfigFile(sources)
  requireKnown(Object.keys(file.values), names(ALL), (name) => `${file.path}: the option ${name} is not known`)
  return Object.fromEntries(
    known.map((option) => {
      const variable = variableOf(option.name)
      const given = [
        { value: flags[option.name], where: `--${option.name}` },
        { value: environment[variable] || undefined, where: variable },
        { value: file.values[option.name] ?? undefined, where: `${option.name} in ${file.path}` },
        { value: option.default, where: `the default of ${option.name}` },
      ].find(({ value }) => value !== undefined)
      return [option.name, given === undefined ? undefined : parse(option, given.value, given.where)]
    }),
  ) as unknown as Config
}

function names(options: readonly Option[]): string[] {
  return options.map(({ name }) => name)
}

function requireKnown(
  given: readonly string[],
  known: readonly string[],
  message: (name: string) => string,
  prefix = '',
): void {
  for (const name of given) {
    if (known.includes(name)) continue
    const near = nearest(name, known)
    throw new EvertError('OPTION_UNKNOWN', {
      message: message(name),
      hint: near === null ? 'evert COMMAND --help lists them' : `did you mean ${prefix}${near}?`,
    })
  }
}

/** A list in the file is what commas are elsewhere. */
function parse(option: Option, given: unknown, where: string): unknown {
  const value = Array.isArray(given) ? given.join(',') : given
  const parsed = typeof value === 'object' ? null : option.schema.safeParse(value)
  if (parsed?.success === true) return parsed.data
  const reasons = [...new Set(parsed?.error.issues.map((issue) => issue.message) ?? ['not a single value'])].join('; ')
  const shown = option.secret === true || typeof value === 'object' ? 'its value' : `"${String(value)}"`
  throw new EvertError('OPTION_INVALID', {
    message: value === '' ? `${where} has no value` : `${where}: ${shown} will not do: ${reasons}`,
    hint: `${option.value} (${option.help})`,
  })
}

function readConfigFile(sources: ConfigSources): { path: string; values: Readonly<Record<string, unknown>> } {
  const named = sources.flags['config'] ?? (sources.environment[variableOf('config')] || undefined)
  const path = typeof named === 'string' && named !== '' ? named : DEFAULT_FILE
  const contents = sources.readFile(path)
  if (contents === null) {
    if (named === undefined) return { path, values: {} }
    throw new EvertError('OPTION_INVALID', { message: `--config: the file "${path}" cannot be read` })
  }
  let values: unknown
  try {
    values = parseYaml(contents)
  } catch {
    // What the parser says may quote the file, and the file may hold a password.
  }
  if (values === null) return { path, values: {} }
  if (typeof values === 'object' && !Array.isArray(values)) return { path, values: values as Record<string, unknown> }
  throw new EvertError('OPTION_INVALID', {
    message: `"${path}" is not a YAML file of options`,
    hint: 'one `option: value` a line, without the dashes of the flag',
  })
}
