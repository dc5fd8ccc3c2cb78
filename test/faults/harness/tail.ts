/** Tail: a read_committed reader beside the run, which says when the first change after a moment became visible. */
import { Kafka, logLevel } from 'kafkajs'
import type { ConsumedRecord } from '../../support/independent-consumer.js'
import { kcatInstalled, tailWithKcat } from './kcat.js'

interface Waiter {
  readonly committedAfterMs: number
  readonly resolve: (visibleMs: number) => void
}

export class Tail {
  readonly #waiters = new Set<Waiter>()
  readonly #stop: () => void | Promise<void>

  constructor(bootstrap: string, topic: string) {
    const onRecord = (record: ConsumedRecord): void => this.#onRecord(record)
    this.#stop = kcatInstalled
      ? tailWithKcat(bootstrap, topic, onRecord)
      : tailWithKafkajs({ bootstrap, topic, onRecord })
  }

  /** When (Date.now()) a change became visible that was committed in the database after that moment. */
  async visible(committedAfterMs: number): Promise<number> {
    return await new Promise((resolve) => this.#waiters.add({ committedAfterMs, resolve }))
  }

  async stop(): Promise<void> {
    await this.#stop()
  }

  #onRecord({ value }: ConsumedRecord): void {
    const nowMs = Date.now()
    if (value === null || this.#waiters.size === 0) return
    const { op, source } = JSON.parse(value)
    if (op === 'r') return
    const committedMs = Number(source.ts_us) / 1000
    for (const waiter of this.#waiters) {
      if (committedMs <= waiter.committedAfterMs) continue
      this.#waiters.delete(waiter)
      waiter.resolve(nowMs)
    }
  }
}

function tailWithKafkajs(options: {
  readonly bootstrap: string
  readonly topic: string
  readonly onRecord: (record: ConsumedRecord) => void
}): () => Promise<void> {
  const { bootstrap, topic, onRecord } = options
  const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING, retry: { retries: 1000 } })
  const groupId = `tail-${process.pid}-${performance.now()}`
  const consumer = kafka.consumer({ groupId, readUncommitted: false, sessionTimeout: 6000, metadataMaxAge: 1000 })
  const begun = (async () => {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        const text = (bytes: Buffer | null): string | null => bytes?.toString() ?? null
        const { key, value, offset } = message
        onRecord({ topic, partition, offset: BigInt(offset), key: text(key), value: text(value), headers: {} })
      },
    })
  })()
  begun.catch(() => undefined)
  return async () => {
    await begun.catch(() => undefined)
    await consumer.disconnect()
  }
}
