/** What evert run tells machines of itself, over HTTP. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import { pipelineMetrics } from '../../src/server/metrics.js'
import { killAll, runCli, startCli } from '../support/cli.js'
import { readAll } from '../support/pipeline.js'
import { freshDatabase } from '../support/servers.js'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
})

afterEach(async () => {
  await killAll()
  rmSync(directory, { recursive: true, force: true })
})

const ROWS = 3000

/** By name and, where it has them, labels other than the pipeline's. */
function samplesOf(text: string): Map<string, number> {
  const samples = new Map<string, number>()
  for (const line of text.split('\n').filter((one) => one.startsWith('evert_'))) {
    const { name = '', labels = '', value } = /^(?<name>\w+)\{(?<labels>.*)\} (?<value>\S+)$/.exec(line)!.groups!
    const own = labels.split(',').filter((label) => !label.startsWith('pipeline='))
    samples.set(own.length === 0 ? name : `${name}{${own.join(',')}}`, Number(value))
  }
  return samples
}

it('metrics tell of the log, the snapshot and a live backfill, and of no row', async () => {
  const database = await freshDatabase()
  await database.query(`create table item (id int primary key, note text);
    insert into item select g, 'a secret' from generate_series(1, ${ROWS}) g; analyze item`)
  const common = ['--source', database.url, '--log', directory]
  const daemon = startCli(['run', ...common, '--listen', '0'])
  await daemon.says('"streaming"')
  const { port } = JSON.parse(
    daemon
      .stderr()
      .split('\n')
      .find((line) => line.includes('metrics are at'))!,
  ) as { port: number }
  const address = `http://127.0.0.1:${port}`
  const scrape = async (): Promise<string> => await (await fetch(`${address}/metrics`)).text()
  const text = await scrape()
  expect(text).toContain('process_resident_memory_bytes')
  expect(text).not.toContain('secret')
  const samples = samplesOf(text)
  const item = 'schema="public",table="item"'
  expect(Object.fromEntries(samples)).toMatchObject({
    [`evert_snapshot_rows{${item}}`]: ROWS,
    [`evert_snapshot_estimated_rows{${item}}`]: ROWS,
    [`evert_snapshot_bytes{${item}}`]: samples.get(`evert_snapshot_table_bytes{${item}}`),
    evert_snapshot_running: 0,
    'evert_state{state="streaming"}': 1,
    'evert_state{state="snapshot"}': 0,
    evert_attempts_total: 1,
  })
  expect(samples.get('evert_end_lsn')).toBeGreaterThan(0)
  expect(samples.get(`evert_snapshot_table_bytes{${item}}`)).toBeGreaterThan(ROWS * 10)

  // A backfill that is held back is seen under way.
  const asked = ['--id', 'slow', '--max-rows-per-second', '500']
  const asking = startCli(['snapshot', ...common, ...asked])
  const published = async (): Promise<number> => samplesOf(await scrape()).get(`evert_backfill_rows{${item}}`) ?? 0
  while ((await published()) === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  const under = samplesOf(await scrape())
  expect(Object.fromEntries(under)).toMatchObject({
    evert_backfills: 1,
    evert_backfill_tables_left: 1,
    [`evert_backfill_estimated_rows{${item}}`]: ROWS,
  })
  const again = await runCli(['snapshot', ...common, ...asked])
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('a backfill \\"slow\\" is there already') })
  await runCli(['snapshot', ...common, '--control', 'cancel', '--id', 'slow'])
  // Whoever waits for the rows must not take them for published.
  expect(await asking.ended).toMatchObject({ code: 1, stderr: expect.stringContaining('it was cancelled') })
  let after = samplesOf(await scrape())
  while (after.get('evert_backfills') !== 0) after = samplesOf(await scrape())
  expect(after.has(`evert_backfill_rows{${item}}`)).toBe(false)

  expect((await fetch(`${address}/`)).status).toBe(404)
  expect((await fetch(`${address}/metrics`, { method: 'POST' })).status).toBe(405)
  const last = samplesOf(await scrape())
  daemon.process.kill('SIGTERM')
  await daemon.ended
  const log = await openEmbeddedLog({ directory, topics: { partitions: 6 } })
  let records = 0
  for (const { name } of await log.topics(`${database.name}.`)) records += (await readAll(log, name)).length
  await log.close()
  expect(last.get('evert_records_total')).toBe(records)
})

it('tells of no backfills where it does not know: 0 means that all are complete', async () => {
  const metrics = pipelineMetrics('shop')
  const told = async (): Promise<number | undefined> =>
    samplesOf(await metrics.registry.metrics()).get('evert_backfills')
  metrics.onState('starting', null)
  expect(await told()).toBeUndefined()
  metrics.onBackfills([])
  metrics.onState('streaming', null)
  expect(await told()).toBe(0)
  metrics.onState('retrying', null)
  expect(await told()).toBeUndefined()
})

it('a port that is taken is an error, and an address that is none', async () => {
  const database = await freshDatabase()
  const other = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => other.once('listening', resolve))
  const { port } = other.address() as { port: number }
  const run = ['run', '--source', database.url, '--log', directory]
  const taken = await runCli([...run, '--listen', `localhost:${port}`])
  expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining(`cannot listen on localhost:${port}`) })
  expect(taken.stderr).toContain('LISTEN_FAILED')
  other.close()
  for (const address of ['somewhere', '70000', 'host:'])
    expect(await runCli([...run, '--listen', address])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('a port, such as 9464'),
    })
})
