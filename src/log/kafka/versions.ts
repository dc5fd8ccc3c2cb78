/** Versions: what a broker says that it speaks, and the choice among them. https://kafka.apache.org/protocol#api_versions */
import { type Connection, createAPI, Writer } from '@platformatic/kafka'
import { EvertError } from '../../base/errors.js'
import { answered, CODE } from './errors.js'
import type { VersionedApi } from './protocol.js'
import type { VersionedRequest } from './requests.js'

interface Range {
  readonly min: number
  readonly max: number
}

/** By the key of the request. */
export type BrokerVersions = ReadonlyMap<number, Range>

const API_VERSIONS = 18
const TAGGED = false
const COMPACT = false

/** Version 0, which every broker understands: to a newer one, an older broker answers with an error in another format. */
const apiVersions = createAPI<[], BrokerVersions>(
  API_VERSIONS,
  0,
  () => Writer.create(),
  (_correlation, _key, _version, reader) => {
    const error = reader.readInt16()
    if (error !== CODE.none) throw answered(error)
    const versions = new Map<number, Range>()
    reader.readArray(
      (entry) => versions.set(entry.readInt16(), { min: entry.readInt16(), max: entry.readInt16() }),
      COMPACT,
      TAGGED,
    )
    return versions
  },
  TAGGED,
  TAGGED,
)

export async function askVersions(connection: Connection): Promise<BrokerVersions> {
  return await apiVersions.async(connection)
}

/** The newest version that both sides speak. Errors: LOG_PROTOCOL. */
export function chooseVersion<Parameters extends unknown[], Response>(
  request: VersionedRequest<Parameters, Response>,
  versions: BrokerVersions,
  broker: { readonly host: string; readonly port: number },
): VersionedApi<Parameters, Response> {
  const range = versions.get(request.key)
  const chosen = request.versions.find(
    ({ version }) => range !== undefined && version >= range.min && version <= range.max,
  )
  if (chosen !== undefined) return chosen
  const spoken = request.versions.map(({ version }) => version).join(', ')
  const taken = range === undefined ? 'does not know it at all' : `takes ${range.min} to ${range.max}`
  throw new EvertError('LOG_PROTOCOL', {
    message: `evert sends the request ${request.name} in version ${spoken}, and broker ${broker.host}:${broker.port} ${taken}`,
    hint: 'evert works with Apache Kafka 2.8 and later: upgrade the broker, or evert where the broker is newer than it',
  })
}
