/** What one would write oneself: pg-logical-replication and kafkajs, at least once. */
import { spawn } from 'node:child_process'
import type { Contender } from '../contest.js'
import { runWatched } from './processes.js'

const SCRIPT = new URL('./kafkajs-run.js', import.meta.url).pathname

export const KAFKAJS: Contender = {
  name: 'pg-logical-replication + kafkajs',
  floor: 'pg_recvlogical',
  slow: true,
  run: (work) => {
    const parameters = [SCRIPT, work.url, work.kafka, work.slot]
    return runWatched(spawn(process.execPath, parameters, { stdio: ['ignore', 'ignore', 'inherit'] }), work)
  },
  place: ({ value }) => /"position":"(.*?)"/.exec(String(value))?.[1] ?? '',
}
