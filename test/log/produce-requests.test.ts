/** Which batches share a request: bounded, and in the order of their partition. */
import type { Cluster } from '../../src/log/kafka/cluster.js'
import { partitionKey, produceRequests, type StampedBatch } from '../../src/log/kafka/produce-requests.js'

const MB = 1024 * 1024
const cluster = {
  leader: async (_: string, partition: number) => ({ id: partition % 2, broker: { host: `broker ${partition % 2}` } }),
} as unknown as Cluster

function batch(partition: number, bytes: number): StampedBatch {
  const key = partitionKey({ topic: 't', partition })
  return { topic: 't', partition, key, records: Buffer.alloc(bytes), count: 1 }
}

it('keeps requests below what a broker takes, and the batches of a partition in order', async () => {
  // One partition after the other, so that a further request of the first turn is begun behind those of all turns.
  const batches = Array.from({ length: 300 }, (_, i) => batch(Math.floor(i / 5), (i % 7) * MB))
  const known = new Set(batches.map(({ key }) => key))
  const { sent, later, homeless } = await produceRequests(cluster, batches, known)
  expect([later, homeless]).toEqual([[], []])
  const sizes = sent.map(({ entries }) => entries.reduce((sum, { records }) => sum + records.length, 0))
  expect(Math.max(...sizes)).toBeLessThanOrEqual(32 * MB)
  // Not one request for each batch, either.
  expect(sent.length).toBeLessThan(60)
  for (const { entries } of sent) expect(new Set(entries.map(({ key }) => key)).size).toBe(entries.length)
  for (const key of known) {
    const order = sent.flatMap(({ entries }) => entries.filter((one) => one.key === key))
    expect(order).toEqual(batches.filter((one) => one.key === key))
  }
})

it('sends a batch that is larger than that alone', async () => {
  const batches = [batch(0, MB), batch(2, 80 * MB), batch(4, MB)]
  const { sent } = await produceRequests(cluster, batches, new Set())
  expect(sent.map(({ entries }) => entries.map(({ partition }) => partition))).toEqual([[0], [2], [4]])
})
