/** The commands as somebody types them: real processes, a real Postgres, the embedded log. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../../src/cli/local-postgres.js'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import { killAll, runCli, startCli } from '../support/cli.js'
import { freshDatabase, type TestDatabase } from '../support/servers.js'

let database: TestDatabase
let directory: string

beforeEach(async () => {
  database = await freshDatabase()
  directory = mkdtempSync(join(tmpdir(), 'evert-cli-'))
  await database.query(
    `create table cart (id int primary key, quantity bigint); insert into cart values (1, 9007199254740993)`,
  )
})

afterEach(async () => {
  await killAll()
  await database.drop()
  rmSync(directory, { recursive: true, force: true })
})

const last = (text: string): unknown => JSON.parse(text.trim().split('\n').at(-1) ?? '')

describe('evert', () => {
  it('has help for every command, and a version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
    expect(await runCli(['--version'])).toMatchObject({ code: 0, stdout: `${version}\n` })
    expect((await runCli(['--help'])).stdout).toMatch(/evert run .*evert init .*evert tail .*evert drop .*evert demo /s)
    for (const command of ['run', 'init', 'status', 'snapshot', 'tail', 'schema', 'drop', 'demo']) {
      const { code, stdout } = await runCli([command, '--help'])
      expect({ code, stdout }).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/--log-level[^]*Examples:\s+evert/),
      })
    }
  })

  it('has Node load none of its HTTP, which takes long, where nobody listens', () => {
    const index = new URL('../../dist/js/index.js', import.meta.url).href
    const script = `await import('${index}'); console.log(process.moduleLoadList.filter((name) => name.includes('http')))`
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })).toBe('[]\n')
  })

  it.each([
    [['rum'], 'OPTION_UNKNOWN', 'did you mean evert run?'],
    [[], 'OPTION_MISSING', 'run | init'],
    [['run', 'extra'], 'OPTION_UNKNOWN', 'evert run --help'],
    [['run', '--', 'help'], 'OPTION_UNKNOWN', 'evert run --help'],
    [['run', '--tabels', 'x'], 'OPTION_UNKNOWN', 'did you mean --tables?'],
    [['run', '--source', 'mysql://x'], 'OPTION_INVALID', 'postgres://'],
    [['run', '--source', 'postgres://localhost/shop'], 'OPTION_MISSING', 'kafka://'],
    [
      ['run', '--source', 'postgres://localhost/shop', '--log', 'localhost:9092'],
      'OPTION_INVALID',
      'kafka://localhost',
    ],
    [['tail'], 'OPTION_MISSING', 'kafka://'],
    [['tail', '--log', 'kafka://a:1', '--kafka-username', 'x'], 'OPTION_MISSING', '--kafka-sasl-mechanism'],
  ])('refuses %j with exit code 2', async (parameters, code, hint) => {
    const result = await runCli(parameters)
    expect(result).toMatchObject({ code: 2, stdout: '' })
    expect(last(result.stderr)).toMatchObject({ code, hint: expect.stringContaining(hint) })
  })

  it('shows how far a pipeline is, before it was there, under way and afterwards', async () => {
    const log = join(directory, 'log')
    const common = ['--source', database.url, '--log', log]
    const status = async (parameters: readonly string[] = common): Promise<unknown> => {
      const { code, stdout } = await runCli(['status', ...parameters, '--json'])
      return { code, ...JSON.parse(stdout) }
    }
    expect(await status(['--source', database.url])).toEqual({
      code: 0,
      pipeline: database.name,
      slot: null,
      log: null,
      snapshot: null,
      backfills: [],
    })
    const daemon = startCli(['run', ...common])
    await daemon.says('"streaming"')
    const running = await status()
    expect(running).toMatchObject({
      code: 0,
      slot: { name: database.name, holder: expect.stringMatching(/^pid \d+ \(evert/), walStatus: 'reserved' },
      log: { endLsn: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/), timeline: 1 },
      snapshot: { state: 'complete', tables: 1, done: [{ schema: 'public', table: 'cart', rows: 1 }] },
    })
    const again = await runCli(['snapshot', ...common, '--id', 'again', '--json'])
    expect(
      again.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      { kind: 'backfill-started', id: 'again', tables: 1 },
      { kind: 'backfill-table', id: 'again', schema: 'public', table: 'cart', rows: 1 },
      { kind: 'backfill-complete', id: 'again', tables: 1, rows: 1 },
    ])
    const refused = await runCli(['snapshot', ...common, '--id', 'nothing', '--tables', 'nothing'])
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('BACKFILL_REFUSED') })
    expect(await runCli(['snapshot', ...common, '--control', 'pause'])).toMatchObject({ code: 2 })
    expect(await runCli(['snapshot', ...common, '--where', 'cart: true'])).toMatchObject({ code: 2 })
    daemon.process.kill('SIGTERM')
    await daemon.ended
    // Nobody refuses it: it waits in the WAL.
    expect(await runCli(['snapshot', '--source', database.url, '--id', 'later'])).toMatchObject({
      code: 0,
      stdout: 'later: asked\n',
    })
    expect(await status()).toMatchObject({ slot: { holder: null } })
    const { stdout } = await runCli(['status', ...common])
    expect(stdout).toMatch(
      /^pipeline {2}\S+\nslot {6}"\S+", confirmed up to \S+, [\d.]+ \w+ behind the server\n {10}nobody reads it\nlog {7}ends at \S+, written \S+\nsnapshot {2}complete at \S+, 1 of 1 tables done, 1 of about \d+ rows\n$/,
    )
  })

  it('runs, stops with 0 at SIGTERM, goes on, and shows its log as JSON', async () => {
    const log = join(directory, 'log')
    const parameters = ['run', '--source', database.url, '--log', log, '--partitions', '2']
    const first = startCli(parameters)
    await first.says('"streaming"')
    first.process.kill('SIGTERM')
    expect(await first.ended).toMatchObject({ code: 0, stdout: '' })

    await database.query(`update cart set quantity = quantity + 1; delete from cart`)
    const second = startCli(parameters)
    await second.says('"streaming"')
    const followed = startCli(['tail', '--log', log, '--json', '--from', 'beginning'])
    const lines = async (count: number): Promise<Record<string, unknown>[]> => {
      while (followed.stdout().split('\n').length <= count) await new Promise((resolve) => setTimeout(resolve, 20))
      return followed
        .stdout()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
    }
    const records = await lines(4)
    expect(followed.stdout()).toContain('"quantity":9007199254740993')
    expect(records.map(({ value }) => (value as { op: string } | null)?.op ?? null)).toEqual(['r', 'u', 'd', null])
    expect(Object.keys(records[0] ?? {})).toEqual([
      'topic',
      'partition',
      'offset',
      'timestamp',
      'key',
      'value',
      'headers',
    ])
    expect(records[0]).toMatchObject({ topic: `${database.name}.public.cart`, key: { id: 1 }, headers: {} })

    await database.query(`create table late (id int primary key)`)
    await database.query(`insert into cart values (2, 2)`)
    expect((await lines(5))[4]).toMatchObject({ key: { id: 2 }, value: { op: 'c' } })
    followed.process.kill('SIGINT')
    expect(await followed.ended).toMatchObject({ code: 0 })
    second.process.kill('SIGINT')
    expect(await second.ended).toMatchObject({ code: 0 })

    const tail = async (...more: string[]): Promise<string[]> => {
      const { code, stdout } = await runCli(['tail', '--log', log, '--exit-at-end', ...more])
      expect(code).toBe(0)
      return stdout.split('\n').filter((line) => line !== '')
    }
    expect(await tail('--table', 'cart', '--json', '--operation', 'u,d')).toHaveLength(2)
    expect(await tail('--key', '{ "id": 2 }', '--json')).toHaveLength(1)
    const deletion = records[2]?.['value'] as { readonly source: { readonly position: string } }
    expect(await tail('--from', deletion.source.position, '--json')).toHaveLength(3)
    expect((await tail()).join('\n')).toMatch(/row +public\.cart \{"id":1\}[^]*update[^]*delete[^]*insert/)
    expect(await runCli(['tail', '--log', log, '--table', 'public.card', '--exit-at-end'])).toMatchObject({ code: 1 })
  })

  it('shows no password in its parameters, and none in its logs', async () => {
    const url = new URL(database.url)
    url.password = 'hunter2'
    const running = startCli(['run', '--source', url.href, '--log', join(directory, 'log'), '--log-level', 'debug'])
    await running.says('"streaming"')
    const shown = readFileSync(`/proc/${running.process.pid}/cmdline`, 'utf8')
    expect(shown).toContain('evert run')
    expect(shown).not.toContain('hunter2')
    running.process.kill('SIGTERM')
    expect((await running.ended).stderr).not.toContain('hunter2')
  })

  it('stops with 0 while its slot waits for a transaction, and leaves no slot', async () => {
    const session = await database.client()
    await session.query('begin')
    await session.query('insert into cart values (9, 9)')
    const running = startCli(['run', '--source', database.url, '--log', join(directory, 'log')])
    await running.says('waits for transactions')
    running.process.kill('SIGTERM')
    expect(await running.ended).toMatchObject({ code: 0 })
    await session.query('commit')
    const slots = `select active from pg_replication_slots where slot_name = '${database.name}'`
    while ((await database.query(slots)).length > 0) await database.query('select pg_sleep(0.05)')
  })

  it('stops with 0 while no broker answers', async () => {
    const kafka = `kafka://127.0.0.1:${await freePort()}`
    const running = startCli(['run', '--source', database.url, '--log', kafka])
    await running.says('"starting"')
    // It is in the middle of asking; when exactly does not matter.
    await new Promise((resolve) => setTimeout(resolve, 1500))
    running.process.kill('SIGTERM')
    const { code, stderr } = await running.ended
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('"stopped"') })
  })

  it('waits as a standby while another one of the same name runs, and takes over', async () => {
    const parameters = ['run', '--source', database.url, '--log', join(directory, 'log')]
    const first = startCli(parameters)
    await first.says('"streaming"')
    const second = startCli(parameters)
    await second.says('standing by')
    expect(second.stderr()).toMatch(/"holder":"pid \d+ \(evert/)
    first.process.kill('SIGKILL')
    await second.says('"streaming"')
    second.process.kill('SIGTERM')
    expect(await second.ended).toMatchObject({ code: 0 })
  })

  it('makes what it needs with init, publishes from there, and removes it with drop', async () => {
    const log = join(directory, 'log')
    const made = await runCli(['init', '--source', database.url, '--json'])
    expect(made.code).toBe(0)
    expect(
      JSON.parse(made.stdout).steps.map(({ step, state }: { step: string; state: string }) => [step, state]),
    ).toEqual([
      ['server', 'found'],
      ['publication', 'created'],
      ['select', 'found'],
      ['slot', 'created'],
    ])
    await database.query('insert into cart values (2, 2)')
    const running = startCli(['run', '--source', database.url, '--log', log])
    await running.says('"streaming"')
    expect(await runCli(['drop', '--source', database.url, '--log', log, '--yes'])).toMatchObject({ code: 69 })
    running.process.kill('SIGTERM')
    await running.ended
    const { stdout } = await runCli(['tail', '--log', log, '--exit-at-end', '--json'])
    const rows = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).value)
    // The insert came after the slot and before the snapshot: the stream has it, and the snapshot too.
    expect(rows.map(({ op, after }) => [op, after.id])).toEqual([
      ['c', 2],
      ['r', 1],
      ['r', 2],
    ])

    const opened = await openEmbeddedLog({ directory: log, topics: { partitions: 1 } })
    const another = `${database.name}.search`
    await opened.createTopics([{ name: another, keyed: false }])
    const shown = await runCli(['drop', '--source', database.url, '--log', log, '--topics'])
    expect(shown).toMatchObject({ code: 2, stdout: expect.stringMatching(/slot[^]*publication[^]*topic[^]*progress/) })
    const dropped = await runCli(['drop', '--source', database.url, '--log', log, '--topics', '--yes'])
    expect(dropped.code).toBe(0)
    expect(await database.query(`select 1 from pg_replication_slots where slot_name = '${database.name}'`)).toEqual([])
    expect(await database.query('select 1 from pg_publication')).toEqual([])
    expect(await opened.topics(database.name)).toMatchObject([{ name: another }])
    await opened.close()
    const nothing = await runCli(['drop', '--source', database.url, '--log', log, '--yes'])
    expect(nothing).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing') })
  })

  it('says with init which tables take no more updates', async () => {
    await database.query('create table heap (id int)')
    const { code, stdout } = await runCli(['init', '--source', database.url])
    expect({ code, stdout }).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/publication.*\n +"public"\."heap": tables without a replica identity/),
    })
    await database.query('drop table heap')
    await runCli(['drop', '--source', database.url, '--yes'])
  })

  it('plays the demo, finds nothing missing, repeated or out of order, and cleans up', async () => {
    // The server's user must get through.
    chmodSync(directory, 0o755)
    const { code, stdout } = await runCli(['demo', '--seconds', '2', '--json'], { TMPDIR: directory })
    expect({ code, summary: last(stdout) }).toMatchObject({
      code: 0,
      summary: { missing: 0, repeated: 0, outOfOrder: 0 },
    })
    expect((last(stdout) as { transactions: number }).transactions).toBeGreaterThan(10)
    expect(readdirSync(directory)).toEqual([])
  })

  it.each<[string, string, NodeJS.Signals]>([
    ['the terminal is closed while it plays', '^evert-demo-', 'SIGHUP'],
    ['it is stopped while its server is made', '^evert-postgres-.*/data/global$', 'SIGINT'],
  ])('leaves nothing of the demo where %s', async (_, place, signal) => {
    chmodSync(directory, 0o755)
    // A terminal signals all that it has started.
    const child = startCli(['demo', '--json'], { TMPDIR: directory }, [], { detached: true })
    const reached = (): boolean =>
      readdirSync(directory, { recursive: true }).some((name) => new RegExp(place).test(String(name)))
    while (!reached()) await delay(5)
    process.kill(-(child.process.pid ?? 0), signal)
    const { code, stderr } = await child.ended
    // initdb may be past the point where it minds.
    expect([0, 1]).toContain(code)
    expect(stderr).not.toContain('initdb failed')
    expect(readdirSync(directory)).toEqual([])
  })

  it('repeats no URL that it does not understand, for it may hold a password', async () => {
    for (const [word, said] of [
      ['postgres://evert:hunter2@localhost/shop', 'a URL belongs to no option'],
      ['--sourcepostgres://evert:hunter2@localhost/shop', 'has no option --source…'],
    ] as const) {
      const { code, stderr } = await runCli(['run', word])
      expect(code).toBe(2)
      expect(stderr).toContain(said)
      expect(stderr).not.toContain('hunter2')
    }
  })

  it('refuses a certificate for Kafka without its key, and a key without its certificate', async () => {
    const status = ['status', '--source', database.url, '--log', 'kafka://localhost:1']
    for (const [given, wanted] of [
      ['--kafka-cert-file', '--kafka-key-file'],
      ['--kafka-key-file', '--kafka-cert-file'],
    ] as const) {
      const { code, stderr } = await runCli([...status, given, 'x.pem'])
      expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining(wanted) })
    }
  })

  it('says that a file of a token for Kafka cannot be read, or is empty', async () => {
    const file = join(directory, 'token')
    const token = ['--kafka-sasl-mechanism', 'OAUTHBEARER', '--kafka-token-file', file]
    const status = ['status', '--source', database.url, '--log', 'kafka://localhost:1', ...token]
    expect(await runCli(status)).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be read') })
    writeFileSync(file, '\n')
    expect(await runCli(status)).toMatchObject({ code: 1, stderr: expect.stringContaining('is empty') })
  })
})
