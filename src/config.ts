/** Configuration: every option, declared once. Values come from flags, EVERT_ variables and a YAML file, in that order. */
import * as z from 'zod'
import { BOOTSTRAP_OPTIONS } from './config-bootstrap.js'
import { KAFKA_OPTIONS } from './config-kafka.js'
import { address, bytes, duration, flag, retention, share, startingPoint, text, whole } from './base/option-values.js'

export const COMMANDS = ['run', 'init', 'status', 'snapshot', 'verify', 'tail', 'schema', 'drop', 'demo'] as const
export type CommandName = (typeof COMMANDS)[number]

export interface Option {
  /** Of the flag (`--name`), the file's key and, in upper case with EVERT_, the variable. */
  readonly name: string
  readonly commands: readonly CommandName[]
  /** What a value looks like, for people. */
  readonly value: string
  /** From text (or the file's YAML value) to what the program uses. */
  readonly schema: z.ZodType
  readonly default?: string | boolean
  readonly help: string
  /** When to change it, and what it costs. */
  readonly prose?: string
  /** Never shown. */
  readonly secret?: boolean
  readonly boolean?: boolean
}

/** No dot, which parts the name from schema and table in a topic. */
export const NAME = /^[A-Za-z0-9_-]{1,100}$/

const PIPELINE = ['run', 'init', 'status', 'snapshot', 'verify', 'drop'] as const
const NAMED = ['run', 'init', 'status', 'snapshot', 'verify', 'drop', 'tail', 'schema'] as const
/** What makes events. */
const PUBLISHING = ['run', 'snapshot'] as const
/** What reads or makes them. */
const EVENTS = ['run', 'snapshot', 'verify'] as const

export const OPTIONS = [
  {
    name: 'source',
    commands: PIPELINE,
    value: 'postgres://user:password@host:5432/database?sslmode=…',
    schema: text,
    secret: true,
    help: 'the database to read',
    prose:
      'Several hosts are tried in turn (h1:5432,h2:5432), and the primary among them is taken. Parameters are those of libpq: sslmode, sslrootcert, sslcert, sslkey, connect_timeout, target_session_attrs, application_name. Where it is not given, PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and ~/.pgpass count.',
  },
  {
    name: 'log',
    commands: ['run', 'status', 'snapshot', 'verify', 'drop', 'tail', 'schema', 'demo'],
    value: 'kafka://host:port[,host:port] | ./directory',
    schema: text,
    help: 'where events go: Kafka, or the embedded log in a directory',
    prose:
      'The embedded log is for development, tests and small single-machine uses: several processes may read it while one writes.',
  },
  {
    name: 'name',
    commands: NAMED,
    value: 'text',
    schema: text.regex(NAME, 'up to 100 letters, digits, _ and -'),
    help: "name of the pipeline (default: the database's name; where there is no database, the log's only pipeline)",
    prose:
      'Slot, publication, topic prefix and transactional ids carry it. Give each pipeline of one Kafka cluster a name of its own.',
  },
  {
    name: 'tables',
    commands: ['run', 'init', 'snapshot', 'verify'],
    value: 'patterns',
    schema: text,
    default: '*',
    help: "tables to publish, such as 'public.*,!public.audit'",
    prose:
      'Comma-separated schema.table with * and ?; ! leaves out. A name without a schema is in public, but for * alone, which is every table of every schema; names are lower-case unless they are in double quotes. Of a publication that exists, only matching tables are published. A new one is of all tables, those to come too, for * and a superuser; else it has the tables of that moment: alter publication … add table adds later ones.',
  },
  {
    name: 'slot',
    commands: PIPELINE,
    value: 'text',
    schema: text.regex(/^[a-z0-9_]{1,63}$/, 'up to 63 of a-z, 0-9 and _'),
    help: 'replication slot (default: made of the name)',
  },
  {
    name: 'publication',
    commands: PIPELINE,
    value: 'text',
    schema: text,
    help: 'publication (default: the name); created where it is missing',
  },
  ...BOOTSTRAP_OPTIONS,
  {
    name: 'partitions',
    commands: ['run', 'snapshot', 'demo'],
    value: 'number',
    schema: whole(1, 10_000),
    default: '6',
    help: 'partitions of a new topic',
    prose:
      'Changes of one key stay in one partition, in order. Changing the number of an existing topic moves keys: choose it once.',
  },
  {
    name: 'replication-factor',
    commands: PUBLISHING,
    value: 'number',
    schema: whole(-1, 100),
    default: '-1',
    help: 'copies of a new topic; -1 leaves it to the broker',
  },
  {
    name: 'retention',
    commands: PUBLISHING,
    value: 'compact | forever | 7d',
    schema: retention,
    default: 'compact',
    help: 'what a new topic keeps',
    prose:
      'compact keeps at least the last event of every row, so that the topic can bootstrap a consumer by itself. Of a row with a large (TOASTed) value which its last update left alone, that event lacks the value: alter table … replica identity full, or forever, where consumers need it. forever keeps the whole history; a duration keeps that long. Topics of tables without a key cannot be compacted and are kept forever; those of schemas and notifications are always compacted.',
  },
  {
    name: 'compression',
    commands: PUBLISHING,
    value: 'none | gzip | lz4 | zstd | snappy',
    schema: z.enum(['none', 'gzip', 'lz4', 'zstd', 'snappy']),
    default: 'none',
    help: 'of record batches',
    prose:
      'It costs CPU of the one core that decodes the stream. zstd needs Node 22.15, or the package @mongodb-js/zstd.',
  },
  {
    name: 'format',
    commands: EVENTS,
    value: 'evert | debezium | plain | cloudevents',
    schema: z.enum(['evert', 'debezium', 'plain', 'cloudevents']),
    default: 'evert',
    help: 'what stands around the rows of an event',
    prose:
      "debezium is read unchanged by what was set up for Debezium's JSON without schemas, and takes 1.4 to 2.2 times the bytes; plain is the row alone, with a delete as a tombstone and everything else in headers; cloudevents is CNCF's structured JSON. See docs/events.md.",
  },
  {
    name: 'json-values',
    commands: EVENTS,
    value: 'string | nested',
    schema: z.enum(['string', 'nested']),
    default: 'string',
    help: 'json and jsonb as a string, or as JSON within the event',
    prose:
      'Nested values keep every byte, but a JSON null looks like an SQL NULL, and a reader whose numbers are doubles loses digits beyond 2^53.',
  },
  {
    name: 'bytea-values',
    commands: EVENTS,
    value: 'base64 | hex',
    schema: z.enum(['base64', 'hex']),
    default: 'base64',
    help: 'how bytea is written',
    prose: 'hex takes half as much room again as base64.',
  },
  {
    name: 'numeric-values',
    commands: EVENTS,
    value: 'string | number',
    schema: z.enum(['string', 'number']),
    default: 'string',
    help: 'numeric as a string, or as a JSON number',
    prose:
      'A number is written with all its digits, but a reader whose numbers are doubles rounds it, and loses its scale. NaN and the infinities stay strings.',
  },
  {
    name: 'timestamp-values',
    commands: EVENTS,
    value: 'iso | epoch-us',
    schema: z.enum(['iso', 'epoch-us']),
    default: 'iso',
    help: 'timestamp and timestamptz as ISO 8601, or as microseconds since 1970',
    prose:
      'Microseconds are smaller, and exact up to year 2255 where numbers are doubles. The infinities stay strings. It costs about 0.5 µs a value.',
  },
  {
    name: 'large-values',
    commands: PUBLISHING,
    value: 'stop | skip | omit',
    schema: z.enum(['stop', 'skip', 'omit']),
    default: 'stop',
    help: 'what becomes of an event that is larger than its topic takes (max.message.bytes)',
    prose:
      'stop ends evert with an error, and nothing is lost; skip leaves the change out of the log, and says so with its position (the tombstone of a delete is written all the same); omit leaves its largest values out of the event and names them in "omitted", old ones before new ones where that is enough. Sizes are those before compression.',
  },
  {
    name: 'skip-origins',
    commands: ['run'],
    value: 'name[,name] | any',
    schema: text,
    help: 'leave out transactions that came through these replication origins',
    prose: 'For a server that is itself a subscriber: what it received is published by evert at its source.',
  },
  ...KAFKA_OPTIONS,
  {
    name: 'transaction-timeout',
    commands: ['run'],
    value: 'duration',
    schema: duration,
    default: '15m',
    help: 'longest log transaction; the broker aborts one that is older',
    prose:
      "It bounds the largest transaction of the database that can be published as one. No more than the brokers' transaction.max.timeout.ms. After a crash without a restart, consumers wait that long for what was open.",
  },
  {
    name: 'batch-bytes',
    commands: PUBLISHING,
    value: 'bytes',
    schema: bytes.refine((value) => value >= 64 * 1024 && value <= 256 * 1024 ** 2, 'between 64 KiB and 256 MiB'),
    default: '2MiB',
    help: 'from this size on, a log transaction commits at the end of the Postgres transaction at hand',
    prose:
      'A Postgres transaction that is larger is sent in parts, and still committed as one. Three fill, are sent and commit at the same time: memory grows with it, and so does throughput, up to a point.',
  },
  {
    name: 'batch-age',
    commands: ['run'],
    value: 'duration',
    schema: duration,
    default: '0ms',
    help: 'how long a transaction waits for others to share its log transaction',
    prose:
      'With 0, what comes is published at once, and batches grow by themselves under load; only in a stream that brings more than 13 MB of events a second, such as a backlog, log transactions follow each other no sooner than after 40 ms, or when one is full. More than 0 is waited for in every stream, instead of the 40 ms, and trades latency for fewer log transactions.',
  },
  {
    name: 'listen',
    commands: ['run'],
    value: 'port | host:port',
    schema: address,
    help: 'serve metrics at /metrics over HTTP, on loopback where no host is given (default: no)',
    prose:
      'Prometheus reads them: how far the log is, a snapshot, and live backfills ([metrics](metrics.md)). No row is served. Port 0 takes one that is free, which is logged.',
  },
  { name: 'table', commands: ['tail', 'schema'], value: 'schema.table', schema: text, help: 'only this table' },
  {
    name: 'from',
    commands: ['tail'],
    value: 'beginning | now | position',
    schema: startingPoint,
    help: 'where to begin (default: beginning with --exit-at-end, else now)',
  },
  {
    name: 'key',
    commands: ['tail'],
    value: 'JSON',
    schema: text,
    help: 'only events of this key, as it stands in the record',
  },
  {
    name: 'operation',
    commands: ['tail'],
    value: 'c,u,d,r,t,m',
    schema: text.regex(/^[cudrtm](,[cudrtm])*$/, 'letters of c, u, d, r, t, m with commas'),
    help: 'only these operations',
  },
  {
    name: 'exit-at-end',
    commands: ['tail'],
    value: 'true | false',
    schema: flag,
    default: false,
    boolean: true,
    help: 'end where the log ended at the start, instead of following it',
  },
  {
    name: 'sample',
    commands: ['verify'],
    value: '1%',
    schema: share,
    default: '100%',
    help: 'how many of the rows are compared, chosen by their keys',
  },
  {
    name: 'repair',
    commands: ['verify'],
    value: 'true | false',
    schema: flag,
    default: false,
    boolean: true,
    help: 'have evert run publish the rows of tables that differ again',
  },
  {
    name: 'watch',
    commands: ['status'],
    value: 'true | false',
    schema: flag,
    default: false,
    boolean: true,
    help: 'again every second',
  },
  {
    name: 'topics',
    commands: ['drop'],
    value: 'true | false',
    schema: flag,
    default: false,
    boolean: true,
    help: "also delete the pipeline's topics",
  },
  {
    name: 'yes',
    commands: ['drop'],
    value: 'true | false',
    schema: flag,
    default: false,
    boolean: true,
    help: 'do not ask',
  },
  {
    name: 'seconds',
    commands: ['demo'],
    value: 'number',
    schema: whole(1, 86_400),
    help: 'end after this long (default: at Ctrl-C)',
  },
  {
    name: 'json',
    commands: ['init', 'status', 'snapshot', 'verify', 'tail', 'schema', 'demo'],
    value: 'true | false',
    schema: flag,
    default: false,
    boolean: true,
    help: 'print JSON',
  },
  {
    name: 'log-level',
    commands: COMMANDS,
    value: 'error | warn | info | debug',
    schema: z.enum(['error', 'warn', 'info', 'debug']),
    default: 'info',
    help: 'what goes to stderr',
  },
  {
    name: 'log-format',
    commands: COMMANDS,
    value: 'auto | json | pretty',
    schema: z.enum(['auto', 'json', 'pretty']),
    default: 'auto',
    help: 'JSON lines, or readable ones; auto looks whether stderr is a terminal',
  },
  {
    name: 'config',
    commands: COMMANDS,
    value: 'path',
    schema: text,
    help: 'YAML file with options (default: evert.yaml, if it is there)',
  },
] as const satisfies readonly Option[]

export type OptionName = (typeof OPTIONS)[number]['name']
type Values = { [Name in OptionName]: z.infer<Extract<(typeof OPTIONS)[number], { name: Name }>['schema']> | undefined }
export type Config = Readonly<Values>

export function variableOf(name: string): string {
  return `EVERT_${name.toUpperCase().replaceAll('-', '_')}`
}

export function optionsOf(command: CommandName): readonly Option[] {
  return (OPTIONS as readonly Option[]).filter((option) => option.commands.includes(command))
}
