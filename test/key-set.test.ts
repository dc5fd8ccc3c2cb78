/** The keys on which log and tables differ: all of them, and nothing on disk once the process is gone. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const root = join(import.meta.dirname, '..')
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'evert-key-set-'))
})

afterEach(() => {
  rmSync(folder, { recursive: true })
})

const PROGRAM = `
  import { KeySet } from './src/key-set.ts'
  const keys = new KeySet()
  // More than one transaction, and more than its file has at first; longer than LMDB takes a key.
  for (let i = 0; i < 12_000; i++) keys.add(i % 2, Buffer.from('x'.repeat(3000) + i))
  const counts = [0, 1, 2].map((table) => new Set([...keys.of(table)].map(String)).size)
  const has = [[1, 11_999], [0, 11_999], [1, 12_001]].map(([table, i]) => keys.has(table, Buffer.from('x'.repeat(3000) + i)))
  console.log(JSON.stringify({ counts, has }))
  if (process.argv.at(-1) === 'close') await keys.close()
  else setInterval(() => undefined, 1000)
`

it.each(['close', 'kill'])('holds every key once, and leaves nothing behind after a %s', async (end) => {
  const child = spawn(
    process.execPath,
    ['--import', './scripts/typescript.js', '--input-type=module', '-e', PROGRAM, end],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NODE_OPTIONS: '', TMPDIR: folder },
    },
  )
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const { value } = await lines.next()
  expect(JSON.parse(String(value))).toEqual({ counts: [6000, 6000, 0], has: [true, false, false] })
  if (end === 'kill') child.kill('SIGKILL')
  expect(await ended).toBe(end === 'kill' ? null : 0)
  expect(readdirSync(folder)).toEqual([])
})
