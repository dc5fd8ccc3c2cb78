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

/** A broker takes 100 MB by default (socket.request.max.bytes), and a request that is larger ends the connection without a word. */
const REQUEST_BYTES = 32 * 1024 * 1024

interface Request {
  readonly turn: number
  readonly broker: Broker
  readonly entries: StampedBatch[]
  bytes: number
}

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
 * A request holds at most one batch of a partition, so the n-th batch of each goes into the n-th request to its leader, or into further ones
 * where that is full: the n-th of all go before those that follow them. Of a partition that
 * is not `known` to have taken anything, only the first goes.
 */
export async function produceRequests(
  cluster: Cluster,
  batches: readonly StampedBatch[],
  known: ReadonlySet<string>,
): Promise<ProduceRequests> {
  const requests: Request[] = []
  /** That which is being filled, by turn and broker. */
  const filling = new Map<string, Request>()
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
    let request = filling.get(place)
    if (request === undefined || request.bytes + batch.records.length > REQUEST_BYTES) {
      request = { turn, broker: leader.broker, entries: [], bytes: 0 }
      filling.set(place, request)
      requests.push(request)
    }
    request.entries.push(batch)
    request.bytes += batch.records.length
  }
  return { sent: requests.toSorted((a, b) => a.turn - b.turn), homeless, later, failure }
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
