/** The one error class for everything that can be expected, with the registry of its codes. */

/** What the process exits with. Documented in docs/errors.md; the numbers never change meaning. */
export const EXIT = { done: 0, failed: 1, usage: 2, loss: 3, unavailable: 69, bug: 70 } as const

interface ErrorKind {
  /** Exit code of the process when this error ends it. */
  readonly exit: number
  /** True where the same attempt can succeed later without anybody doing anything. */
  readonly retry: boolean
  /** One line for docs/errors.md. */
  readonly meaning: string
}

const failed = (meaning: string): ErrorKind => ({ exit: EXIT.failed, retry: false, meaning })
const usage = (meaning: string): ErrorKind => ({ exit: EXIT.usage, retry: false, meaning })
const loss = (meaning: string): ErrorKind => ({ exit: EXIT.loss, retry: false, meaning })
const unavailable = (meaning: string): ErrorKind => ({ exit: EXIT.unavailable, retry: true, meaning })

/** Every code evert can end with. A code keeps its meaning for good. */
export const ERRORS = {
  // Usage
  OPTION_UNKNOWN: usage('an option, environment variable or key of the configuration file is not known'),
  OPTION_INVALID: usage('an option has a value it cannot have'),
  OPTION_MISSING: usage('an option without a default was not given'),
  LISTEN_FAILED: failed('the address of --listen is taken, or is none of this machine'),

  // Postgres
  POSTGRES_UNREACHABLE: unavailable('no host of --source answers'),
  POSTGRES_CONNECTION_LOST: unavailable('the connection to Postgres broke'),
  POSTGRES_AUTHENTICATION: failed('Postgres refused the user, the password or the database'),
  POSTGRES_TLS: failed('the TLS connection to Postgres could not be made as sslmode asks'),
  POSTGRES_ENCODING: failed('the database does not know the encoding of its own text'),
  KEY_UNKNOWN: failed('the key that a table had at a point of the stream cannot be known any more'),
  POSTGRES_VERSION: failed('the server is older than Postgres 14'),
  POSTGRES_STANDBY: failed('a standby cannot do what evert needs of it'),
  POSTGRES_PERMISSION: failed('the user lacks a right in Postgres'),
  POSTGRES_QUERY: failed('Postgres refused a statement'),
  WAL_LEVEL: failed('the server does not run with wal_level=logical'),
  REPLICATION_PERMISSION: failed('the user may not start replication'),
  SLOT_FOREIGN: failed('a slot of that name exists, with another plugin or in another database'),
  SNAPSHOT_OVERTAKEN: unavailable('a table or a type was altered while its snapshot was taken'),
  SLOT_ACTIVE: unavailable('the slot is in use by another process'),
  SLOTS_EXHAUSTED: failed('the server has no free replication slot or walsender'),
  PUBLICATION_MISSING: failed('the publication does not exist'),
  PUBLICATION_EMPTY: failed('the publication has no table that --tables matches'),
  PROTOCOL: failed('a message from Postgres is not what the protocol says'),

  OUTPUT_FAILED: failed('a file cannot be written'),
  BACKFILL_INTERRUPTED: unavailable('the rows of a table that must come at one place of the stream did not'),
  BACKFILL_REFUSED: failed('evert run does not publish the rows that it was asked for'),
  INIT_INCOMPLETE: failed('evert init could not make everything that evert run needs'),

  // Loss: going on would skip changes
  SLOT_MISSING: loss('the log has progress, but its slot is gone'),
  SLOT_AHEAD: loss('the slot has moved past what the log holds'),
  SLOT_LOST: loss('the server has removed WAL that the slot needs'),
  SERVER_BEHIND: loss('the server does not have the WAL that the log was written from'),
  SERVER_FOREIGN: loss('the progress in the log belongs to another Postgres server'),
  PROGRESS_INVALID: loss('the progress in the log cannot be read'),
  PROGRESS_MISSING: loss('topics hold records of the pipeline, but the log has no progress of it'),
  TOPIC_LOST: loss('a topic that the pipeline has written is gone'),
  TOPIC_REPLACED: loss('a topic that the pipeline has written was deleted and created again'),
  TOPIC_TRUNCATED: loss('a topic holds less than the pipeline has written'),

  LOG_DIFFERS: loss('the log does not say what the tables say'),

  // The log
  LOG_UNREACHABLE: unavailable('no broker of --log answers'),
  LOG_UNAVAILABLE: unavailable('the log cannot take records for now'),
  LOG_TLS: failed('the TLS connection to Kafka could not be made'),
  LOG_AUTHENTICATION: failed('Kafka refused the credentials'),
  LOG_PERMISSION: failed('Kafka does not allow an operation on a topic or transactional id'),
  LOG_CONFIGURATION: failed('a setting of the broker or topic stands in the way'),
  LOG_FENCED: failed(
    'another writer has taken the pipeline over, and nobody holds its slot: before that, evert run stands by',
  ),
  LOG_PROTOCOL: failed('a response or a stored batch is not what the protocol says'),
  LOG_DISK_FULL: failed('the disk under the embedded log is full'),
  LOG_FORMAT: failed('the directory does not hold a log that this version can read'),
  RECORD_TOO_LARGE: failed('an event is larger than its topic accepts'),
  TRANSACTION_TOO_LONG: failed('a transaction takes longer than the broker allows'),
  TOPIC_INVALID: failed('Kafka refuses the name of a topic'),
  TOPIC_MISSING: failed('a topic does not exist'),
  COMPRESSION_MISSING: failed('the library for a compression is not installed'),

  // The demo
  DEMO_UNAVAILABLE: failed('the demo cannot start its Postgres on this machine'),
  DEMO_MISMATCH: failed('the log of the demo does not equal what its shop did'),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

interface ErrorText {
  /** What happened to which object. No password and no row value. */
  readonly message: string
  /** What to type or to change. */
  readonly hint?: string
  readonly cause?: unknown
}

export class EvertError extends Error {
  override readonly name = 'EvertError'
  readonly code: ErrorCode
  readonly hint: string | undefined

  constructor(code: ErrorCode, text: ErrorText) {
    super(text.message, text.cause === undefined ? undefined : { cause: text.cause })
    this.code = code
    this.hint = text.hint
  }

  get retry(): boolean {
    return ERRORS[this.code].retry
  }

  get exit(): number {
    return ERRORS[this.code].exit
  }
}

/** True when the same attempt may succeed later; false for our own bugs and for everything a person must act on. */
export function isRetriable(error: unknown): boolean {
  return error instanceof EvertError && error.retry
}
