/** Promise 1: a server that was restored from a backup is not mistaken for the one that the log was written from. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../../src/log/embedded/log.js'
import type { Log } from '../../src/log/log.js'
import { startPipeline } from '../support/pipeline.js'
import { startPostgres } from '../support/postgres.js'
import { freshDatabase, openSession } from '../support/servers.js'

it('refuses to go on from a server that is behind the log, with its slot and all', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'evert-log-'))
  const openLog = (): Promise<Log> => openEmbeddedLog({ directory, topics: { partitions: 1 } })
  const server = await startPostgres()
  const database = await freshDatabase(server.url('postgres'))
  await database.query('create table item (id int primary key)')
  const first = startPipeline(database, { openLog })
  await first.caughtUp()
  expect(await first.stop()).toBeUndefined()

  const backup = `${server.dataDirectory}-backup`
  await server.kill('SIGINT')
  execFileSync('cp', ['-a', server.dataDirectory, backup])
  await server.start()
  const again = await openSession(server.url(database.name))
  await again(`insert into item select generate_series(1, 20000)`)
  const second = startPipeline({ ...database, query: again }, { openLog })
  await second.caughtUp()
  expect(await second.stop()).toBeUndefined()

  await server.kill('SIGINT')
  rmSync(server.dataDirectory, { recursive: true })
  renameSync(backup, server.dataDirectory)
  await server.start()
  const restored = await openSession(server.url(database.name))
  await restored('insert into item values (-1)')
  const third = startPipeline({ ...database, query: restored }, { openLog })
  expect(await third.ended).toMatchObject({
    code: 'SERVER_BEHIND',
    exit: 3,
    message: expect.stringContaining('restored'),
  })
  await server.stop()
  rmSync(directory, { recursive: true, force: true })
})
