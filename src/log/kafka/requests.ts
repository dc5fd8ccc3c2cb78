/**
 * Requests: what evert asks of brokers, each in the versions that it speaks. A version is listed where it says more than the one before,
 * or where some release since Kafka 2.8 has no other. https://kafka.apache.org/protocol#protocol_messages
 */
import {
  addPartitionsToTxnV3,
  createAPI,
  createTopicsV7,
  deleteTopicsV6,
  describeConfigsV4,
  describeTransactionsV0,
  endTxnV3,
  findCoordinatorV4,
  incrementalAlterConfigsV1,
  initProducerIdV4,
  listOffsetsV6,
  listOffsetsV7,
  metadataV10,
  metadataV12,
  metadataV9,
  type Reader,
  ResponseError,
  Writer,
} from '@platformatic/kafka'
import { answered, CODE } from './errors.js'
import { fetchV11, produceV8, type VersionedApi } from './protocol.js'

/** One request in all versions that evert speaks, the newest first. They take the same parameters and give the same response. */
export interface VersionedRequest<Parameters extends unknown[], Response> {
  /** As Kafka's documentation calls it. */
  readonly name: string
  readonly key: number
  readonly versions: readonly VersionedApi<Parameters, Response>[]
}

function inVersions<Parameters extends unknown[], Response>(
  name: string,
  newest: VersionedApi<Parameters, Response>,
  ...older: readonly VersionedApi<Parameters, Response>[]
): VersionedRequest<Parameters, Response> {
  return { name, key: newest.key, versions: [newest, ...older] }
}

/** What stands for a topic's id where there is none: before version 10, and in clusters whose brokers still talk an older protocol. */
export const NO_TOPIC_ID = '00000000-0000-0000-0000-000000000000'

export type MetadataResponse = ReturnType<typeof metadataV12.parseResponse>

type MetadataApi = VersionedApi<[topics: string[] | null], MetadataResponse>
type ClientsMetadata = Pick<typeof metadataV12, 'createRequest' | 'parseResponse'> & {
  readonly api: Pick<MetadataApi, 'key' | 'version'>
}

const FIRST_WITH_IDS = 10

/**
 * A partition that has no leader comes with an error, and with -1 as its leader. The client makes an error of the whole response of it, which
 * tells of all other topics, too: of a list, those of strangers.
 */
function metadataIn({ api, createRequest, parseResponse }: ClientsMetadata): MetadataApi {
  return createAPI(api.key, api.version, createRequest, (...received) => {
    const response = evenLeaderless(() => parseResponse(...received))
    if (api.version >= FIRST_WITH_IDS) return response
    // The client puts the name in the place of the id.
    return { ...response, topics: response.topics.map((topic) => ({ ...topic, topicId: NO_TOPIC_ID })) }
  })
}

function evenLeaderless(parse: () => MetadataResponse): MetadataResponse {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof ResponseError) || !error.errors.every(isOfPartition)) throw error
    return error['response'] as MetadataResponse
  }
}

/** The client says where in the response an error was: `/topics/0/partitions/2`. */
function isOfPartition(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'path' in error && String(error.path).includes('/partitions/')
}

type FindCoordinatorResponse = ReturnType<typeof findCoordinatorV4.parseResponse>

/** Before Kafka 3.0, for one key at a time. https://kafka.apache.org/protocol#The_Messages_FindCoordinator */
const findCoordinatorV3 = createAPI<[keyType: number, keys: string[]], FindCoordinatorResponse>(
  findCoordinatorV4.api.key,
  3,
  (keyType: number, [key = '']: string[]) => Writer.create().appendString(key).appendInt8(keyType).appendTaggedFields(),
  (_correlation, _key, _version, reader) => readCoordinatorV3(reader),
)

function readCoordinatorV3(reader: Reader): FindCoordinatorResponse {
  const throttleTimeMs = reader.readInt32()
  const errorCode = reader.readInt16()
  const errorMessage = reader.readNullableString()
  if (errorCode !== CODE.none) throw answered(errorCode)
  const place = { nodeId: reader.readInt32(), host: reader.readString(), port: reader.readInt32() }
  return { throttleTimeMs, coordinators: [{ key: '', ...place, errorCode, errorMessage }] }
}

/** Version 11 is left out: the client writes and reads a field of it that is no longer there. */
export const metadata = inVersions('Metadata', metadataIn(metadataV12), metadataIn(metadataV10), metadataIn(metadataV9))
export const findCoordinator = inVersions('FindCoordinator', findCoordinatorV4.api, findCoordinatorV3)
export const listOffsets = inVersions('ListOffsets', listOffsetsV7.api, listOffsetsV6.api)
export const createTopics = inVersions('CreateTopics', createTopicsV7.api)
export const deleteTopics = inVersions('DeleteTopics', deleteTopicsV6.api)
export const describeConfigs = inVersions('DescribeConfigs', describeConfigsV4.api)
export const incrementalAlterConfigs = inVersions('IncrementalAlterConfigs', incrementalAlterConfigsV1.api)
export const initProducerId = inVersions('InitProducerId', initProducerIdV4.api)
/** From version 4 on it is for brokers among themselves. */
export const addPartitionsToTransaction = inVersions('AddPartitionsToTxn', addPartitionsToTxnV3.api)
export const endTransaction = inVersions('EndTxn', endTxnV3.api)
/** Since Kafka 3.0. */
export const describeTransactions = inVersions('DescribeTransactions', describeTransactionsV0.api)
export const produce = inVersions('Produce', produceV8)
export const fetch = inVersions('Fetch', fetchV11)
