/** Scenarios: what can happen to Postgres, and between it and evert. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Run, Scenario } from './harness/run.js'
import { PASSWORD_ROLE, type Stage } from './harness/stage.js'

async function terminate({ stage, name }: Run, which: string): Promise<void> {
  await stage.query(
    'postgres',
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}' and ${which}`,
  )
}

const WALSENDER = `backend_type = 'walsender'`

/** The server ends in one way or another, and starts again. */
async function restart(run: Run, end: () => Promise<void>): Promise<void> {
  await run.moment()
  await end()
  await run.last(1000)
  await run.stage.postgres.start()
  run.recovering()
}

/** ~/.pgpass of the role that needs a password; it goes with the server's folder. */
const passwordFile = ({ postgres }: Stage): string => join(postgres.dataDirectory, 'pgpass')

async function setPassword(stage: Stage, password: string): Promise<void> {
  await stage.query('postgres', `alter role ${PASSWORD_ROLE} password '${password}'`)
  writeFileSync(passwordFile(stage), `127.0.0.1:*:*:${PASSWORD_ROLE}:${password}\n`, { mode: 0o600 })
}

export const POSTGRES_SCENARIOS: readonly Scenario[] = [
  {
    name: 'walsender-terminated',
    fault: 'the walsender is terminated (`pg_terminate_backend`), six times',
    async work(run) {
      for (let turn = 0; turn < 6; turn++) {
        await run.moment()
        await terminate(run, WALSENDER)
        run.recovering()
        if (run.random(2) === 0) await run.recovered()
      }
    },
  },
  {
    name: 'postgres-killed',
    fault: 'Postgres is killed (`kill -9`, all its processes) and started again, twice',
    async work(run) {
      await restart(run, () => run.stage.killPostgres())
      await run.recovered()
      await restart(run, () => run.stage.killPostgres())
    },
  },
  {
    name: 'postgres-fast-shutdown',
    fault: 'Postgres is shut down (fast) and started again',
    work: (run) => restart(run, () => run.stage.postgres.kill('SIGINT')),
  },
  {
    name: 'postgres-immediate-shutdown',
    fault: 'Postgres is shut down (immediate) and started again',
    work: (run) => restart(run, () => run.stage.postgres.kill('SIGQUIT')),
  },
  {
    name: 'password-rotated',
    fault: 'the password of evert’s role is changed, with its line in `~/.pgpass`, and its connections are terminated',
    async prepare({ stage, name }) {
      await stage.query('postgres', `drop role if exists ${PASSWORD_ROLE}`)
      await stage.query('postgres', `create role ${PASSWORD_ROLE} login replication`)
      await stage.query(name, `grant create on database "${name}" to ${PASSWORD_ROLE}`)
      for (const table of ['account', 'entry', 'mover']) {
        await stage.query(name, `alter table ${table} owner to ${PASSWORD_ROLE}`)
      }
      await setPassword(stage, 'first')
      return { user: PASSWORD_ROLE, environment: { PGPASSFILE: passwordFile(stage) } }
    },
    async work(run) {
      await setPassword(run.stage, 'second')
      await terminate(run, `usename = '${PASSWORD_ROLE}'`)
      run.recovering()
    },
  },
  {
    name: 'black-hole-to-postgres',
    fault: 'for 10 s the network swallows what goes to Postgres and comes from it; the connections stay dead',
    databaseSettings: { wal_sender_timeout: '10s' },
    async work(run) {
      run.stage.postgresFront.weather = { swallow: true }
      await run.last(10_000)
      run.stage.postgresFront.weather = {}
      run.recovering()
    },
  },
]
