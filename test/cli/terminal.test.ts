/** evert on a terminal: a bar shows how far rows are, and is gone with what it was of. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { killAll, runCli } from '../support/cli.js'
import { freshDatabase } from '../support/servers.js'

const PROGRAM = fileURLToPath(new URL('../../bin/evert.js', import.meta.url))
const INTERRUPT = '\x03'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
})

afterEach(async () => {
  await killAll()
  rmSync(directory, { recursive: true, force: true })
})

interface Terminal {
  shows(text: string): Promise<void>
  press(text: string): void
  readonly ended: Promise<{ readonly code: number | null; readonly output: string }>
}

/** On a pseudo terminal of script(1), which passes the exit code on. */
function onTerminal(parameters: readonly string[]): Terminal {
  const command = ['exec', process.execPath, PROGRAM, ...parameters].join(' ')
  const child = spawn('script', ['--quiet', '--return', '--flush', '--command', command, '/dev/null'], {
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', TERM: 'xterm' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const ended = new Promise<{ code: number | null; output: string }>((resolve) =>
    child.once('close', (code) => resolve({ code, output })),
  )
  return {
    async shows(text) {
      while (!output.includes(text)) {
        if (child.exitCode !== null) throw new Error(`it ended before it showed "${text}": ${output}`)
        await delay(20)
      }
    },
    press: (text) => void child.stdin.write(text),
    ended,
  }
}

it('a bar keeps nobody from stopping, and an error from ending it', async () => {
  const database = await freshDatabase()
  await database.query(`create table item (id int primary key); insert into item select generate_series(1, 3000);
    analyze item`)
  const common = ['--source', database.url, '--log', directory]
  const daemon = onTerminal(['run', ...common])
  await daemon.shows('streaming')
  const slowly = ['snapshot', ...common, '--id', 'slow', '--max-rows-per-second', '50']
  const asking = onTerminal(slowly)
  await daemon.shows('backfill =')
  await asking.shows('backfill =')
  asking.press(INTERRUPT)
  await asking.ended
  daemon.press(INTERRUPT)
  const { code, output } = await daemon.ended
  expect(output).not.toContain('takes too long')
  expect(code).toBe(0)

  const again = onTerminal(['run', ...common])
  await again.shows('backfill =')
  await database.query(
    `select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()`,
  )
  const slot = `from pg_replication_slots where database = current_database() and not active`
  while ((await database.query(`select pg_drop_replication_slot(slot_name) ${slot}`)).length === 0) await delay(1)
  expect(await again.ended).toMatchObject({ code: 3, output: expect.stringContaining('SLOT_MISSING') })
})

it('a request that evert run would not understand is none', async () => {
  const tables = Array.from({ length: 200 }, (_, i) => `public.table_${i}`).join()
  const common = ['--source', 'postgres://127.0.0.1:1/nowhere', '--log', directory]
  expect(await runCli(['snapshot', ...common, '--tables', tables])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('would not understand the request: tables'),
  })
})
