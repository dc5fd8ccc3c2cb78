/** Which batches go to which broker, in which request. */
import type { Broker } from '@platformatic/kafka'
import type { Cluster } from './cluster.js'
import { CODE, isPassing } from './errors.js'

export interface StampedBatch {
  readonly topic: string
  readonly partition: number
  /** Of its partition. */
  readonly key: string
  readonly records: Buffer
  readonly count: number
}

/** A broker remembers the last five batches of a producer in a partition: what is sent again behind more than that is not known again. */
const BATCHES_IN_FLIGHT = 5

interface ProduceRequests {
  readonly sent: readonly { readonly broker: Broker; readonly entries: readonly StampedBatch[] }[]
  /** Whose partition has no leader now. */
  readonly homeless: readonly StampedBatch[]
  /** For the next round. */
  readonly later: readonly StampedBatch[]
  /** Why there are homeless ones. */
  readonly failure: unknown
}

/**
 * One request per leader holds at most one batch of a partition, so the n-th batch of each goes into the n-th request. Of a partition that
 * is not `known` to have taken anything, only the first goes.
 */
export async function produceRequests(
  cluster: Cluster,
  batches: readonly StampedBatch[],
  known: ReadonlySet<string>,
): Promise<ProduceRequests> {
  const requests = new Map<string, { broker: Broker; entries: StampedBatch[] }>()
  const counts = new Map<string, number>()
  const homeless: StampedBatch[] = []
  const later: StampedBatch[] = []
  let failure: unknown = null
  for (const batch of batches) {
    const { key } = batch
    const turn = counts.get(key) ?? 0
    if (turn >= (known.has(key) ? BATCHES_IN_FLIGHT : 1)) {
      later.push(batch)
      continue
    }
    const leader = await cluster.leader(batch.topic, batch.partition).catch((error: unknown) => {
      if (!isPassing(error)) throw error
      failure ??= error
      return null
    })
    if (leader === null) {
      cluster.forget(batch.topic)
      failure ??= new RetryRound(CODE.unknownTopicOrPartition)
      homeless.push(batch)
      // What follows it is not to arrive before it.
      counts.set(key, Number.POSITIVE_INFINITY)
      continue
    }
    counts.set(key, turn + 1)
    const place = `${turn}/${leader.id}`
    const request = requests.get(place)
    if (request === undefined) requests.set(place, { broker: leader.broker, entries: [batch] })
    else request.entries.push(batch)
  }
  return { sent: [...requests.values()], homeless, later, failure }
}

/** A round that has to be sent again because of a code that passes. */
export class RetryRound extends Error {
  readonly apiCode: number

  constructor(code: number) {
    super(`error ${code}`)
    this.apiCode = code
  }
}

export function partitionKey({ topic, partition }: { readonly topic: string; readonly partition: number }): string {
  return `${topic}/${partition}`
}
