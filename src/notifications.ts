/** Notifications: what happens to a pipeline, for machines; on the topic `<name>.notification`, in the log transaction that goes on. */
import { encodedRecord } from './event/record.js'
import { notificationTopic } from './event/topic-name.js'
import type { LogWriter } from './log/log.js'

interface Named {
  readonly schema: string
  readonly table: string
}

/** Documented in docs/events.md. LSNs are texts such as `0/16B3748`. */
export type Notification =
  | {
      /** Changes are gone, and all rows are published again. */
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
  | ({ readonly kind: 'snapshot-table'; readonly lsn: string; readonly rows: number } & Named)
  | { readonly kind: 'snapshot-complete'; readonly lsn: string; readonly rows: number }
  /** The one that was under way when evert ended: another one follows. */
  | { readonly kind: 'snapshot-interrupted'; readonly lsn: string }

/** Tells by appending to the sink: what is told commits with what is published before and after it. */
export async function notifier(
  { sink }: Pick<LogWriter, 'sink'>,
  pipeline: string,
): Promise<(notification: Notification) => void> {
  const topic = await sink.topic({ name: notificationTopic(pipeline), keyed: true })
  return (notification) => {
    const { kind } = notification
    const lsn = notification.kind === 'gap' ? notification.to.lsn : notification.lsn
    const of = notification.kind === 'snapshot-table' ? { schema: notification.schema, table: notification.table } : {}
    const [key, value] = [JSON.stringify({ kind, lsn, ...of }), JSON.stringify(notification)].map((text) =>
      Buffer.from(text),
    )
    sink.append(topic, encodedRecord({ key: key!, value: value!, timestampMs: Date.now() }))
  }
}
