import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { TLSSocket } from 'node:tls'
import { freePort, type LocalPostgres } from '../../src/cli/local-postgres.js'
import { type Connection, connect, type ConnectRequest } from '../../src/postgres/connection.js'
import { connectionOptions } from '../../src/postgres/connection-options.js'
import { makeCertificate, startPostgres } from '../support/postgres.js'

const certificate = makeCertificate()

function isEncrypted({ socket }: Connection): boolean {
  return socket instanceof TLSSocket
}

/** A home folder without files of libpq. */
const home = mkdtempSync(join(tmpdir(), 'evert-home-'))
let server: LocalPostgres
let plain: LocalPostgres
const open: Connection[] = []

beforeAll(async () => {
  const { certFile, keyFile } = certificate
  server = await startPostgres({
    settings: { ssl: 'on', ssl_cert_file: certFile, ssl_key_file: keyFile, max_wal_senders: '1' },
    hba: [
      'host all secret all scram-sha-256',
      'hostssl all only_tls all trust',
      'hostnossl all only_tls all reject',
      'hostnossl all only_plain all trust',
      'hostssl all only_plain all reject',
      'host all nobody all reject',
    ],
  })
  plain = await startPostgres()
  const admin = await to(server)
  for (const role of ['only_tls', 'only_plain', 'nobody']) await admin.query(`create role ${role} login`)
  await admin.query(`create role secret login password 'open sesame' connection limit 1`)
  await admin.query('create role full login connection limit 0')
  await admin.query(`alter role only_plain set datestyle = 'German'`)
  await admin.query(`alter role only_plain set timezone = 'Asia/Kolkata'`)
  await admin.query(`alter role only_plain set bytea_output = 'escape'`)
  await admin.query('alter role only_plain set statement_timeout = 60000')
  await admin.query('alter role only_plain set transaction_timeout = 60000')
  await admin.close()
})

afterEach(async () => {
  for (const connection of open.splice(0)) await connection.close()
})

afterAll(async () => {
  await Promise.all([server.stop(), plain.stop()])
  rmSync(dirname(certificate.certFile), { recursive: true })
  rmSync(home, { recursive: true })
})

/** `to(server, 'user@localhost', 'sslmode=require')` */
async function to(
  postgres: { readonly port: number },
  who = 'postgres@127.0.0.1',
  parameters = '',
  request: Partial<ConnectRequest> = {},
): Promise<Connection> {
  const url = `postgres://${who}:${postgres.port}/postgres?${parameters}`
  const options = connectionOptions(url, { HOME: home }, 'nobody')
  const connection = await connect(options, { kind: 'ordinary', signal: new AbortController().signal, ...request })
  open.push(connection)
  return connection
}

const refused = (code: string, message = /./): unknown =>
  expect.objectContaining({ code, message: expect.stringMatching(message) })

describe('sslmode', () => {
  const root = `sslrootcert=${encodeURIComponent(certificate.certFile)}`

  it.each([
    ['disable', 'postgres', false],
    ['allow', 'postgres', false],
    ['allow', 'only_tls', true],
    ['prefer', 'postgres', true],
    ['prefer', 'only_plain', false],
    ['require', 'postgres', true],
    [`verify-ca&${root}`, 'postgres', true],
    [`verify-full&${root}`, 'postgres', true],
  ])('%s, as %s: encrypted is %s', async (mode, user, encrypted) => {
    const connection = await to(server, `${user}@localhost`, `sslmode=${mode}`)
    expect(isEncrypted(connection)).toBe(encrypted)
    const [row] = await connection.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()')
    expect(row).toEqual({ ssl: encrypted ? 't' : 'f' })
  })

  it.each([
    ['disable', false],
    ['allow', false],
    ['prefer', false],
  ])('%s goes without TLS where the server has none', async (mode) => {
    expect(isEncrypted(await to(plain, undefined, `sslmode=${mode}`))).toBe(false)
  })

  it.each(['require', `verify-full&${root}`])('%s insists on TLS', async (mode) => {
    await expect(to(plain, undefined, `sslmode=${mode}`)).rejects.toEqual(
      refused('POSTGRES_TLS', /does not support SSL/),
    )
  })

  it('verify-ca takes any name, verify-full only the one of the certificate', async () => {
    expect(isEncrypted(await to(server, 'postgres@127.0.0.1', `sslmode=verify-ca&${root}`))).toBe(true)
    await expect(to(server, 'postgres@127.0.0.1', `sslmode=verify-full&${root}`)).rejects.toEqual(
      refused('POSTGRES_TLS', /does not match certificate/),
    )
  })

  it.each(['verify-ca', 'verify-full'])('%s insists on an authority', async (mode) => {
    await expect(to(server, undefined, `sslmode=${mode}`)).rejects.toEqual(refused('POSTGRES_TLS', /no authority/))
    await expect(to(server, 'postgres@localhost', `sslrootcert=system`)).rejects.toEqual(
      refused('POSTGRES_TLS', /self-signed/),
    )
  })

  it('require verifies where an authority is given', async () => {
    const other = makeCertificate()
    const wrong = `sslrootcert=${encodeURIComponent(other.certFile)}`
    await expect(to(server, undefined, `sslmode=require&${wrong}`)).rejects.toEqual(
      refused('POSTGRES_TLS', /self-signed/),
    )
    expect(isEncrypted(await to(server, undefined, `sslmode=require&${root}`))).toBe(true)
    // libpq's prefer takes a failed handshake for a reason to go without.
    expect(isEncrypted(await to(server, undefined, `sslmode=prefer&${wrong}`))).toBe(false)
    rmSync(dirname(other.certFile), { recursive: true })
  })

  it('a certificate that has expired is refused, and said to have', async () => {
    const expired = makeCertificate(-1)
    const { certFile, keyFile } = expired
    const late = await startPostgres({ settings: { ssl: 'on', ssl_cert_file: certFile, ssl_key_file: keyFile } })
    const verified = `sslmode=verify-full&sslrootcert=${encodeURIComponent(certFile)}`
    await expect(to(late, 'postgres@localhost', verified)).rejects.toEqual(
      refused('POSTGRES_TLS', /certificate has expired/),
    )
    await late.stop()
    rmSync(dirname(certFile), { recursive: true })
  })

  it('finds root.crt in ~/.postgresql', async () => {
    const other = mkdtempSync(join(tmpdir(), 'evert-home-'))
    const options = connectionOptions(
      `postgres://postgres@localhost:${server.port}/postgres?sslmode=verify-full`,
      { HOME: other },
      '',
    )
    const folder = { ...options, tls: { ...options.tls, folder: other } }
    copyFileSync(certificate.certFile, join(other, 'root.crt'))
    const connection = await connect(folder, { kind: 'ordinary', signal: new AbortController().signal })
    open.push(connection)
    expect(isEncrypted(connection)).toBe(true)
    rmSync(other, { recursive: true })
  })

  it('a file that is missing, or is no certificate, is named', async () => {
    await expect(to(server, undefined, 'sslmode=require&sslrootcert=/nowhere.crt')).rejects.toEqual(
      refused('POSTGRES_TLS', /sslrootcert: \/nowhere.crt cannot be read/),
    )
    const file = join(home, 'not.crt')
    writeFileSync(file, 'hello')
    await expect(to(server, undefined, `sslmode=require&sslcert=${encodeURIComponent(file)}`)).rejects.toEqual(
      refused('POSTGRES_TLS', /certificates cannot be used/),
    )
  })

  it('counts for nothing on a Unix socket', async () => {
    const folder = encodeURIComponent(dirname(server.dataDirectory))
    const connection = await to(server, `postgres@${folder}`, 'sslmode=verify-full')
    expect(isEncrypted(connection)).toBe(false)
  })
})

describe('a password', () => {
  it('is proven by SCRAM, with and without TLS', async () => {
    for (const mode of ['disable', 'require']) {
      const connection = await to(server, 'secret:open%20sesame@localhost', `sslmode=${mode}`)
      expect(await connection.query('select current_user as role')).toEqual([{ role: 'secret' }])
      await connection.close()
    }
  })

  it('comes from the password file where none was given', async () => {
    const file = join(home, 'pgpass')
    writeFileSync(file, `127.0.0.1:${server.port}:*:secret:open sesame\n`, { mode: 0o600 })
    const connection = await to(server, 'secret@127.0.0.1', `passfile=${encodeURIComponent(file)}`)
    expect(await connection.query('select current_user as role')).toEqual([{ role: 'secret' }])
  })

  it('that is wrong or missing is an error, which does not repeat it', async () => {
    const wrong = await to(server, 'secret:guess@127.0.0.1').catch((error: unknown) => error)
    expect(wrong).toEqual(refused('POSTGRES_AUTHENTICATION', /password authentication failed/))
    expect(JSON.stringify(wrong)).not.toContain('guess')
    await expect(to(server, 'secret@127.0.0.1')).rejects.toEqual(
      expect.objectContaining({
        code: 'POSTGRES_AUTHENTICATION',
        message: expect.stringContaining('asks for the password of user "secret"'),
        hint: expect.stringContaining('/.pgpass cannot be read'),
      }),
    )
  })
})

describe('a connection', () => {
  it('has every value as text that settings of the role do not change', async () => {
    const connection = await to(server, 'only_plain@127.0.0.1')
    const [row] = await connection.query(
      `select timestamptz '2026-03-01 12:00:00.123456+02' as time, 9007199254740993::int8 as big, '{"a":1.10}'::jsonb as json,
              '\\x00ff'::bytea as bytes, true as yes, null as nothing, interval '1 day 2 hours' as duration, 0.1::float8 as float`,
    )
    expect(row).toEqual({
      time: '2026-03-01 10:00:00.123456+00',
      big: '9007199254740993',
      json: '{"a": 1.10}',
      bytes: '\\x00ff',
      yes: 't',
      nothing: null,
      duration: 'P1DT2H',
      float: '0.1',
    })
  })

  it('has no limit on the time of a statement or a transaction', async () => {
    const connection = await to(server, 'only_plain@127.0.0.1', 'options=-c%20statement_timeout=60000')
    const settings = await connection.query(
      `select name, setting from pg_settings where name in ('statement_timeout', 'transaction_timeout', 'idle_session_timeout') order by 1`,
    )
    expect(settings.map(({ setting }) => setting)).toEqual(['0', '0', '0'])
  })

  it('takes options and name of the session', async () => {
    const connection = await to(server, undefined, 'options=-c%20work_mem=8MB&application_name=shop')
    const [row] = await connection.query(
      `select current_setting('work_mem') as memory, current_setting('application_name') as name, pg_backend_pid() as pid`,
    )
    expect(row).toEqual({ memory: '8MB', name: 'shop', pid: String(connection.processId) })
  })

  it('for replication takes its commands, and only of who may replicate', async () => {
    await expect(to(server, 'only_plain@127.0.0.1', 'sslmode=disable', { kind: 'replication' })).rejects.toEqual(
      refused('REPLICATION_PERMISSION', /WAL sender/),
    )
    const limited = 'options=-c%20transaction_timeout=60000'
    const connection = await to(server, undefined, limited, { kind: 'replication' })
    expect(await connection.query('IDENTIFY_SYSTEM')).toEqual([expect.objectContaining({ dbname: 'postgres' })])
    expect(await connection.query('show transaction_timeout')).toEqual([{ transaction_timeout: '0' }])
    await expect(to(server, undefined, '', { kind: 'replication' })).rejects.toEqual(
      refused('SLOTS_EXHAUSTED', /max_wal_senders/),
    )
    await expect(to(plain, 'nobody@127.0.0.1', '', { kind: 'replication' })).rejects.toEqual(
      refused('POSTGRES_AUTHENTICATION', /role "nobody" does not exist/),
    )
  })

  it('that ends unexpectedly fails the next query, and nothing else', async () => {
    const connection = await to(server)
    const other = await to(server)
    const ended = new Promise((resolve) => connection.socket.once('close', resolve))
    await other.query(`select pg_terminate_backend(${connection.processId})`)
    await ended
    await expect(connection.query('select 1')).rejects.toEqual(refused('POSTGRES_CONNECTION_LOST'))
    await connection.close()
  })

  it('tells a refused statement from a missing right', async () => {
    const connection = await to(server, 'only_plain@127.0.0.1')
    await expect(connection.query('select * from nowhere')).rejects.toEqual(refused('POSTGRES_QUERY', /nowhere/))
    await expect(connection.query('select * from pg_authid')).rejects.toEqual(
      refused('POSTGRES_PERMISSION', /pg_authid/),
    )
  })

  it('that is refused says why', async () => {
    await expect(to(server, 'nobody@127.0.0.1')).rejects.toEqual(refused('POSTGRES_AUTHENTICATION', /pg_hba/))
    await expect(to(server, 'full@127.0.0.1')).rejects.toEqual(refused('POSTGRES_UNREACHABLE', /too many connections/))
    await expect(to(server, undefined, 'dbname=nowhere')).rejects.toEqual(refused('POSTGRES_AUTHENTICATION', /nowhere/))
    await expect(to(server, undefined, 'options=-c%20no.such')).rejects.toEqual(refused('POSTGRES_QUERY', /no.such/))
  })
})

describe('hosts', () => {
  it('are tried in turn', async () => {
    const connection = await to(server, `postgres@127.0.0.1:${await freePort()},localhost`)
    expect(connection.at.host).toBe('localhost')
  })

  it('that all fail are all named', async () => {
    const [first, second] = [await freePort(), await freePort()]
    await expect(to({ port: second }, `postgres@127.0.0.1:${first},127.0.0.1`)).rejects.toEqual(
      refused('POSTGRES_UNREACHABLE', new RegExp(`:${first}/postgres: .*REFUSED.*; .*:${second}/postgres: .*REFUSED`)),
    )
  })

  it('after one that answers and refuses are not tried', async () => {
    await expect(to(server, `nobody@127.0.0.1:${server.port},127.0.0.1`)).rejects.toEqual(
      refused('POSTGRES_AUTHENTICATION', /^(?!.*;)/),
    )
  })

  describe('that accept and do not answer', () => {
    const sockets: net.Socket[] = []
    let silent: net.Server
    let port: number

    beforeEach(async () => {
      silent = net.createServer((socket) => sockets.push(socket))
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
      port = (silent.address() as net.AddressInfo).port
    })

    afterEach(() => {
      for (const socket of sockets.splice(0)) socket.destroy()
      silent.close()
    })

    it('are given up after connect_timeout', async () => {
      await expect(to({ port }, undefined, 'connect_timeout=1')).rejects.toEqual(
        refused('POSTGRES_UNREACHABLE', /no answer in 1 s/),
      )
    })

    it('are left when the signal says so', async () => {
      const stop = new AbortController()
      silent.once('connection', () => stop.abort(new Error('stop')))
      await expect(to({ port }, undefined, 'connect_timeout=0', { signal: stop.signal })).rejects.toThrow('stop')
    })
  })
})
