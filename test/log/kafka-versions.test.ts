/** The choice of request versions, by what releases of Kafka answer to ApiVersions. */
import type { VersionedApi } from '../../src/log/kafka/protocol.js'
import * as requests from '../../src/log/kafka/requests.js'
import { type BrokerVersions, chooseVersion } from '../../src/log/kafka/versions.js'

const broker = { host: 'kafka-1', port: 9092 }

/** As brokers of these releases answered, for the requests that evert sends. */
const RELEASES: Readonly<Record<string, Readonly<Record<string, readonly [key: number, min: number, max: number]>>>> = {
  '2.8.2': {
    Produce: [0, 0, 9],
    Fetch: [1, 0, 12],
    ListOffsets: [2, 0, 6],
    Metadata: [3, 0, 11],
    FindCoordinator: [10, 0, 3],
    CreateTopics: [19, 0, 7],
    DeleteTopics: [20, 0, 6],
    InitProducerId: [22, 0, 4],
    AddPartitionsToTxn: [24, 0, 3],
    EndTxn: [26, 0, 3],
    DescribeConfigs: [32, 0, 4],
    IncrementalAlterConfigs: [44, 0, 1],
  },
  '4.3.0': {
    Produce: [0, 0, 13],
    Fetch: [1, 4, 18],
    ListOffsets: [2, 1, 11],
    Metadata: [3, 0, 13],
    FindCoordinator: [10, 0, 6],
    CreateTopics: [19, 2, 7],
    DeleteTopics: [20, 1, 6],
    InitProducerId: [22, 0, 5],
    AddPartitionsToTxn: [24, 0, 5],
    EndTxn: [26, 0, 5],
    DescribeConfigs: [32, 1, 4],
    IncrementalAlterConfigs: [44, 0, 1],
    DescribeTransactions: [65, 0, 0],
  },
}
/** What evert does without where a release does not have it. */
const OPTIONAL = 'DescribeTransactions'

function versionsOf(release: string): BrokerVersions {
  return new Map(Object.values(RELEASES[release] ?? {}).map(([key, min, max]) => [key, { min, max }]))
}

function chosen(versions: BrokerVersions): Record<string, number> {
  const all = Object.values(requests)
    .filter((value) => typeof value === 'object')
    .filter(({ name, key }) => name !== OPTIONAL || versions.has(key))
  return Object.fromEntries(
    all.map((request) => {
      const api: VersionedApi<never, unknown> = chooseVersion(
        request as requests.VersionedRequest<never, unknown>,
        versions,
        broker,
      )
      return [request.name, api.version]
    }),
  )
}

const ALWAYS = {
  Produce: 8,
  Fetch: 11,
  CreateTopics: 7,
  DeleteTopics: 6,
  InitProducerId: 4,
  AddPartitionsToTxn: 3,
  EndTxn: 3,
  DescribeConfigs: 4,
  IncrementalAlterConfigs: 1,
}

describe('a request', () => {
  it.each([
    ['2.8.2', { ...ALWAYS, ListOffsets: 6, Metadata: 10, FindCoordinator: 3 }],
    ['4.3.0', { ...ALWAYS, ListOffsets: 7, Metadata: 12, FindCoordinator: 4, DescribeTransactions: 0 }],
  ])('is sent to Kafka %s in the newest version that both sides speak', (release, expected) => {
    expect(chosen(versionsOf(release))).toEqual(expected)
  })

  it.each([
    ['takes 0 to 2', { min: 0, max: 2 }],
    ['takes 5 to 9', { min: 5, max: 9 }],
    ['does not know it at all', undefined],
  ])('that the broker cannot take is an error that says which: %s', (said, range) => {
    const versions: BrokerVersions = new Map(range === undefined ? [] : [[requests.findCoordinator.key, range]])
    expect(() => chooseVersion(requests.findCoordinator, versions, broker)).toThrow(
      expect.objectContaining({
        code: 'LOG_PROTOCOL',
        message: `evert sends the request FindCoordinator in version 4, 3, and broker kafka-1:9092 ${said}`,
        hint: expect.stringContaining('Kafka 2.8'),
      }),
    )
  })
})
