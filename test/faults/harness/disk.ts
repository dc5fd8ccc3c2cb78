/** Disk: a small file system of a broker's own, which can be made full. It needs root, and a machine that lets it mount. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmdirSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const LARGE = '2g'

export class Disk {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  static mount(): Disk | null {
    const folder = mkdtempSync(join(tmpdir(), 'evert-disk-'))
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${LARGE}`, 'tmpfs', folder]).status === 0)
      return new Disk(folder)
    rmdirSync(folder)
    return null
  }

  /** What is on it stays; hardly anything more goes on. */
  fill(): void {
    const { blocks, bfree, bsize } = statfsSync(this.folder)
    this.#resize(String((blocks - bfree) * bsize + 64 * 1024))
  }

  enlarge(): void {
    this.#resize(LARGE)
  }

  unmount(): void {
    spawnSync('umount', ['-l', this.folder])
    rmdirSync(this.folder)
  }

  #resize(size: string): void {
    const { status, stderr } = spawnSync('mount', ['-o', `remount,size=${size}`, this.folder], { encoding: 'utf8' })
    if (status !== 0) throw new Error(`the disk cannot be resized: ${stderr}`)
  }
}
