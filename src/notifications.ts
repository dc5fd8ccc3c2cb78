/** Notifications: what happens to a pipeline, for machines; on the topic `<name>.notification`, in the log transaction that goes on. */
import { encodedRecord } from './event/record.js'
import { lastingTopic, notificationTopic } from './event/topic-name.js'
import type { Log, LogWriter } from './log/log.js'
import type { BackfillNews } from './postgres/backfill-state.js'

interface Named {
  readonly schema: string
  readonly table: string
}

interface SnapshotCounts {
  /** That the snapshot has. */
  readonly rows: number
  /** Of these, after a gap: what the log had otherwise or not at all. */
  readonly published?: number
  /** After a gap: keys that only the log had. */
  readonly deletes?: number
}

/** Documented in docs/events.md. LSNs are texts such as `0/16B3748`. */
export type Notification =
  | {
      /** Changes are gone, and a snapshot follows, of the rows that differ. */
      readonly kind: 'gap'
      readonly code: string
      readonly message: string
      /** Null where the progress is gone. */
      readonly from: { readonly lsn: string; readonly writtenAt: string | null } | null
      readonly to: { readonly lsn: string; readonly ts_us: number }
    }
  | {
      readonly kind: 'snapshot-started'
      readonly lsn: string
      readonly tables: number
      readonly estimatedRows: number
      /** On disk. */
      readonly bytes: number
    }
  | ({ readonly kind: 'snapshot-table'; readonly lsn: string } & SnapshotCounts & Named)
  | ({ readonly kind: 'snapshot-complete'; readonly lsn: string } & SnapshotCounts)
  /** The one that was under way when evert ended: another one follows. */
  | { readonly kind: 'snapshot-interrupted'; readonly lsn: string }
  | BackfillNews

/** Tells by appending to the sink: what is told commits with what is published before and after it. */
export async function notifier(
  { sink }: Pick<LogWriter, 'sink'>,
  pipeline: string,
): Promise<(notification: Notification) => void> {
  const topic = await sink.topic(lastingTopic(notificationTopic(pipeline)))
  return (notification) => {
    const [key, value] = [JSON.stringify(keyOf(notification)), JSON.stringify(notification)].map((text) =>
      Buffer.from(text),
    )
    sink.append(topic, encodedRecord({ key: key!, value: value!, timestampMs: Date.now() }))
  }
}

/** What it is about: of the same, the last one counts. */
function keyOf(notification: Notification): object {
  const { kind } = notification
  const of = 'table' in notification ? { schema: notification.schema, table: notification.table } : {}
  if ('id' in notification) return { kind, id: notification.id, ...of }
  return { kind, lsn: notification.kind === 'gap' ? notification.to.lsn : notification.lsn, ...of }
}

/** What was told from those offsets on (by partition; where there is none, from the beginning) until now; they are moved along. */
export async function* notificationsFrom(
  log: Log,
  pipeline: string,
  { from, signal }: { readonly from: Map<number, bigint>; readonly signal: AbortSignal },
): AsyncGenerator<Notification> {
  const topic = notificationTopic(pipeline)
  for (const [partition, until] of await notificationEnds(log, pipeline)) {
    for await (const { value } of log.read({ topic, partition, from: from.get(partition) ?? 0n, until, signal }))
      if (value !== null) yield JSON.parse(value.toString()) as Notification
    from.set(partition, until)
  }
}

/** By partition, the offset of what is told next. */
export async function notificationEnds(log: Log, pipeline: string): Promise<Map<number, bigint>> {
  const topic = notificationTopic(pipeline)
  const partitions = (await log.topics(topic)).find(({ name }) => name === topic)?.partitions ?? 0
  const ends = new Map<number, bigint>()
  for (let partition = 0; partition < partitions; partition++)
    ends.set(partition, (await log.offsets(topic, partition)).end)
  return ends
}
