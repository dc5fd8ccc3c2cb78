/** Scenarios: what can happen to the brokers, and between them and evert. */
import type { KafkaBroker } from '../support/kafka.js'
import type { Run, Scenario } from './harness/run.js'

/** A soak takes its time. */
const SOAK = Number(process.env['EVERT_SOAK_HOURS'] ?? 0) > 0
const OUTAGE_MS = SOAK ? 600_000 : 40_000

function anyBroker({ stage, random }: Run): KafkaBroker {
  return stage.broker(1 + random(3))
}

/** It goes on without the broker, and the broker comes back. */
async function killAndRestart(run: Run, broker: KafkaBroker): Promise<void> {
  await broker.kill('SIGKILL')
  run.recovering()
  await run.recovered()
  await run.written()
  await broker.start()
  await run.stage.inSync()
}

/** Some brokers are gone for a while, and come back together. */
async function outage(run: Run, brokers: readonly KafkaBroker[], ms: number): Promise<void> {
  await Promise.all(brokers.map((broker) => broker.kill('SIGKILL')))
  await run.last(ms)
  await Promise.all(brokers.map((broker) => broker.start()))
  run.recovering()
}

export const KAFKA_SCENARIOS: readonly Scenario[] = [
  {
    name: 'broker-killed',
    fault: 'a broker is killed (`kill -9`) and comes back',
    work: (run) => killAndRestart(run, anyBroker(run)),
  },
  {
    name: 'controller-killed',
    fault: 'the active controller is killed (`kill -9`) and comes back',
    work: async (run) => killAndRestart(run, await run.stage.controller()),
  },
  {
    name: 'coordinator-killed',
    fault: 'the broker that coordinates the log transactions is killed (`kill -9`): the coordinator moves',
    work: async (run) => killAndRestart(run, await run.stage.coordinator(run.name)),
  },
  {
    name: 'leaders-moved',
    fault: 'every partition gets another leader',
    async work(run) {
      run.recovering()
      await run.stage.moveLeaders(run.topics)
    },
  },
  {
    name: 'leaders-moved-repeatedly',
    fault: 'leaders move again and again under transactions of many partitions: the loss known from kafkajs',
    async work(run) {
      for (let turn = 0; turn < 4; turn++) {
        run.recovering()
        await run.stage.moveLeaders(run.topics)
        await run.moment(500)
      }
    },
  },
  {
    name: 'rolling-restart',
    fault: 'all brokers are restarted, one after the other',
    async work(run) {
      for (const broker of run.stage.kafka.brokers) {
        await broker.kill('SIGTERM')
        run.recovering()
        await broker.start()
        await run.stage.inSync()
      }
    },
  },
  {
    name: 'two-brokers-gone',
    fault: 'two of three brokers are gone for 12 s: no quorum, and fewer replicas than `min.insync.replicas`',
    work: (run) => outage(run, run.stage.kafka.brokers.slice(1), 12_000),
  },
  {
    name: 'too-few-in-sync-replicas',
    fault: 'a broker is gone for 12 s where `min.insync.replicas` asks for all three',
    async work(run) {
      const topics = [...run.topics, `${run.name}.progress`]
      await run.stage.admin((admin) =>
        admin.alterConfigs({
          validateOnly: false,
          resources: topics.map((name) => ({
            type: 2,
            name,
            configEntries: [{ name: 'min.insync.replicas', value: '3' }],
          })),
        }),
      )
      await outage(run, [anyBroker(run)], 12_000)
    },
  },
  {
    name: 'all-brokers-gone',
    fault: `all brokers are killed for 40 s (in a soak for ten minutes)`,
    work: (run) => outage(run, run.stage.kafka.brokers, OUTAGE_MS),
  },
  {
    name: 'connections-reset',
    fault: 'connections to the brokers are reset in the middle of a request, again and again',
    async work(run) {
      for (let turn = 0; turn < 8; turn++) {
        for (const front of run.stage.fronts) front.resetInMidRequest(2)
        await run.moment(600)
      }
      for (const front of run.stage.fronts) front.resetInMidRequest(0)
      run.recovering()
    },
  },
  {
    name: 'slow-broker',
    fault: 'a broker answers 300 ms late, at 200 kB/s, for 10 s',
    async work(run) {
      const front = run.stage.fronts[run.random(3)]
      if (front === undefined) return
      front.weather = { delayMs: 300, bytesPerSecond: 200_000 }
      await run.last(10_000)
      front.weather = {}
      run.recovering()
    },
  },
  {
    name: 'black-hole-to-a-broker',
    fault: 'for 10 s the network swallows what goes to a broker and comes from it; the connections stay dead',
    async work(run) {
      const front = run.stage.fronts[run.random(3)]
      if (front === undefined) return
      front.weather = { swallow: true }
      await run.last(10_000)
      front.weather = {}
      run.recovering()
    },
  },
  {
    name: 'disk-full',
    fault: 'the disk under a broker is full: it dies, and comes back when there is room',
    missing: ({ disk }) => (disk === null ? 'a file system of its own cannot be mounted here (it needs root)' : null),
    async work(run) {
      const { stage } = run
      const broker = stage.broker(3)
      stage.disk?.fill()
      while (stage.isAlive(broker)) await run.last(50)
      run.recovering()
      await run.recovered()
      stage.disk?.enlarge()
      await broker.start()
      await stage.inSync()
    },
  },
  {
    name: 'log-stuck',
    fault: 'all brokers are frozen (SIGSTOP) for 60 s under `wal_sender_timeout=5s`: the walsender stays',
    databaseSettings: { wal_sender_timeout: '5s' },
    async work(run) {
      const { stage, name } = run
      const holder = async (): Promise<unknown> =>
        (await stage.query(name, `select active_pid from pg_replication_slots where slot_name = '${name}'`))[0]
      const before = await holder()
      for (const { pid } of stage.kafka.brokers) process.kill(pid, 'SIGSTOP')
      await run.last(60_000)
      const after = await holder()
      for (const { pid } of stage.kafka.brokers) process.kill(pid, 'SIGCONT')
      run.recovering()
      expect(after).toEqual(before)
    },
  },
]
