/** SQL: loads the statements of sql/ and fills in their variables, in psql's style, so that an operator can run the same files. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { assert } from '../base/assert.js'

/** Two folders up, from a folder of src/ as from dist/js/. */
const FOLDER = fileURLToPath(new URL('../../sql/', import.meta.url))
const files = new Map<string, string>()

/** The statement of sql/<name>.sql with its variables and without its comments. A missing or unused variable is a bug. */
export function sql(name: string, variables: Readonly<Record<string, string>> = {}): string {
  let text = files.get(name)
  if (text === undefined) {
    text = readFileSync(`${FOLDER}${name}.sql`, 'utf8')
    files.set(name, text)
  }
  return fillIn(text, variables, `sql/${name}.sql`)
}

/** What is kept as it is (quoted text, casts), comments, and variables. A colon after a word or a bracket belongs to an array slice. */
const TOKEN = new RegExp(
  [
    /(?<comment>--[^\n]*\n?|\/\*[^]*?\*\/)/,
    /(?<kept>\$(?<tag>[a-z_]\w*)?\$[^]*?\$\k<tag>\$|'(?:[^']|'')*'|"(?:[^"]|"")*"|::)/,
    /(?<![\w\])]):(?:'(?<literal>\w+)'|"(?<identifier>\w+)"|(?<plain>[a-z]\w*))/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'gi',
)

/**
 * `:'value'` becomes a literal, `:"name"` an identifier, `:text` is put in as it is:
 * https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-INTERPOLATION
 */
export function fillIn(text: string, variables: Readonly<Record<string, string>>, file: string): string {
  const unused = new Set(Object.keys(variables))
  const valueOf = (variable: string): string => {
    const value = variables[variable]
    assert(value !== undefined, `${file} needs the variable ${variable}`)
    unused.delete(variable)
    return value
  }
  const filled = text.replace(TOKEN, (token, ...rest) => {
    const { comment, literal, identifier, plain } = rest.at(-1) as Record<string, string | undefined>
    if (comment !== undefined) return ''
    if (literal !== undefined) return quoteLiteral(valueOf(literal))
    if (identifier !== undefined) return quoteIdentifier(valueOf(identifier))
    return plain === undefined ? token : valueOf(plain)
  })
  assert(unused.size === 0, `${file} has no variable ${[...unused].join(', ')}`)
  return filled.trim().replace(/;$/, '')
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** Backslashes need the E form, or standard_conforming_strings would decide what they mean. */
export function quoteLiteral(value: string): string {
  const quoted = `'${value.replaceAll("'", "''")}'`
  return value.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted
}
