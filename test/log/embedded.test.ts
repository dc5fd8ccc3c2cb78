/** The embedded log: the contract, and what is its own: other processes, kill -9, full disks, foreign directories. */
import { type RootDatabase, open } from 'lmdb'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import type { Log, LogWriter } from '../../src/log/log.js'
import { CompiledProgram } from './child.js'
import { CONTRACT_PARTITIONS, logContract } from './contract.js'
import { encode, event } from './records.js'

let directory: string
const topics = { partitions: CONTRACT_PARTITIONS }
const signal = new AbortController().signal

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert.embedded-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

logContract('the embedded log', { open: (options) => openEmbeddedLog({ directory, topics, ...options }) })

/** The environment as LMDB has it. */
async function inspect<T>(look: (database: RootDatabase<Buffer, Buffer>) => T): Promise<T> {
  const database = open<Buffer, Buffer>({
    path: directory,
    noSubdir: false,
    encoding: 'binary',
    keyEncoding: 'binary',
    overlappingSync: false,
  })
  try {
    database.resetReadTxn()
    return look(database)
  } finally {
    await database.close()
  }
}

const storedBatches = (): Promise<number> =>
  inspect((database) => database.getKeysCount({ start: Buffer.from('b'), end: Buffer.from('c') }))
const lastTransaction = (): Promise<number> =>
  inspect((database) => (database.getStats() as { lastTxnId: number }).lastTxnId)

async function append(writer: LogWriter, value: string, progress: ReadonlyMap<string, Buffer> | null): Promise<void> {
  writer.sink.appendToAll(await writer.sink.topic({ name: 'a', keyed: true }), encode(event('k', value)))
  await writer.append(writer.cut(), progress)
}

async function read(log: Log, topic: string, partition: number): Promise<string[]> {
  const values: string[] = []
  const { end } = await log.offsets(topic, partition)
  for await (const record of log.read({ topic, partition, from: 0n, until: end, signal })) {
    values.push(String(record.value).trim())
  }
  return values
}

describe('a log transaction of the embedded log', () => {
  it('is one LMDB transaction where it is one append', async () => {
    const log = await openEmbeddedLog({ directory, topics })
    const writer = await log.openWriter({ name: 'p', signal })
    await append(writer, 'first', new Map([['end', Buffer.from('1')]]))
    const before = await lastTransaction()
    await append(writer, 'second', new Map([['end', Buffer.from('2')]]))
    expect(await lastTransaction()).toBe(before + 1)
    await writer.close()
    await log.close()
  })

  it('takes no room any more once it was aborted', async () => {
    const log = await openEmbeddedLog({ directory, topics })
    const writer = await log.openWriter({ name: 'p', signal })
    await append(writer, 'kept', new Map())
    await append(writer, 'aborted', null)
    expect(await storedBatches()).toBe(6)
    await writer.close()
    expect(await storedBatches()).toBe(3)
    await log.close()
  })

  it('on a partition where another pipeline has one open fails, naming that pipeline', async () => {
    const log = await openEmbeddedLog({ directory, topics })
    const first = await log.openWriter({ name: 'first', signal })
    const second = await log.openWriter({ name: 'second', signal })
    await append(first, 'a', null)
    await expect(append(second, 'b', new Map())).rejects.toMatchObject({
      code: 'LOG_UNAVAILABLE',
      message: expect.stringContaining('pipeline "first"'),
    })
    await append(first, 'c', new Map())
    expect(await read(log, 'a', 0)).toEqual(['a', 'c'])
    await first.close()
    await second.close()
    await log.close()
  })

  it('into a topic that was deleted meanwhile fails', async () => {
    const log = await openEmbeddedLog({ directory, topics })
    const writer = await log.openWriter({ name: 'p', signal })
    await append(writer, 'a', new Map())
    await log.deleteTopics(['a'])
    await expect(append(writer, 'b', new Map())).rejects.toMatchObject({ code: 'TOPIC_MISSING' })
    expect(await storedBatches()).toBe(0)
    await log.close()
  })
})

describe('a reader of the embedded log', () => {
  it('ends when its log is closed', async () => {
    const log = await openEmbeddedLog({ directory, topics })
    await log.createTopics([{ name: 'a', keyed: true }])
    const next = log.read({ topic: 'a', partition: 0, from: 0n, signal })[Symbol.asyncIterator]().next()
    await log.close()
    expect((await next).done).toBe(true)
  })

  it('fails naming topic, partition and offset where a stored batch was damaged', async () => {
    const log = await openEmbeddedLog({ directory, topics })
    const writer = await log.openWriter({ name: 'p', signal })
    await append(writer, 'a', new Map())
    await writer.close()
    await inspect((database) => {
      const batches = [...database.getRange({ start: Buffer.from('b'), end: Buffer.from('c') })]
      for (const { key, value } of batches) {
        const damaged = Buffer.from(value)
        damaged[60] = 9
        database.putSync(key, damaged)
      }
    })
    await expect(read(log, 'a', 2)).rejects.toMatchObject({
      code: 'LOG_PROTOCOL',
      message: expect.stringContaining('offset 0 of topic "a" partition 2'),
    })
    await log.close()
  })
})

describe('other processes', () => {
  let program: CompiledProgram
  beforeAll(() => {
    program = new CompiledProgram('test/log/embedded-writer.ts')
  })
  afterAll(() => program.remove())

  it('are followed while they write, and leave nothing half when they are killed', async () => {
    const log = await openEmbeddedLog({ directory, topics })
    await log.createTopics([{ name: 'a', keyed: true }])
    let committed = 0
    for (const kill of [3, 4, 9]) {
      const child = program.start([directory, 'a'])
      const from = (await log.offsets('a', 0)).end
      const follower = log.read({ topic: 'a', partition: 0, from, signal })
      for await (const record of follower) if (Number(record.value) === kill) break
      await child.kill()
      // Killed as it committed, LMDB may show readers the state before until the next writer has come.
      const writer = await log.openWriter({ name: 'killed', signal })
      await writer.close()
      const last = Number(writer.progress.get('number'))
      expect(last).toBeGreaterThanOrEqual(kill)
      committed += last
      for (let partition = 0; partition < CONTRACT_PARTITIONS; partition++) {
        const values = await read(log, 'a', partition)
        expect(values).toHaveLength(3 * committed)
        expect(values.at(-1)).toBe(String(last))
      }
    }
    const writer = await log.openWriter({ name: 'killed', signal })
    expect(await storedBatches()).toBe(CONTRACT_PARTITIONS * 3 * committed)
    await append(writer, 'afterwards', new Map())
    expect((await read(log, 'a', 1)).at(-1)).toBe('afterwards')
    await writer.close()
    await log.close()
  })

  it('stop with LOG_DISK_FULL when the disk takes no more, and the log goes on where there is room again', async () => {
    const child = program.start([directory, 'a', '300000'], { fileLimitBlocks: 40_000 })
    const lines: string[] = []
    for (let line = await child.lines.next(); line.done !== true; line = await child.lines.next())
      lines.push(line.value)
    await child.exited()
    expect(lines.at(-1)).toBe('LOG_DISK_FULL')
    const committed = lines.length - 1
    expect(committed).toBeGreaterThan(0)

    const log = await openEmbeddedLog({ directory, topics })
    const writer = await log.openWriter({ name: 'killed', signal })
    expect(String(writer.progress.get('number'))).toBe(String(committed))
    expect(await storedBatches()).toBe(CONTRACT_PARTITIONS * 3 * committed)
    await append(writer, 'afterwards', new Map())
    expect(await read(log, 'a', 2)).toEqual([
      ...Array.from({ length: committed }, (_, i) => [i + 1, i + 1, i + 1])
        .flat()
        .map(String),
      'afterwards',
    ])
    await writer.close()
    await log.close()
  })
})

function opening(path: string, create = true): Promise<Log> {
  return openEmbeddedLog({ directory: path, topics, create })
}

describe('opening an embedded log', () => {
  const notALog = expect.objectContaining({ code: 'LOG_FORMAT' })

  it('makes a directory that is not there, unless told not to', async () => {
    const path = join(directory, 'new')
    await expect(opening(path, false)).rejects.toEqual(notALog)
    await (await opening(path)).close()
    await (await opening(path, false)).close()
  })

  it('takes an empty directory, also a fresh file system', async () => {
    mkdirSync(join(directory, 'lost+found'))
    await (await opening(directory)).close()
  })

  it('leaves a directory of something else alone', async () => {
    writeFileSync(join(directory, 'letter.txt'), 'dear')
    await expect(opening(directory)).rejects.toEqual(notALog)
    await expect(opening(join(directory, 'letter.txt'))).rejects.toEqual(notALog)
    expect(readFileSync(join(directory, 'letter.txt'), 'utf8')).toBe('dear')
  })

  it('refuses a file that is not LMDB’s', async () => {
    writeFileSync(join(directory, 'data.mdb'), 'something else '.repeat(1000))
    await expect(opening(directory)).rejects.toEqual(notALog)
  })

  it('refuses an LMDB environment of another program', async () => {
    await inspect((database) => database.putSync(Buffer.from('theirs'), Buffer.from('data')))
    await expect(opening(directory)).rejects.toEqual(notALog)
  })

  it('refuses a log of another format version, naming both', async () => {
    await inspect((database) => database.putSync(Buffer.from('f'), Buffer.from('evert log 2')))
    await expect(opening(directory)).rejects.toMatchObject({
      code: 'LOG_FORMAT',
      message: expect.stringMatching(/"evert log 2".*"evert log 1"/),
    })
  })
})

describe('the file of an embedded log', () => {
  const file = (): string => join(directory, 'data.mdb')
  const COMMITS = 12

  /** A log of that many commits, and its file as it was before the last of them. */
  async function written(): Promise<{ readonly before: Buffer; readonly after: Buffer }> {
    const log = await openEmbeddedLog({ directory, topics })
    const writer = await log.openWriter({ name: 'torn', signal })
    for (let i = 1; i < COMMITS; i++)
      await append(writer, `${i}`.padEnd(i * 700), new Map([['number', Buffer.from(`${i}`)]]))
    const before = readFileSync(file())
    await append(writer, `${COMMITS}`.padEnd(COMMITS * 700), new Map([['number', Buffer.from(`${COMMITS}`)]]))
    await writer.close()
    await log.close()
    return { before, after: readFileSync(file()) }
  }

  it('may be torn in a write that was under way, at any byte: the log is as it was before, and goes on', async () => {
    const { before, after } = await written()
    const metaBytes = 2 * 4096 // two pages that are written last, and say which pages count
    for (const cut of cuts(metaBytes, after.length)) {
      // The pages of the last transaction are there up to the cut; what says that they count is not.
      const torn = Buffer.concat([before.subarray(0, metaBytes), after.subarray(metaBytes, cut)])
      const rest = before.subarray(torn.length)
      writeFileSync(file(), Buffer.concat([torn, rest]))
      const log = await openEmbeddedLog({ directory, topics })
      const writer = await log.openWriter({ name: 'torn', signal })
      expect(String(writer.progress.get('number'))).toBe(String(COMMITS - 1))
      expect(await read(log, 'a', 1)).toEqual(Array.from({ length: COMMITS - 1 }, (_, i) => String(i + 1)))
      await append(writer, 'afterwards', new Map())
      expect((await read(log, 'a', 2)).at(-1)).toBe('afterwards')
      await writer.close()
      await log.close()
    }
  })

  it('that was cut short is refused, wherever, and never read past its end', async () => {
    const { after } = await written()
    for (const cut of cuts(1, after.length - 1)) {
      writeFileSync(file(), after.subarray(0, cut))
      await expect(openEmbeddedLog({ directory, topics })).rejects.toMatchObject({ code: 'LOG_FORMAT' })
    }
  })

  /** Places all over a file, none of them at a page's edge by design. */
  function cuts(from: number, to: number): number[] {
    return Array.from({ length: 25 }, (_, i) => from + Math.floor(((to - from) * (i + 0.37)) / 25))
  }
})
