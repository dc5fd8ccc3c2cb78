import pg from 'pg'
import { EvertError } from '../../src/base/errors.js'
import { connectionError, queryError, sqlState } from '../../src/postgres/connection-error.js'
import { connectionOptions } from '../../src/postgres/connection-options.js'

const options = connectionOptions('postgres://u:secret@h/d', {}, 'os')
const at = { options, host: 'h', port: 5432 }

function answer(state: string, message: string): Error {
  const error = new pg.DatabaseError(message, message.length, 'error')
  error.code = state
  return error
}

function socketError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code })
}

describe('a refused connection', () => {
  it.each([
    ['57P03', 'the database system is starting up', 'POSTGRES_UNREACHABLE', /tries again/],
    ['53300', 'sorry, too many clients already', 'POSTGRES_UNREACHABLE', /max_connections/],
    [
      '53300',
      'number of requested standby connections exceeds "max_wal_senders" (currently 10)',
      'SLOTS_EXHAUSTED',
      /pg_stat_replication/,
    ],
    ['28P01', 'password authentication failed for user "u"', 'POSTGRES_AUTHENTICATION', /password/],
    ['28000', 'no pg_hba.conf entry for host "1.2.3.4"', 'POSTGRES_AUTHENTICATION', /host d u .* scram-sha-256/],
    ['3D000', 'database "d" does not exist', 'POSTGRES_AUTHENTICATION', /database/],
    [
      '42501',
      'must be superuser or replication role to start walsender',
      'REPLICATION_PERMISSION',
      /alter role "u" replication/,
    ],
    ['42501', 'permission denied to start WAL sender', 'REPLICATION_PERMISSION', /alter role "u" replication/],
    ['42501', 'permission denied for database "d"', 'POSTGRES_AUTHENTICATION', /grant connect on database "d" to "u"/],
    ['57P01', 'terminating connection', 'POSTGRES_UNREACHABLE', /^$/],
    ['42704', 'unrecognized configuration parameter "x"', 'POSTGRES_QUERY', /^$/],
  ])('with %s, %s: %s', (state, message, code, hint) => {
    const error = connectionError(answer(state, message), at)
    expect(error).toMatchObject({ code, message: `h:5432/d: ${message}` })
    expect(error.hint ?? '').toMatch(hint)
  })

  it.each([
    ['ECONNREFUSED', 'connect ECONNREFUSED', 'POSTGRES_UNREACHABLE'],
    ['ENOTFOUND', 'getaddrinfo ENOTFOUND h', 'POSTGRES_UNREACHABLE'],
    ['', 'Connection terminated unexpectedly', 'POSTGRES_UNREACHABLE'],
    ['', 'There was an error establishing an SSL connection', 'POSTGRES_UNREACHABLE'],
    [
      'ECONNRESET',
      'Client network socket disconnected before secure TLS connection was established',
      'POSTGRES_UNREACHABLE',
    ],
    ['', 'The server does not support SSL connections', 'POSTGRES_TLS'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate', 'POSTGRES_TLS'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', "Hostname/IP does not match certificate's altnames", 'POSTGRES_TLS'],
    ['', 'SASL: SCRAM-SERVER-FINAL-MESSAGE: server signature is missing', 'POSTGRES_AUTHENTICATION'],
  ])('with %s, %s: %s', (state, message, code) => {
    expect(connectionError(socketError(state, message), at)).toMatchObject({ code, message: `h:5432/d: ${message}` })
  })

  it('says how long it waited, and what every address of a host answered', () => {
    expect(connectionError(new Error('timeout expired'), at).message).toBe('h:5432/d: no answer in 10 s')
    const both = new AggregateError([
      new Error('connect ECONNREFUSED ::1'),
      new Error('connect ECONNREFUSED 127.0.0.1'),
    ])
    expect(connectionError(both, at).message).toBe('h:5432/d: connect ECONNREFUSED ::1, connect ECONNREFUSED 127.0.0.1')
  })
})

describe('a failed statement', () => {
  it.each([
    [answer('42501', 'permission denied for table t'), 'POSTGRES_PERMISSION', '42501'],
    [answer('42P01', 'relation "t" does not exist'), 'POSTGRES_QUERY', '42P01'],
    [answer('57P01', 'terminating connection due to administrator command'), 'POSTGRES_CONNECTION_LOST', '57P01'],
    [answer('53100', 'could not extend file'), 'POSTGRES_CONNECTION_LOST', '53100'],
    // A code of Node that looks like one of Postgres.
    [socketError('EPIPE', 'write EPIPE'), 'POSTGRES_CONNECTION_LOST', ''],
    [new Error('Connection terminated unexpectedly'), 'POSTGRES_CONNECTION_LOST', ''],
  ])('%s: %s', (error, code, state) => {
    const translated = queryError(error, options)
    expect(translated).toMatchObject({ code, message: `h:5432/d: ${error.message}` })
    expect(sqlState(error)).toBe(state)
    expect(sqlState(translated)).toBe(state)
  })

  it('keeps an error of ours', () => {
    const error = new EvertError('SLOT_LOST', { message: 'x' })
    expect(queryError(error, options)).toBe(error)
    expect(connectionError(error, at)).toBe(error)
  })
})
