/**
 * Mutations: each breaks one guard of the sources, as a hurried hand might. The simulator must find every one of them; a guard whose
 * text has changed must be brought up to date here.
 */

export interface Mutation {
  readonly name: string
  readonly file: string
  /** Texts that stand in the file exactly once, and what becomes of them. */
  readonly changes: readonly (readonly [guard: string, broken: string])[]
  /** A seed from where it is soon found, so that the test is short; from the first, it takes hundreds. */
  readonly from?: number
  /** Found where nothing fails but brokers; elsewhere it is too rare. */
  readonly onlyBrokers?: boolean
}

const BRIDGE = 'src/bridge.ts'
const STREAM = 'src/postgres/replication-stream.ts'
const CHANGES = 'src/postgres/changes.ts'
const PRODUCER = 'src/log/kafka/transactional-producer.ts'
const ID = 'src/log/kafka/transactional-id.ts'
const LOG = 'src/log/kafka/log.ts'
const READER = 'src/log/kafka/reader.ts'

const APPEND = 'await writer.append(filled, progress.at(endLsn))'
const ACKNOWLEDGE = 'source.acknowledge(endLsn)'
const WHOLE = 'const whole = moved && !changes.midTransaction && !this.#parting'
const INIT = `    const response = await this.#ask((broker) =>
      this.#cluster.call(broker, initProducerId, this.#options.id, transactionTimeoutMs, id, epoch),
    )`
const SEND = `      await this.#producer.send(batches)
      this.#requireOpen()
      return { committed: progress === null ? null : this.#producer.end(true) }`
const TENDED = '      await this.#free\n      if (await this.#stopsBefore(this.#tending)) this.#signal.throwIfAborted()'
const FENCE = `        await producer.takeOver(async () => {
          const topics = await cluster.listTopics()
          return topics.map((topic) => topic.name).filter((topic) => isTopicOf(name, topic))
        })
        const entries = await entriesOf({ name, signal })`
const FAILED = `        broken.add(key)
        undelivered.add(entry)`

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'acknowledges before the append',
    file: BRIDGE,
    changes: [[APPEND, `source.acknowledge(endLsn)\n${APPEND}`]],
  },
  {
    name: 'does not wait for the append',
    file: BRIDGE,
    changes: [[APPEND, APPEND.replace('await ', 'void ') + '.catch(() => undefined)']],
  },
  {
    name: 'goes on after an append that failed',
    file: BRIDGE,
    changes: [[APPEND, APPEND + '.catch(() => undefined)']],
  },
  {
    name: 'acknowledges one byte more than the end LSN',
    file: BRIDGE,
    changes: [[ACKNOWLEDGE, 'source.acknowledge((endLsn + 1n) as typeof endLsn)']],
  },
  {
    name: 'acknowledges what a keepalive says',
    file: STREAM,
    changes: [['    changes.advance(walEnd)\n', '    changes.advance(walEnd)\n    this.#status.acknowledge(walEnd)\n']],
  },
  {
    name: 'skips the transaction whose commit record starts at the end LSN',
    file: CHANGES,
    changes: [['commitLsn < this.#options.from', 'commitLsn <= this.#options.from']],
  },
  {
    name: 'publishes transactions again that the log has',
    file: CHANGES,
    changes: [['commitLsn < this.#options.from', 'false']],
  },
  {
    name: 'publishes a message again that ended at the end LSN',
    file: CHANGES,
    changes: [['lsn <= this.#options.from', 'lsn < this.#options.from']],
  },
  {
    name: 'cuts in the middle of a transaction',
    file: STREAM,
    changes: [[WHOLE, 'const whole = moved']],
  },
  {
    name: 'commits a part of a large transaction',
    file: BRIDGE,
    changes: [
      ['writer.append(filled, null) // a part', 'writer.append(filled, progress.at(progress.state.endLsn)) // a part'],
    ],
  },
  {
    name: 'leaves transactions before a snapshot to its first rows',
    file: STREAM,
    changes: [['full || this.#reached || this.#waiting', 'full || this.#waiting']],
  },
  {
    name: 'calls a snapshot complete with its first rows',
    file: BRIDGE,
    changes: [['append(filled, running, commit)', "append(filled, 'complete', commit)"]],
  },
  {
    name: 'goes back to the LSN of a snapshot where the stream is further',
    file: BRIDGE,
    changes: [['options.lsn > progress.state.endLsn ? options.lsn : progress.state.endLsn', 'options.lsn']],
  },
  {
    name: 'takes the progress of a later batch',
    file: STREAM,
    changes: [
      [
        'this.#taken = { records: request.cut(), endLsn, commitLsn: changes.commitLsn }',
        'this.#taken = { records: request.cut(), get endLsn() { return whole ? changes.endLsn : null }, commitLsn: changes.commitLsn }',
      ],
    ],
  },
  {
    name: 'writes the progress in a log transaction of its own',
    file: LOG,
    changes: [
      [
        SEND,
        `await this.#producer.send(records.batches)
        if (entries !== null) {
          await this.#producer.end(true)
          await this.#producer.send(entries.batches)
          await this.#producer.end(true)
        }
        return { committed: null }`,
      ],
    ],
  },
  {
    name: 'commits before everything is sent',
    file: LOG,
    changes: [
      [
        SEND,
        `const sent = this.#producer.send(batches)
        const committed = progress === null ? null : this.#producer.end(true)
        await sent
        return { committed }`,
      ],
    ],
  },
  {
    name: 'reads the progress before it fences',
    file: LOG,
    changes: [[FENCE, 'const entries = await entriesOf({ name, signal })\nawait producer.takeOver(async () => [])']],
  },
  {
    name: 'goes on with the producer of before, and so aborts nothing',
    file: ID,
    changes: [
      [
        'const FIRST_RETRY_MS',
        'const kept = new Map<Cluster["options"]["logger"] | string, any>()\nconst FIRST_RETRY_MS',
      ],
      [
        INIT,
        `const place = this.#options.id + this.#cluster.options.clientId.slice(0, 5)\n${INIT.replace('await', 'kept.get(place) ?? await')}\nkept.set(place, response)`,
      ],
    ],
  },
  {
    name: 'fences nobody, with a transactional id for each start',
    file: PRODUCER,
    changes: [
      ['const MARKERS_LATE_MS', 'let starts = 0\nconst MARKERS_LATE_MS'],
      ['transactionalIds(options.id)', 'transactionalIds(`${options.id}-${starts++}`)'],
    ],
  },
  {
    name: 'keeps its epoch after a request that was not answered',
    onlyBrokers: true,
    file: PRODUCER,
    changes: [['if (id.unanswered) await id.init()', 'void 0']],
  },
  {
    name: 'begins while markers of its last log transaction are missing',
    onlyBrokers: true,
    file: PRODUCER,
    changes: [['    await this.#requireMarkers()\n    // One', '    // One']],
  },
  {
    name: 'writes markers again beside what it sends',
    onlyBrokers: true,
    from: 41_000,
    file: PRODUCER,
    changes: [[`    this.#busy = true\n    try {\n${TENDED}`, `${TENDED}\n    this.#busy = true\n    try {`]],
  },
  {
    name: 'takes markers for written where a broker was lost before the end',
    onlyBrokers: true,
    file: PRODUCER,
    changes: [['this.#losses = id.lossesAtBegin', 'this.#losses = this.#cluster.losses']],
  },
  {
    name: 'leaves records unseen where their markers are missing, until there is more to send',
    onlyBrokers: true,
    file: PRODUCER,
    changes: [['if (this.#busy || this.#ids', 'if (true || this.#ids']],
  },
  {
    name: 'aborts what a start finds without a marker',
    from: 1100,
    file: ID,
    changes: [["commit: state === 'PrepareCommit' || state === 'CompleteCommit'", 'commit: false']],
  },
  {
    name: 'commits before the log transaction before it',
    file: PRODUCER,
    changes: [['const before = commit ? this.#ended', 'const before = commit ? Promise.resolve()']],
  },
  {
    name: 'sends by an id whose last log transaction is still to be committed',
    file: PRODUCER,
    changes: [['await this.#free\n', '']],
  },
  {
    name: 'takes what is still to be committed for left open',
    from: 18000,
    file: PRODUCER,
    changes: [['if (this.#cluster.losses !== this.#losses) await this.#ended', '']],
  },
  {
    name: 'gives a sequence number again after a failed round',
    file: ID,
    changes: [[FAILED, `${FAILED}\n        this.#sequences.set(key, entry.records.readInt32BE(53))`]],
  },
  {
    name: 'sends a batch again under another sequence number',
    file: ID,
    changes: [
      ['import { EvertError }', "import { crc32c } from '@node-rs/crc32'\nimport { EvertError }"],
      [
        FAILED,
        `${FAILED}
        const next = this.#sequences.get(key) ?? 0
        entry.records.writeInt32BE(next, 53)
        entry.records.writeUInt32BE(crc32c(entry.records.subarray(21)), 17)
        this.#sequences.set(key, next + entry.records.readInt32BE(57))`,
      ],
    ],
  },
  {
    name: 'takes a partition that is missing from a response for delivered',
    file: ID,
    changes: [
      ['if (code === CODE.none || code', 'if ((code === undefined && error === null) || code === CODE.none || code'],
    ],
  },
  {
    name: 'takes a lost response for an answer',
    file: ID,
    changes: [['if (code === CODE.none || code', 'if (code === undefined || code === CODE.none || code']],
  },
  {
    name: 'sends the rest of a failed round first',
    file: ID,
    changes: [
      [
        'return { left: batches.filter((batch) => undelivered.has(batch)), failure }',
        'return { left: batches.filter((batch) => undelivered.has(batch)).toReversed(), failure }',
      ],
    ],
  },
  {
    name: 'shows aborted records to the reader of the progress',
    file: READER,
    changes: [['visible: !(batch.isTransactional && aborting.has(batch.producerId))', 'visible: true']],
  },
  {
    name: 'forgets all aborted transactions of a producer but one',
    file: READER,
    changes: [
      [
        'result.abortedTransactions.toSorted(',
        '[...new Map(result.abortedTransactions.map((of) => [of.producerId, of])).values()].toSorted(',
      ],
    ],
  },
]
