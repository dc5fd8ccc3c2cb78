/** evert schema: the shapes that a table had, and a JSON Schema of its events. */
import pico from 'picocolors'
import * as z from 'zod'
import { EvertError } from '../base/errors.js'
import { nearest } from '../base/nearest.js'
import { FORMATS } from '../event/envelope.js'
import type { SchemaValue } from '../event/schema-record.js'
import { schemaTopic } from '../event/topic-name.js'
import { typeDescriptions } from '../event/type-description.js'
import type { Log } from '../log/log.js'
import type { RunCommand } from './command.js'
import { eventSchema } from './json-schema.js'
import { requireLog } from './open-log.js'
import { onlyPipeline, tableNamed } from './pipeline-of-log.js'

const stored: z.ZodType<SchemaValue> = z.object({
  schema: z.string(),
  table: z.string(),
  oid: z.number(),
  replicaIdentity: z.enum(['default', 'index', 'full', 'nothing']),
  columns: z.array(
    z.object({ name: z.string(), type: z.string().nullable(), typeOid: z.number(), typeModifier: z.number() }),
  ),
  key: z.array(z.string()),
  types: typeDescriptions,
  format: z.enum(FORMATS),
  values: z.object({
    json: z.enum(['string', 'nested']),
    bytea: z.enum(['base64', 'hex']),
    numeric: z.enum(['string', 'number']),
    timestamps: z.enum(['iso', 'epoch-us']),
  }),
  position: z.string(),
})

export const schema: RunCommand = async ({ config, logger, signal }) => {
  if (config.table === undefined) {
    throw new EvertError('OPTION_MISSING', { message: 'a table is missing', hint: 'evert schema public.cart --log …' })
  }
  const log = await requireLog(config, { logger, create: false })()
  try {
    const name = config.name ?? (await onlyPipeline(log))
    const wanted = tableNamed(config.table)
    const all = await versionsIn(log, name, signal)
    const versions = all.filter((version) => version.schema === wanted.schema && version.table === wanted.table)
    const newest = versions.at(-1)
    if (newest === undefined) throw unknownTable(config.table, all)
    const jsonSchema = eventSchema(newest)
    if (config.json === true) process.stdout.write(`${JSON.stringify({ versions, jsonSchema })}\n`)
    else process.stdout.write(`${versions.map(readable).join('\n')}\n${JSON.stringify(jsonSchema, null, 2)}\n`)
  } finally {
    await log.close()
  }
}

/** All versions of all tables, by position. Error: LOG_PROTOCOL. */
async function versionsIn(log: Log, name: string, signal: AbortSignal): Promise<SchemaValue[]> {
  const versions: SchemaValue[] = []
  const topics = (await log.topics(schemaTopic(name))).filter((topic) => topic.name === schemaTopic(name))
  for (const { name: topic, partitions } of topics) {
    for (let partition = 0; partition < partitions; partition++) {
      const { earliest, end } = await log.offsets(topic, partition)
      for await (const { value } of log.read({ topic, partition, from: earliest, until: end, signal })) {
        versions.push(parse(topic, value))
      }
    }
  }
  return versions.toSorted((a, b) => (a.position < b.position ? -1 : 1))
}

function parse(topic: string, value: Buffer | null): SchemaValue {
  try {
    return stored.parse(JSON.parse(String(value)))
  } catch (error) {
    throw new EvertError('LOG_PROTOCOL', {
      message: `topic "${topic}" holds a record that is not of evert`,
      cause: error,
    })
  }
}

function unknownTable(table: string, all: readonly SchemaValue[]): EvertError {
  const names = [...new Set(all.map((version) => `${version.schema}.${version.table}`))]
  const near = nearest(table, names)
  return new EvertError('TOPIC_MISSING', {
    message: `the log knows no table "${table}"`,
    hint:
      near === null
        ? `it knows ${names.length} tables; a table is known from its first change on`
        : `did you mean ${near}?`,
  })
}

/** `from 0000…-00000000  replica identity default` and a line per column. */
function readable(version: SchemaValue): string {
  const width = Math.max(0, ...version.columns.map(({ name }) => name.length))
  const columns = version.columns.map(({ name, type }) => {
    const key = version.key.includes(name) ? pico.yellow('  key') : ''
    return `  ${name.padEnd(width)}  ${type ?? 'a type that is gone'}${key}\n`
  })
  const identity = pico.dim(`oid ${version.oid}, replica identity ${version.replicaIdentity}, format ${version.format}`)
  return `${pico.bold(`from ${version.position}`)}  ${identity}\n${columns.join('')}`
}
