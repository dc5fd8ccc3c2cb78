/** Faults of brokers that the writer meets: its log transaction times out, the broker forgets it, or slows it down. */
import {
  alterClientQuotasV1,
  type Broker,
  Connection,
  describeProducersV0,
  describeTransactionsV0,
  produceV8,
} from '@platformatic/kafka'
import { Cluster } from '../../src/log/kafka/cluster.js'
import { answered, CODE, codesOf, isPassing } from '../../src/log/kafka/errors.js'
import { openKafkaLog } from '../../src/log/kafka/log.js'
import type { KafkaOptions } from '../../src/log/kafka/options.js'
import type { VersionedRequest } from '../../src/log/kafka/requests.js'
import type { Log, LogWriter } from '../../src/log/log.js'
import { type KafkaCluster, startKafka } from '../support/kafka.js'
import { kafkaOptions } from '../support/kafka-options.js'
import { describeKafka, uniqueName } from '../support/servers.js'
import { encode, event } from './records.js'

const TRANSACTIONAL_ID_NOT_FOUND = 105
const CHECKED_OFTEN = {
  'transaction.abort.timed.out.transaction.cleanup.interval.ms': '500',
  'transaction.remove.expired.transaction.cleanup.interval.ms': '500',
  'producer.id.expiration.check.interval.ms': '500',
}
const signal = new AbortController().signal
let kafka: KafkaCluster
let name: string
let topic: string
const closers: (() => Promise<void>)[] = []

beforeEach(() => {
  name = uniqueName('pipeline')
  topic = `${name}.public.item`
})

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function start(settings: Readonly<Record<string, string>> = {}): Promise<void> {
  kafka = await startKafka({ settings })
  closers.push(() => kafka.stop())
}

async function openLog(over: Partial<KafkaOptions> = {}): Promise<Log> {
  const log = await openKafkaLog(kafkaOptions(kafka.bootstrap, over))
  closers.push(() => log.close())
  return log
}

async function openWriter(log: Log): Promise<LogWriter> {
  const writer = await log.openWriter({ name, signal })
  closers.push(() => writer.close())
  return writer
}

async function append(writer: LogWriter, key: string, end: { commit: boolean; value?: string }): Promise<void> {
  writer.sink.append(await writer.sink.topic({ name: topic, keyed: true }), encode(event(key, end.value ?? 'value')))
  await writer.append(writer.cut(), end.commit ? new Map([['at', Buffer.from(key)]]) : null)
}

async function keys(log: Log): Promise<(string | undefined)[]> {
  const found: (string | undefined)[] = []
  const { end } = await log.offsets(topic, 0)
  for await (const { key } of log.read({ topic, partition: 0, from: 0n, until: end, signal }))
    found.push(key?.toString())
  return found
}

/** Another client, for what evert does not ask. */
async function connect(): Promise<Connection> {
  const [host = '', port = ''] = kafka.bootstrap.split(':')
  const connection = new Connection('evert-test')
  await connection.connect(host, Number(port))
  closers.push(() => connection.close())
  return connection
}

/** Asks the coordinator until it says that; null stands for a transactional id that it does not know. */
async function untilState(wanted: (state: string | null) => boolean): Promise<void> {
  const connection = await connect()
  for (;;) {
    try {
      const { transactionStates } = await describeTransactionsV0.api.async(connection, [name])
      if (wanted(transactionStates[0]?.transactionState ?? null)) return
    } catch (error) {
      if (codesOf(error).includes(TRANSACTIONAL_ID_NOT_FOUND)) {
        if (wanted(null)) return
      } else if (!isPassing(error)) throw error
    }
  }
}

describeKafka('a log transaction that times out at the broker', () => {
  it('ends in an error that says which setting, where the writer itself took so long', async () => {
    await start(CHECKED_OFTEN)
    const log = await openLog({ transactionTimeoutMs: 3000 })
    const writer = await openWriter(log)
    await append(writer, 'aborted', { commit: false })
    await untilState((state) => state !== 'Ongoing')
    await expect(append(writer, 'late', { commit: true })).rejects.toMatchObject({
      code: 'TRANSACTION_TOO_LONG',
      hint: expect.stringContaining('--transaction-timeout'),
    })
    const next = await openWriter(log)
    await append(next, 'next', { commit: true })
    expect((await openWriter(log)).progress.get('at')?.toString()).toBe('next')
    expect(await keys(log)).toEqual(['next'])
  })

  // One that is killed may forget the marker of what it aborts: the next writer must see to it.
  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'ends in an error that is retried, where the time went into an outage of the brokers (%s)',
    async (kill) => {
      await start(CHECKED_OFTEN)
      const transactionTimeoutMs = 10_000
      const log = await openLog({ transactionTimeoutMs })
      const writer = await openWriter(log)
      await append(writer, 'aborted', { commit: false })
      const openedMs = performance.now()
      const [broker] = kafka.brokers
      await broker?.kill(kill)
      const pending = append(writer, 'late', { commit: false }).then(
        () => null,
        (error: unknown) => error,
      )
      while (performance.now() < openedMs + transactionTimeoutMs)
        await new Promise((resolve) => setTimeout(resolve, 50))
      await broker?.start()
      // The broker may take another batch before it looks for log transactions that are too old.
      let failure = await pending
      if (failure === null) {
        await untilState((state) => state !== 'Ongoing')
        failure = await append(writer, 'later', { commit: true }).catch((error: unknown) => error)
      }
      expect(failure).toMatchObject({ code: 'LOG_UNAVAILABLE', message: expect.stringContaining('were not available') })
      const next = await openWriter(log)
      expect(next.progress.size).toBe(0)
      await append(next, 'next', { commit: true })
      expect((await openWriter(log)).progress.get('at')?.toString()).toBe('next')
      expect(await keys(log)).toEqual(['next'])
    },
  )
})

describeKafka('a writer that a broker has forgotten', () => {
  it('goes on where only a partition has forgotten its sequence numbers', async () => {
    await start({ ...CHECKED_OFTEN, 'producer.id.expiration.ms': '1000' })
    const log = await openLog()
    const writer = await openWriter(log)
    for (const key of ['first', 'second']) await append(writer, key, { commit: true })
    const connection = await connect()
    for (;;) {
      const { topics } = await describeProducersV0.api.async(connection, [{ name: topic, partitionIndexes: [0] }])
      if (topics[0]?.partitions[0]?.activeProducers.length === 0) break
    }
    for (const key of ['third', 'fourth']) await append(writer, key, { commit: true })
    expect((await openWriter(log)).progress.get('at')?.toString()).toBe('fourth')
    expect(await keys(log)).toEqual(['first', 'second', 'third', 'fourth'])
  })

  it('ends in an error that is retried where its transactional id has expired, and the next one goes on', async () => {
    await start({ ...CHECKED_OFTEN, 'transactional.id.expiration.ms': '5000' })
    const log = await openLog()
    const writer = await openWriter(log)
    await append(writer, 'first', { commit: true })
    await untilState((state) => state === null)
    await expect(append(writer, 'lost', { commit: true })).rejects.toMatchObject({ code: 'LOG_UNAVAILABLE' })
    const next = await openWriter(log)
    expect(next.progress.get('at')?.toString()).toBe('first')
    await append(next, 'second', { commit: true })
    expect((await openWriter(log)).progress.get('at')?.toString()).toBe('second')
    expect(await keys(log)).toEqual(['first', 'second'])
  })
})

/** A client by which the coordinator never hears of one topic, and so writes no marker there: as when it takes the topic for deleted. */
class Forgetful extends Cluster {
  forgets = true
  /** The next log transaction is to wait for markers, and a connection is lost meanwhile. */
  losesAtBegin = false

  override async call<Arguments extends unknown[], Response>(
    broker: Broker,
    request: VersionedRequest<Arguments, Response>,
    ...parameters: Arguments
  ): Promise<Response> {
    if (this.losesAtBegin && request.name === 'AddPartitionsToTxn') {
      this.losesAtBegin = false
      this.lost()
      throw answered(CODE.concurrentTransactions)
    }
    if (this.forgets && request.name === 'AddPartitionsToTxn') {
      const [[transaction]] = parameters as unknown as [[{ topics: { name: string }[] }]]
      transaction.topics = transaction.topics.filter((one) => one.name !== topic)
    }
    return await super.call(broker, request, ...parameters)
  }

  loseConnection(): void {
    this.lost()
  }
}

describeKafka('a log transaction that ended without a marker in a partition', () => {
  it.each([
    ['is committed there by the next writer, if it was', true, ['first', 'left', 'last']],
    ['is aborted there by the next writer, if it was', false, ['first', 'last']],
  ])('%s', async (_, commit, seen) => {
    await start({ 'transaction.partition.verification.enable': 'false' })
    const log = await openLog()
    await append(await openWriter(log), 'first', { commit: true })
    const options = kafkaOptions(kafka.bootstrap)
    const forgetful = await openKafkaLog(options, () => new Forgetful(options))
    const writer = await openWriter(forgetful)
    const other = await writer.sink.topic({ name: `${name}.public.other`, keyed: true })
    writer.sink.append(other, encode(event('other', 'value')))
    await append(writer, 'left', { commit })
    await writer.close()
    await forgetful.close()
    expect(await keys(log)).toEqual(['first'])
    const next = await openWriter(log)
    expect(next.progress.get('at')?.toString()).toBe(commit ? 'left' : 'first')
    await append(next, 'last', { commit: true })
    await openWriter(log)
    expect(await keys(log)).toEqual(seen)
  })

  it.each([
    ['while there is nothing to be sent', 'nothing'],
    ['before the next one of its id, whose abort would be theirs too', 'lost before'],
    ['where a connection is lost while that one begins', 'lost at begin'],
  ])('is ended there again by its own writer %s', async (_, then) => {
    await start({ 'transaction.partition.verification.enable': 'false' })
    const log = await openLog()
    const options = kafkaOptions(kafka.bootstrap)
    const forgetful = new Forgetful(options)
    const its = await openKafkaLog(options, () => forgetful)
    closers.push(() => its.close())
    forgetful.forgets = false
    const writer = await its.openWriter({ name, signal })
    await append(writer, 'first', { commit: true })
    forgetful.forgets = true
    const other = await writer.sink.topic({ name: `${name}.public.other`, keyed: true })
    writer.sink.append(other, encode(event('other', 'value')))
    await append(writer, 'left', { commit: true })
    expect(await keys(log)).toEqual(['first'])
    forgetful.forgets = false
    // By the other id.
    writer.sink.append(other, encode(event('other', 'value')))
    await writer.append(writer.cut(), new Map())
    if (then === 'lost at begin') forgetful.losesAtBegin = true
    else forgetful.loseConnection()
    if (then === 'nothing') while ((await keys(log)).length < 2);
    else {
      await append(writer, 'aborted', { commit: false })
      await openWriter(log)
    }
    expect(await keys(log)).toEqual(['first', 'left'])
  })
})

describeKafka('a writer under a quota', () => {
  it('is slowed down by the broker, and delivers everything once and in order', async () => {
    await start()
    const connection = await connect()
    const log = await openLog()
    const writer = await openWriter(log)
    const quota = { key: 'producer_byte_rate', value: 50_000, remove: false } as const
    const everybody = { entityType: 'client-id', entityName: null } as const
    await alterClientQuotasV1.api.async(connection, [{ entities: [everybody], ops: [quota] }], false)
    // Uses the quota up for the next seconds: the writer has the same client id.
    const another = uniqueName('topic')
    await log.createTopics([{ name: another, keyed: false }])
    const first = { topic: another, partition: 0, value: Buffer.alloc(900_000) }
    const answer = await produceV8.api.async(connection, 1, 10_000, [first])
    expect(typeof answer === 'object' && answer.throttleTimeMs).toBeGreaterThan(0)
    const sent = Array.from({ length: 10 }, (_, index) => `record ${index}`)
    for (const key of sent) await append(writer, key, { commit: true, value: 'x'.repeat(20_000) })
    expect((await openWriter(log)).progress.get('at')?.toString()).toBe(sent.at(-1))
    expect(await keys(log)).toEqual(sent)
  })
})
