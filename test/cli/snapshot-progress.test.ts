/** What a snapshot says of itself before it starts. */
import { silentLogger } from '../../src/base/logger.js'
import { snapshotProgress } from '../../src/cli/snapshot-progress.js'

const cost = { rows: 1000, bytes: 4e9, seconds: 100, walBytes: 5e9 }

it.each([
  ['where nothing waits for it', null, 0],
  ['where a slot may hold back any amount', { walKeepBytes: null }, 0],
  ['where there is room enough', { walKeepBytes: 20e9 }, 0],
  ['and warns where it may cost the slot', { walKeepBytes: 8e9 }, 1],
])('a snapshot says what it will cost, %s', (_, slot, warnings) => {
  const said: object[] = []
  const warned: string[] = []
  const logger = {
    ...silentLogger,
    info: (fields: object) => void said.push(fields),
    warn: (_fields: object, message: string) => void warned.push(message),
  }
  snapshotProgress(logger).onSnapshotStart({ tables: [], cost }, slot)
  expect(said).toEqual([{ tables: 0, estimatedRows: 1000, bytes: 4e9, estimatedSeconds: 100, estimatedWalBytes: 5e9 }])
  expect(warned).toHaveLength(warnings)
})
