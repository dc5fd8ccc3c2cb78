/** Module hooks that break one guard of the sources: a text that stands there exactly once is replaced before the file is compiled. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { transform } from '@swc/core'

let mutation = null

export function initialize(data) {
  mutation = data
}

export async function load(url, context, next) {
  if (!url.endsWith(mutation.file)) return next(url, context)
  let source = await readFile(fileURLToPath(url), 'utf8')
  for (const [guard, broken] of mutation.changes) {
    if (source.split(guard).length !== 2) {
      throw new Error(`${mutation.file} does not say exactly once: ${guard}`)
    }
    source = source.replace(guard, () => broken)
  }
  const options = { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'es6' } }
  const { code } = await transform(source, options)
  return { format: 'module', source: code, shortCircuit: true }
}
