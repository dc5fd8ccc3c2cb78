/** Table patterns: which tables --tables means, such as `public.*,!public.audit`. */
import { EvertError } from '../base/errors.js'

export interface TablePatterns {
  /** True where every table of every schema matches. */
  readonly all: boolean
  matches(schema: string, table: string): boolean
}

interface Pattern {
  readonly excludes: boolean
  readonly all: boolean
  matches(schema: string, table: string): boolean
}

interface Name {
  readonly any: boolean
  matches(name: string): boolean
}

const NAME = /"(?:[^"]|"")+"|[^\s".,!](?:[^".,]*[^\s".,])?/
const PART = new RegExp(`^\\s*(!?)(?:(${NAME.source})\\.)?(${NAME.source})\\s*$`)

/**
 * Comma-separated `schema.table`, where `*` is any text and `?` any character. As in Postgres, a name is lower-case unless double quotes
 * keep it as it is, and one without a schema is in `public`; `*` alone is every table. What `!` stands before is left out,
 * whatever else matches it; with nothing but exclusions, every other table is meant. Error: OPTION_INVALID.
 */
export function tablePatterns(text: string): TablePatterns {
  const patterns = split(text).map(pattern)
  const excluded = patterns.filter((one) => one.excludes)
  const included = patterns.filter((one) => !one.excludes)
  return {
    all: excluded.length === 0 && included.some((one) => one.all),
    matches: (schema, table) =>
      (included.length === 0 || included.some((one) => one.matches(schema, table))) &&
      !excluded.some((one) => one.matches(schema, table)),
  }
}

/** At commas outside double quotes. An open quote takes the rest, which is then no pattern. */
function split(text: string): string[] {
  return text.match(/(?:[^,"]|"(?:[^"]|"")*(?:"|$))+|(?<=,|^)(?=,|$)/g) ?? ['']
}

function pattern(part: string): Pattern {
  const match = PART.exec(part)
  if (match === null) {
    throw new EvertError('OPTION_INVALID', {
      message: `--tables: "${part.trim()}" is not a table pattern`,
      hint: `such as 'public.*,!public.audit', or 'public."Odd.Name"'`,
    })
  }
  const [, not, schemaText, tableText = ''] = match
  const schemaName = name(schemaText ?? (tableText === '*' ? '*' : 'public'))
  const tableName = name(tableText)
  return {
    excludes: not === '!',
    all: schemaName.any && tableName.any,
    matches: (schema, table) => schemaName.matches(schema) && tableName.matches(table),
  }
}

function name(text: string): Name {
  if (text.startsWith('"')) {
    const exact = text.slice(1, -1).replaceAll('""', '"')
    return { any: false, matches: (other) => other === exact }
  }
  const escaped = text.toLowerCase().replace(/[\\^$.+()[\]{}|]/g, '\\$&')
  const expression = new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`, 'su')
  return { any: text === '*', matches: (other) => expression.test(other) }
}
