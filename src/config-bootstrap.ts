/** Options of bootstrapping: snapshots and backfills. They belong to the one list of config.ts. */
import * as z from 'zod'
import { text, whole } from './base/option-values.js'

export const BOOTSTRAP_OPTIONS = [
  {
    name: 'snapshot',
    commands: ['run'],
    value: 'initial | none',
    schema: z.enum(['initial', 'none']),
    default: 'initial',
    help: 'whether the rows that are there are published first',
    prose:
      'It counts at the first start only. Until the snapshot is in the log, Postgres keeps the WAL that is written meanwhile.',
  },
  {
    name: 'into',
    commands: ['snapshot'],
    value: 'topic | ./file.jsonl | -',
    schema: text,
    help: 'where the rows go: a topic of their own, a file (its path has a slash), or stdout (default: the live topics, by evert run)',
    prose: 'A file is there once it is complete; until then it is called FILE.part.',
  },
  {
    name: 'columns',
    commands: ['snapshot'],
    value: 'name[,name]',
    schema: text,
    help: 'without --into: updates of every row that say nothing but its key and these columns, as for a column that is new',
    prose:
      'The other columns are named in "unchanged", as those that Postgres does not send. Tables without a key are refused.',
  },
  {
    name: 'max-rows-per-second',
    commands: ['snapshot'],
    value: 'number',
    schema: whole(1, 1_000_000_000),
    help: 'without --into: how fast evert run reads them at most',
    prose: 'Of tables with a key: without one, all rows come at one place of the stream, which waits for them.',
  },
  {
    name: 'control',
    commands: ['snapshot'],
    value: 'pause | resume | cancel',
    schema: z.enum(['pause', 'resume', 'cancel']),
    help: 'without --into: what becomes of a backfill that is under way, named by --id',
  },
  {
    name: 'id',
    commands: ['snapshot'],
    value: 'text',
    schema: text,
    help: 'without --into: what the backfill is called (default: the time)',
  },
  {
    name: 'where',
    commands: ['snapshot'],
    value: 'table: condition[; table: condition]',
    schema: text,
    help: "only rows that fulfil an SQL condition, such as 'public.orders: total > 100'",
    prose: 'A table may be a pattern, as in --tables. Changes after the snapshot are those of every row.',
  },
  {
    name: 'readers',
    commands: ['run', 'snapshot', 'verify'],
    value: 'number',
    schema: whole(1, 64),
    help: 'connections that read a snapshot at a time (default: number of cores)',
    prose:
      'They share one snapshot; large tables are split among them. Each is a connection of its own, for as long as the snapshot takes.',
  },
  {
    name: 'new-tables',
    commands: ['run'],
    value: 'backfill | stream',
    schema: z.enum(['backfill', 'stream']),
    default: 'backfill',
    help: 'whether the rows of a table that joins a running pipeline are published too, or only its changes from then on',
    prose:
      'A table joins when it is added to the publication, or when --tables means it after a restart. Its rows are published in chunks while the stream goes on.',
  },
  {
    name: 'requests',
    commands: ['run'],
    value: 'on | off',
    schema: z.enum(['on', 'off']),
    default: 'on',
    help: 'whether evert snapshot may ask for rows to be published again',
    prose:
      "Whoever may call pg_logical_emit_message in the database may ask; what can be asked for are rows of the pipeline's own tables.",
  },
  {
    name: 'on-loss',
    commands: ['run'],
    value: 'stop | resnapshot',
    schema: z.enum(['stop', 'resnapshot']),
    default: 'stop',
    help: 'what to do where changes are gone for good: the slot, its WAL, a topic',
    prose:
      'stop ends evert with exit code 3 and says what is missing. resnapshot makes a new slot, records the gap as an event on the topic NAME.notification, compares the log with the tables as evert verify does, and publishes the rows that the log has otherwise or not at all, and a delete for each key that the log holds and its table does not. Rows without a key cannot be compared: they are published again. What happened to a row within the gap stays unknown.',
  },
] as const
