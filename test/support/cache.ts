/** Cache: where the test run keeps what it fetches by itself, so that a second run fetches nothing. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export function cacheFolder(name: string): string {
  const folder = join(process.env['EVERT_TEST_CACHE'] ?? join(ROOT, '.cache'), name)
  mkdirSync(folder, { recursive: true })
  return folder
}
