/** Which errors of Kafka pass by themselves, and what the others mean. */
import { EvertError } from '../../src/base/errors.js'
import { isPassing, kafkaError } from '../../src/log/kafka/errors.js'

const answered = (...codes: number[]): Error =>
  Object.assign(new Error('answer'), { errors: codes.map((apiCode) => Object.assign(new Error('code'), { apiCode })) })
const unanswered = (message: string, code = 'PLT_KFK_NETWORK'): Error =>
  Object.assign(new Error('Connection to somewhere failed.'), {
    code,
    cause: Object.assign(new Error(message), { code: 'ECONNREFUSED' }),
  })

const refused = (cause: Error): Error =>
  Object.assign(new Error('Connection to somewhere failed.'), {
    code: 'PLT_KFK_NETWORK',
    cause: Object.assign(new Error('SASL authentication failed.'), { code: 'PLT_KFK_AUTHENTICATION', cause }),
  })

describe('an error of Kafka', () => {
  it.each([
    ['a partition that is not known yet, beside one that was therefore not attempted', answered(3, 55)],
    ['a controller that has moved', answered(41)],
    ['a refused connection', unanswered('connect ECONNREFUSED 127.0.0.1:9092')],
    [
      'a refused connection to a broker with tls in its name',
      unanswered('connect ECONNREFUSED kafka-tls.ssl.example:9092'),
    ],
    [
      'a broker that goes away in a TLS handshake',
      unanswered('Client network socket disconnected before secure TLS connection was established'),
    ],
    [
      'a broker whose name sounds like a refusal, and is not known now',
      Object.assign(new Error('Connection to kafka-0.certificate.authentication.svc:9092 failed.'), {
        code: 'PLT_KFK_NETWORK',
        cause: Object.assign(new Error('getaddrinfo ENOTFOUND kafka-0.certificate.authentication.svc'), {
          code: 'ENOTFOUND',
        }),
      }),
    ],
    [
      'a connection that breaks while the client authenticates',
      refused(Object.assign(new Error('Connection closed'), { code: 'PLT_KFK_NETWORK' })),
    ],
    [
      'a token that cannot be read while the log is open',
      refused(new EvertError('LOG_AUTHENTICATION', { message: 'x cannot be read' })),
    ],
  ])('passes: %s', (_, error) => {
    expect(isPassing(error)).toBe(true)
  })

  it.each([
    ['LOG_FENCED', answered(90)],
    ['LOG_PERMISSION', answered(0, 29)],
    ['TOPIC_INVALID', answered(17)],
    ['LOG_AUTHENTICATION', refused(Object.assign(answered(58), { code: 'PLT_KFK_RESPONSE' }))],
    [
      'LOG_AUTHENTICATION',
      Object.assign(new Error('Connection to somewhere failed.'), { code: 'PLT_KFK_NETWORK', cause: answered(34) }),
    ],
    ['LOG_TLS', unanswered('self-signed certificate in certificate chain')],
    ['LOG_TLS', unanswered('error:0A00010B:SSL routines:ssl3_get_record:wrong version number')],
  ])('means %s', (code, error) => {
    expect(isPassing(error)).toBe(false)
    expect(kafkaError(error, { object: 'topic "x"' })).toMatchObject({ code })
  })
})
