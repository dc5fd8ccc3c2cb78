/** SQL: loads the statements of sql/ and fills in their variables, in psql's style, so that an operator can run the same files. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { assert } from '../base/assert.js'

const FOLDER = fileURLToPath(new URL('../../sql/', import.meta.url))
const files = new Map<string, string>()

/** `:'value'` is quoted as a literal, `:"name"` as an identifier, `:text` put in as it is: https://www.postgresql.org/docs/current/app-psql.html */
const VARIABLE = /(?<![:\w]):(?:'(\w+)'|"(\w+)"|([a-z]\w*))/g
const COMMENT = /^--.*\n/gm

/** The statement of sql/<name>.sql with its variables. A missing or unused variable is a bug. */
export function sql(name: string, variables: Readonly<Record<string, string>> = {}): string {
  let text = files.get(name)
  if (text === undefined) {
    text = readFileSync(`${FOLDER}${name}.sql`, 'utf8').replace(COMMENT, '').trim().replace(/;$/, '')
    files.set(name, text)
  }
  const used = new Set<string>()
  const filled = text.replace(VARIABLE, (_, literal?: string, identifier?: string, plain?: string) => {
    const variable = literal ?? identifier ?? plain ?? ''
    const value = variables[variable]
    assert(value !== undefined, `sql/${name}.sql needs the variable ${variable}`)
    used.add(variable)
    if (literal !== undefined) return quoteLiteral(value)
    return identifier === undefined ? value : quoteIdentifier(value)
  })
  for (const variable of Object.keys(variables))
    assert(used.has(variable), `sql/${name}.sql has no variable ${variable}`)
  return filled
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** Backslashes need the E form, or standard_conforming_strings would decide what they mean. */
export function quoteLiteral(value: string): string {
  const quoted = `'${value.replaceAll("'", "''")}'`
  return value.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted
}
