/** What becomes of an event that is larger than its topic takes, as --large-values says. */
import { silentLogger } from '../src/base/logger.js'
import { parsePosition } from '../src/event/position.js'
import type { LargeValues } from '../src/event/transcoder.js'
import { openKafkaLog } from '../src/log/kafka/log.js'
import type { Log } from '../src/log/log.js'
import { readAll, startPipeline } from './support/pipeline.js'
import { describeKafka, freshDatabase, testKafka, type TestDatabase } from './support/servers.js'

/** Kafka's default for max.message.bytes is 1 MiB. */
const LARGE = `repeat('x', 1200000)`

describeKafka('an event that is too large for its topic', () => {
  let database: TestDatabase

  const openLog =
    (recordLimits: boolean): (() => Promise<Log>) =>
    () => {
      const [host = '', port = ''] = (testKafka() ?? '').split(',')[0]?.split(':') ?? []
      return openKafkaLog({
        brokers: [{ host, port: Number(port) }],
        clientId: 'evert-test',
        tls: null,
        sasl: null,
        topics: { partitions: 1, replicationFactor: 1, retention: 'compact' },
        compression: 'none',
        recordLimits,
        transactionTimeoutMs: 60_000,
        logger: silentLogger,
      })
    }

  beforeEach(async () => {
    database = await freshDatabase()
    await database.query(`create table item (id int primary key, small text, large text, larger text);
      alter table item alter large set storage external; alter table item alter larger set storage external`)
  })

  afterEach(async () => {
    await database.drop()
  })

  async function events(largeValues: LargeValues): Promise<Record<string, unknown>[]> {
    const pipeline = startPipeline(database, { openLog: openLog(true), largeValues })
    await pipeline.caughtUp()
    await database.query(`insert into item values (1, 'a', ${LARGE}, ${LARGE} || 'y')`)
    await database.query(`insert into item values (2, 'b', repeat('x', 900000), ${LARGE})`)
    await database.query(`alter table item replica identity full; update item set small = 'c' where id = 2`)
    await database.query(`insert into item values (3, 'd', 'fits', null)`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const log = await openLog(false)()
    const records = await readAll(log, `${database.name}.public.item`)
    await log.close()
    return records.map(({ value }) => JSON.parse(String(value)))
  }

  it('stops evert by default, before anything behind it is published', async () => {
    const pipeline = startPipeline(database, { openLog: openLog(false) })
    await pipeline.caughtUp()
    await database.query(`insert into item values (1, 'a', ${LARGE}, null)`)
    expect(await pipeline.ended).toMatchObject({
      code: 'RECORD_TOO_LARGE',
      hint: expect.stringMatching(/max\.message\.bytes.*--large-values/),
    })
  })

  it('is left out and told of with skip', async () => {
    const skipped: Parameters<LargeValues['onSkip']>[0][] = []
    const seen = await events({ omit: false, onSkip: (record) => void skipped.push(record) })
    expect(seen.map(({ after }) => (after as { id: number }).id)).toEqual([3])
    expect(skipped.map(({ table, bytes }) => [table.table, bytes > 1_200_000])).toEqual([
      ['item', true],
      ['item', true],
      ['item', true],
    ])
    const positions = skipped.map(({ position }) => position.commitLsn)
    const last = parsePosition((seen[0]!['source'] as { position: string }).position)
    expect(positions).toEqual([...new Set(positions)].toSorted())
    expect((positions.at(-1) ?? 0n) < (last?.commitLsn ?? 0n)).toBe(true)
  })

  it('goes without its largest values, and names them, with omit', async () => {
    const skipped: unknown[] = []
    const seen = await events({ omit: true, onSkip: (record) => void skipped.push(record) })
    expect(skipped).toEqual([])
    const shown = seen.map(({ op, before, after, omitted }) => {
      const { large, ...rest } = after as Record<string, string>
      return [
        op,
        before === null ? null : Object.keys(before as object),
        { ...rest, large: large?.length ?? null },
        omitted,
      ]
    })
    expect(shown).toEqual([
      ['c', null, { id: 1, small: 'a', large: null }, ['large', 'larger']],
      ['c', null, { id: 2, small: 'b', large: 900_000 }, ['larger']],
      ['u', ['id', 'small'], { id: 2, small: 'c', large: 900_000 }, ['large', 'larger']],
      ['c', null, { id: 3, small: 'd', large: 4, larger: null }, undefined],
    ])
  })

  it('leaves out a text that no event can hold before anything else, though another value is longer as Postgres writes it', async () => {
    await database.query('create table file (id int primary key, note text, body bytea)')
    const largeValues = { omit: true, onSkip: () => undefined }
    const pipeline = startPipeline(database, { openLog: openLog(true), largeValues })
    await pipeline.caughtUp()
    // In hex the bytes are 1.2 MB, in base64 0.8.
    await database.query(`insert into file values (1, repeat('x', 1100000), decode(repeat('00', 600000), 'hex'))`)
    await pipeline.caughtUp()
    expect(await pipeline.stop()).toBeUndefined()
    const log = await openLog(false)()
    const records = (await readAll(log, `${database.name}.public.file`)).map(({ value }) => JSON.parse(String(value)))
    await log.close()
    expect(records.map(({ after, omitted }) => [Object.keys(after), after.body.length, omitted])).toEqual([
      [['id', 'body'], 800_000, ['note']],
    ])
  })
})
