/** What the commands of a pipeline make of their options: its connection and its names. */
import { userInfo } from 'node:os'
import { EvertError } from '../base/errors.js'
import { type Config, NAME } from '../config.js'
import type { Envelope } from '../event/envelope.js'
import { envelope } from '../event/formats.js'
import type { Logger } from '../base/logger.js'
import { formatPosition } from '../event/position.js'
import type { LargeValues } from '../event/transcoder.js'
import { qualifiedName } from '../postgres/catalog.js'
import { DEFAULT_VALUES, type ValueOptions } from '../event/type-kinds.js'
import { type ConnectionOptions, connectionOptions } from '../postgres/connection-options.js'
import { slotName } from '../postgres/slot.js'
import { version } from './version.js'

export interface PipelineNames {
  readonly connection: ConnectionOptions
  readonly name: string
  readonly slot: string
  readonly publication: string
}

/** Errors: OPTION_INVALID. */
export function pipelineNames(config: Config): PipelineNames {
  const connection = connectionOptions(config.source, process.env, osUser())
  const name = config.name ?? connection.database
  if (!NAME.test(name)) {
    throw new EvertError('OPTION_INVALID', {
      message: `the database's name "${name}" cannot be the pipeline's: topics begin with it`,
      hint: '--name: up to 100 letters, digits, _ and -',
    })
  }
  return { connection, name, slot: config.slot ?? slotName(name), publication: config.publication ?? name }
}

/** A container's user may have no name. */
function osUser(): string {
  try {
    return userInfo().username
  } catch {
    return 'postgres'
  }
}

/** How values are written, as the options say. */
export function valueOptions(config: Config): ValueOptions {
  return {
    json: config['json-values'] ?? DEFAULT_VALUES.json,
    bytea: config['bytea-values'] ?? DEFAULT_VALUES.bytea,
    numeric: config['numeric-values'] ?? DEFAULT_VALUES.numeric,
    timestamps: config['timestamp-values'] ?? DEFAULT_VALUES.timestamps,
  }
}

export function envelopeOf(config: Config, { name, connection }: PipelineNames): Envelope {
  return envelope(config.format ?? 'evert', { pipeline: name, database: connection.database, version: version() })
}

/** A record that is skipped is told of by its position and size, never by its key or values. */
export function largeValues(config: Config, logger: Logger): LargeValues {
  return {
    omit: config['large-values'] === 'omit',
    onSkip: ({ table, bytes, position }) =>
      logger.error(
        { table: qualifiedName(table), bytes, position: formatPosition(position) },
        'a change was skipped: it is larger than its topic takes',
      ),
  }
}

export function skipsOrigin(config: Config): (name: string) => boolean {
  const names = new Set(config['skip-origins']?.split(',') ?? [])
  return (name) => names.has('any') || names.has(name)
}
