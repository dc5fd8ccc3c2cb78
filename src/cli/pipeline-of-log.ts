/** Which pipeline and table of a log a reader means. */
import { EvertError } from '../base/errors.js'
import type { Log } from '../log/log.js'

/** Error: OPTION_MISSING where there are several, or none. */
export async function onlyPipeline(log: Log): Promise<string> {
  const names = await log.pipelines()
  const [name] = names
  if (names.length === 1 && name !== undefined) return name
  throw new EvertError('OPTION_MISSING', {
    message:
      names.length === 0 ? 'no pipeline has written into this log yet' : `this log has ${names.length} pipelines`,
    hint: names.length === 0 ? 'evert run … --log … writes into it' : `--name ${names.join(' | --name ')}`,
  })
}

/** A table as people write it; without a schema it is in public. */
export function tableNamed(text: string): { readonly schema: string; readonly table: string } {
  const dot = text.indexOf('.')
  return dot === -1 ? { schema: 'public', table: text } : { schema: text.slice(0, dot), table: text.slice(dot + 1) }
}
