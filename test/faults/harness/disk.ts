/** Disk: a small file system of a broker's own, which can be made full. It needs root, and a machine that lets it mount. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmdirSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const LARGE = '2g'
const TRIES = 100

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
    // More may be written between the two, and it is refused to be smaller than what is on it.
    for (let tries = 1; ; tries++) {
      const { blocks, bfree, bsize } = statfsSync(this.folder)
      const refused = this.#resize(String((blocks - bfree) * bsize + 64 * 1024))
      if (refused === null) return
      if (tries === TRIES) throw new Error(`the disk cannot be made full: ${refused}`)
    }
  }

  enlarge(): void {
    const refused = this.#resize(LARGE)
    if (refused !== null) throw new Error(`the disk cannot be enlarged: ${refused}`)
  }

  unmount(): void {
    spawnSync('umount', ['-l', this.folder])
    rmdirSync(this.folder)
  }

  /** Why it is as it was, or null. */
  #resize(size: string): string | null {
    const { status, stderr } = spawnSync('mount', ['-o', `remount,size=${size}`, this.folder], { encoding: 'utf8' })
    return status === 0 ? null : stderr
  }
}
