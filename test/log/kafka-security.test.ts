/** TLS, SASL and rights: what lets evert in, and the error that says what does not. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AclOperationTypes, AclPermissionTypes, AclResourceTypes, Kafka, logLevel, ResourcePatternTypes } from 'kafkajs'
import { freePort } from '../../src/cli/local-postgres.js'
import { openKafkaLog } from '../../src/log/kafka/log.js'
import type { KafkaOptions } from '../../src/log/kafka/options.js'
import type { Log } from '../../src/log/log.js'
import { type KafkaCluster, startKafka } from '../support/kafka.js'
import { kafkaOptions } from '../support/kafka-options.js'
import { makeCertificate } from '../support/postgres.js'
import { describeKafka } from '../support/servers.js'
import { encode, event } from './records.js'

const SCRAM = 'org.apache.kafka.common.security.scram.ScramLoginModule required;'
const signal = new AbortController().signal
let kafka: KafkaCluster
let securePort: number
let caFile: string
let folder: string
const logs: Log[] = []

/** As Kafka's unsecured validator takes it: for tests only. */
function bearerToken(name: string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  return `${part({ alg: 'none' })}.${part({ sub: name, iat: now, exp: now + 600 })}.`
}

describeKafka('a secured broker', () => {
  beforeAll(async () => {
    const { certFile, keyFile } = makeCertificate()
    caFile = certFile
    folder = mkdtempSync(join(tmpdir(), 'evert-secure-'))
    const keystore = join(folder, 'keystore.pem')
    writeFileSync(keystore, readFileSync(keyFile, 'utf8') + readFileSync(certFile, 'utf8'))
    securePort = await freePort()
    kafka = await startKafka({
      secure: { port: securePort, protocol: 'SASL_SSL' },
      scram: [
        'SCRAM-SHA-256=[name=scram,password=secret]',
        'SCRAM-SHA-512=[name=scram,password=secret]',
        'SCRAM-SHA-256=[name=limited,password=secret]',
      ],
      settings: {
        'ssl.keystore.type': 'PEM',
        'ssl.keystore.location': keystore,
        'listener.name.secure.sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER',
        'listener.name.secure.plain.sasl.jaas.config':
          'org.apache.kafka.common.security.plain.PlainLoginModule required user_plain="secret";',
        'listener.name.secure.scram-sha-256.sasl.jaas.config': SCRAM,
        'listener.name.secure.scram-sha-512.sasl.jaas.config': SCRAM,
        'listener.name.secure.oauthbearer.sasl.jaas.config':
          'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;',
        'listener.name.secure.oauthbearer.sasl.server.callback.handler.class':
          'org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler',
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        'super.users': 'User:ANONYMOUS;User:plain;User:scram;User:bearer',
      },
    })
  })

  afterEach(async () => {
    for (const log of logs.splice(0)) await log.close()
  })

  afterAll(async () => {
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  function options(over: Partial<KafkaOptions> = {}): KafkaOptions {
    return kafkaOptions(`localhost:${securePort}`, {
      tls: { caFile, certFile: null, keyFile: null },
      sasl: { mechanism: 'PLAIN', username: 'plain', password: 'secret' },
      topics: { partitions: 1, replicationFactor: -1, retention: 'compact' },
      ...over,
    })
  }

  /** One event through the whole way: topic, transaction, reading back. */
  async function roundTrip(name: string, over: Partial<KafkaOptions>): Promise<string> {
    const log = await openKafkaLog(options(over))
    logs.push(log)
    const topic = `${name}.public.item`
    await log.createTopics([{ name: topic, keyed: true }])
    const writer = await log.openWriter({ name, signal })
    writer.sink.append(await writer.sink.topic({ name: topic, keyed: true }), encode(event('{"id":1}', 'in')))
    await writer.append(writer.cut(), new Map([['end', Buffer.from('1')]]))
    await writer.close()
    for await (const record of log.read({ topic, partition: 0, from: 0n, signal })) return String(record.value)
    return ''
  }

  it.each<NonNullable<KafkaOptions['sasl']>>([
    { mechanism: 'PLAIN', username: 'plain', password: 'secret' },
    { mechanism: 'SCRAM-SHA-256', username: 'scram', password: 'secret' },
    { mechanism: 'SCRAM-SHA-512', username: 'scram', password: 'secret' },
    { mechanism: 'OAUTHBEARER', token: bearerToken('bearer') },
    { mechanism: 'OAUTHBEARER', token: () => bearerToken('bearer') },
  ])('lets $mechanism in over TLS', async (sasl) => {
    expect(await roundTrip(sasl.mechanism.toLowerCase(), { sasl })).toBe('in')
  })

  it.each<NonNullable<KafkaOptions['sasl']>>([
    { mechanism: 'PLAIN', username: 'plain', password: 'wrong' },
    { mechanism: 'SCRAM-SHA-256', username: 'scram', password: 'wrong' },
    { mechanism: 'OAUTHBEARER', token: 'not.a.token' },
  ])('refuses wrong credentials of $mechanism, and the error has none of them', async (sasl) => {
    const refused = roundTrip('refused', { sasl })
    await expect(refused).rejects.toMatchObject({ code: 'LOG_AUTHENTICATION' })
    await refused.catch((error: Error) => expect(JSON.stringify([error.message, error])).not.toMatch(/wrong|not\.a/))
  })

  it('is not spoken to without its certificate being known', async () => {
    const tls = { caFile: null, certFile: null, keyFile: null }
    await expect(roundTrip('unknown', { tls })).rejects.toMatchObject({ code: 'LOG_TLS' })
  })

  it('is not reached without TLS, nor a plain one with it', async () => {
    await expect(roundTrip('plain', { tls: null })).rejects.toMatchObject({
      code: expect.stringMatching(/LOG_TLS|LOG_UNREACHABLE|LOG_AUTHENTICATION/),
    })
    const [host = '', port = ''] = kafka.bootstrap.split(':')
    const brokers = [{ host, port: Number(port) }]
    await expect(roundTrip('plain', { brokers, sasl: null })).rejects.toMatchObject({
      code: 'LOG_UNREACHABLE',
      message: expect.stringContaining('TLS'),
      hint: expect.stringContaining('--kafka-tls'),
    })
  })

  it('asks for the rights that are missing, one after the other', async () => {
    const sasl = { mechanism: 'SCRAM-SHA-256', username: 'limited', password: 'secret' } as const
    const trip = (): Promise<string> => roundTrip('limited', { sasl })
    await expect(trip()).rejects.toMatchObject({ code: 'LOG_PERMISSION', message: expect.stringContaining('topic') })
    await allow(AclResourceTypes.TOPIC)
    await expect(trip()).rejects.toMatchObject({
      code: 'LOG_PERMISSION',
      message: expect.stringContaining('transactional id "limited"'),
    })
    await allow(AclResourceTypes.TRANSACTIONAL_ID)
    expect(await trip()).toBe('in')
  })

  async function allow(resourceType: AclResourceTypes): Promise<void> {
    const admin = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING }).admin()
    await admin.connect()
    await admin.createAcls({
      acl: [
        {
          resourceType,
          resourceName: 'limited',
          resourcePatternType: ResourcePatternTypes.PREFIXED,
          principal: 'User:limited',
          host: '*',
          operation: AclOperationTypes.ALL,
          permissionType: AclPermissionTypes.ALLOW,
        },
      ],
    })
    await admin.disconnect()
  }
})

describeKafka('a broker that asks for a certificate', () => {
  let pem: ReturnType<typeof makeCertificate>

  beforeAll(async () => {
    pem = makeCertificate()
    folder = mkdtempSync(join(tmpdir(), 'evert-secure-'))
    const keystore = join(folder, 'keystore.pem')
    writeFileSync(keystore, readFileSync(pem.keyFile, 'utf8') + readFileSync(pem.certFile, 'utf8'))
    securePort = await freePort()
    kafka = await startKafka({
      secure: { port: securePort, protocol: 'SSL' },
      settings: {
        'ssl.keystore.type': 'PEM',
        'ssl.keystore.location': keystore,
        'ssl.truststore.type': 'PEM',
        'ssl.truststore.location': pem.certFile,
        'listener.name.secure.ssl.client.auth': 'required',
      },
    })
  })

  afterAll(async () => {
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const topics = async (files: {
    readonly certFile: string | null
    readonly keyFile: string | null
  }): Promise<unknown> => {
    const log = await openKafkaLog(kafkaOptions(`localhost:${securePort}`, { tls: { caFile: pem.certFile, ...files } }))
    return await log.topics('x.').finally(() => log.close())
  }

  it('lets one in that it knows', async () => {
    expect(await topics(pem)).toEqual([])
  })

  it('is not taken for one that does not answer where there is none, or a wrong one', async () => {
    for (const files of [{ certFile: null, keyFile: null }, makeCertificate()])
      await expect(topics(files)).rejects.toMatchObject({
        code: 'LOG_TLS',
        hint: expect.stringContaining('--kafka-cert-file'),
      })
  })
})

describeKafka('a broker that is killed while it is authenticated to', () => {
  it('is one that does not answer, and no end of the process', async () => {
    let connections = 0
    const server = createServer((socket) => {
      connections++
      socket.once('data', () => socket.resetAndDestroy())
      socket.on('error', () => undefined)
    })
    const port = await freePort()
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    const log = await openKafkaLog(
      kafkaOptions(`127.0.0.1:${port}`, { sasl: { mechanism: 'PLAIN', username: 'plain', password: 'secret' } }),
    )
    await expect(log.topics('x.')).rejects.toMatchObject({ code: 'LOG_UNREACHABLE' })
    expect(connections).toBeGreaterThan(1)
    await log.close()
    server.close()
  })
})

describeKafka('no broker at all', () => {
  it('is said, with the addresses that were tried', async () => {
    const port = await freePort()
    const opened = openKafkaLog(kafkaOptions(`127.0.0.1:${port}`)).then((log) => {
      logs.push(log)
      return log.topics('x.')
    })
    await expect(opened).rejects.toMatchObject({
      code: 'LOG_UNREACHABLE',
      message: expect.stringContaining(`127.0.0.1:${port}`),
    })
  })
})
