/** kcat: a reader that shares no code with evert or with kafkajs (librdkafka), where it is installed. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { byPartition, type ConsumedRecord } from '../../support/independent-consumer.js'

/** One line a record: the values are JSON, which has no raw tab or line end. */
const FORMAT = '%t\\t%p\\t%o\\t%K\\t%S\\t%k\\t%s\\n'

export const kcatInstalled = spawnSync('kcat', ['-V']).status === 0

function follow(bootstrap: string, topic: string, more: readonly string[]): ChildProcess {
  const settings = [
    'isolation.level=read_committed',
    'check.crcs=true',
    'topic.metadata.refresh.interval.ms=1000',
    'reconnect.backoff.max.ms=250',
    'fetch.wait.max.ms=20',
    'log_level=0',
  ]
  const parameters = ['-C', '-q', '-u', '-b', bootstrap, '-t', topic, '-o', 'beginning', '-f', FORMAT, ...more]
  return spawn('kcat', [...parameters, ...settings.flatMap((setting) => ['-X', setting])], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

function parse(line: string): ConsumedRecord {
  const [topic = '', partition, offset, keyLength, valueLength, key = '', value = ''] = line.split('\t')
  return {
    topic,
    partition: Number(partition),
    offset: BigInt(offset ?? ''),
    key: keyLength === '-1' ? null : key,
    value: valueLength === '-1' ? null : value,
    headers: {},
  }
}

/** Everything that is committed in the topics now, partition by partition in offset order. */
export async function consumeWithKcat(bootstrap: string, topics: readonly string[]): Promise<ConsumedRecord[]> {
  const records: ConsumedRecord[] = []
  for (const topic of topics) {
    const child = follow(bootstrap, topic, ['-e'])
    let said = ''
    child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const exited = new Promise<number | null>((resolve) => child.once('close', resolve))
    for await (const line of createInterface({ input: child.stdout ?? process.stdin })) records.push(parse(line))
    const code = await exited
    if (code !== 0) throw new Error(`kcat of ${topic} ended with ${code}: ${said}`)
  }
  return byPartition(records)
}

/** Follows a topic until it is stopped, whatever becomes of the brokers. */
export function tailWithKcat(bootstrap: string, topic: string, onRecord: (record: ConsumedRecord) => void): () => void {
  let stopped = false
  let child: ChildProcess
  const begin = (): void => {
    child = follow(bootstrap, topic, [])
    child.stderr?.resume()
    createInterface({ input: child.stdout ?? process.stdin }).on('line', (line) => onRecord(parse(line)))
    child.once('close', () => {
      if (!stopped) begin()
    })
  }
  begin()
  return () => {
    stopped = true
    child.kill('SIGKILL')
  }
}
