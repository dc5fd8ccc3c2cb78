/** Programs of this folder in processes of their own, for tests that kill one or limit what it may write. */
import { transformFileSync } from '@swc/core'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

const root = join(import.meta.dirname, '../..')

/** JavaScript of src/ and of one program, where packages are found from. */
export class CompiledProgram {
  readonly #directory: string
  readonly #program: string

  constructor(program: string) {
    this.#program = program
    const cache = join(root, 'node_modules/.cache')
    mkdirSync(cache, { recursive: true })
    this.#directory = mkdtempSync(join(cache, 'evert-child-'))
    writeFileSync(join(this.#directory, 'package.json'), '{"type":"module"}')
    const sources = ['base', 'event', 'log'].flatMap((folder) =>
      readdirSync(join(root, 'src', folder), { recursive: true }).map((name) => join('src', folder, String(name))),
    )
    for (const source of [...sources.filter((name) => name.endsWith('.ts')), program]) {
      const target = join(this.#directory, source.replace(/\.ts$/, '.js'))
      mkdirSync(dirname(target), { recursive: true })
      const { code } = transformFileSync(join(root, source), {
        jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
        module: { type: 'es6' },
      })
      writeFileSync(target, code)
    }
  }

  /** `fileLimitBlocks` is what `ulimit -f` of the system's shell takes. */
  start(args: readonly string[], options: { readonly fileLimitBlocks?: number } = {}): Child {
    const limit = options.fileLimitBlocks === undefined ? '' : `ulimit -f ${options.fileLimitBlocks} && `
    const program = join(this.#directory, this.#program.replace(/\.ts$/, '.js'))
    return new Child(
      spawn('/bin/sh', ['-c', `${limit}exec "$0" "$@"`, process.execPath, program, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, NODE_OPTIONS: '' },
      }),
    )
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true })
  }
}

export class Child {
  readonly #process: ChildProcessByStdio<null, Readable, null>
  readonly #exited: Promise<void>
  /** What it prints, line by line, until it ends. */
  readonly lines: AsyncIterator<string>

  constructor(process: ChildProcessByStdio<null, Readable, null>) {
    this.#process = process
    this.#exited = new Promise((resolve) => process.once('close', () => resolve()))
    this.lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]()
  }

  /** kill -9. Resolves when the process is gone. */
  kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    return this.#exited
  }

  exited(): Promise<void> {
    return this.#exited
  }
}
