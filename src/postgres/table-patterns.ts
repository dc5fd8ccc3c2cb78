/** Table patterns: which tables --tables means, such as `public.*,!public.audit`. */
import { EvertError } from '../base/errors.js'

export interface TablePatterns {
  /** True where every table of every schema matches. */
  readonly all: boolean
  matches(schema: string, table: string): boolean
}

const PART = /^(!?)(?:("(?:[^"]|"")+"|[^".,]+)\.)?("(?:[^"]|"")+"|[^".,]+)$/

/**
 * Comma-separated `schema.table` with `*` and `?`; `!` in front leaves out what was taken in; double quotes keep a name as it is. A name
 * without a schema is in `public`; `*` alone is every table. Error: OPTION_INVALID.
 */
export function tablePatterns(text: string): TablePatterns {
  const parts = (text.match(/(?:[^,"]|"(?:[^"]|"")*")+/g) ?? [])
    .map((part) => part.trim())
    .filter((part) => part !== '')
  if (parts.length === 0) throw invalid(text)
  const patterns = parts.map((part) => {
    const match = PART.exec(part)
    if (match === null) throw invalid(part)
    const [, not, schema, table = ''] = match
    return {
      taken: not === '',
      schema: matcher(schema ?? (table === '*' ? '*' : 'public')),
      table: matcher(table),
      all: not === '' && table === '*' && (schema === undefined || schema === '*'),
    }
  })
  // Only exclusions: everything else is meant.
  const start = patterns.every((pattern) => !pattern.taken)
  return {
    all: patterns.length === 1 && patterns[0]?.all === true,
    matches(schema, table) {
      let taken = start
      for (const pattern of patterns) if (pattern.schema(schema) && pattern.table(table)) taken = pattern.taken
      return taken
    },
  }
}

function matcher(text: string): (name: string) => boolean {
  if (text.startsWith('"')) {
    const exact = text.slice(1, -1).replaceAll('""', '"')
    return (name) => name === exact
  }
  const escaped = text
    .replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
    .replaceAll('\\*', '.*')
    .replaceAll('\\?', '.')
  const expression = new RegExp(`^${escaped}$`, 's')
  return (name) => expression.test(name)
}

function invalid(part: string): EvertError {
  return new EvertError('OPTION_INVALID', {
    message: `--tables: "${part}" is not a table pattern`,
    hint: `such as 'public.*,!public.audit', or 'public."Odd.Name"'`,
  })
}
