import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import { CONTRACT_PARTITIONS, logContract } from './contract.js'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'evert-embedded-'))
})
afterAll(() => rm(directory, { recursive: true }))

logContract('the embedded log', {
  open: (options) => openEmbeddedLog({ directory, topics: { partitions: CONTRACT_PARTITIONS }, ...options }),
})
