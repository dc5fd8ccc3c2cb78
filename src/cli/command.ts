/** What a command is. */
import type { Logger } from '../base/logger.js'
import type { CommandName, Config, OptionName } from '../config.js'

export interface CommandContext {
  readonly config: Config
  readonly logger: Logger
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal
}

/** Resolves when the command is done; an error decides the exit code. */
export type RunCommand = (context: CommandContext) => Promise<void>

export interface Command {
  readonly name: CommandName
  /** The option that a word behind the command stands for. */
  readonly word?: OptionName
  readonly summary: string
  /** What somebody who has never used it needs to know. */
  readonly prose: string
  readonly examples: readonly string[]
  /** Loaded when it is asked for, so that the others cost no time. */
  readonly load: () => Promise<RunCommand>
}
