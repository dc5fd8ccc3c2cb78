import { EvertError } from '../../src/base/errors.js'
import { type ConnectionOptions, connectionOptions, describeServer } from '../../src/postgres/connection-options.js'

const read = (url: string | undefined, environment: Record<string, string> = {}): ConnectionOptions =>
  connectionOptions(url, environment, 'os')

function refusal(url: string | undefined, environment: Record<string, string> = {}): EvertError {
  try {
    read(url, environment)
  } catch (error) {
    if (error instanceof EvertError) return error
  }
  throw new Error('it was not refused')
}

describe('connection options of a URL', () => {
  it.each([
    ['postgres://h/d', [['h', 5432]]],
    ['postgresql://h/d', [['h', 5432]]],
    ['postgres://h1:5433,h2:5434/d', [['h1', 5433], ['h2', 5434]]], // prettier-ignore
    ['postgres://h1,h2:5434/d', [['h1', 5432], ['h2', 5434]]], // prettier-ignore
    ['postgres://h1,h2/d?port=6', [['h1', 6], ['h2', 6]]], // prettier-ignore
    ['postgres://[::1]:5433/d', [['::1', 5433]]],
    ['postgres://[2001:db8::1],h/d', [['2001:db8::1', 5432], ['h', 5432]]], // prettier-ignore
    ['postgres://%2Fvar%2Frun%2Fpostgresql/d', [['/var/run/postgresql', 5432]]],
    ['postgres:///d?host=/var/run/postgresql&port=5433', [['/var/run/postgresql', 5433]]],
    ['postgres:///d?host=h1,h2&port=1,2', [['h1', 1], ['h2', 2]]], // prettier-ignore
    ['postgres://h/d?host=other', [['other', 5432]]],
    ['postgres:///d', [['localhost', 5432]]],
    ['postgres://', [['localhost', 5432]]],
  ])('takes the hosts of %s', (url, hosts) => {
    expect(read(url).hosts.map(({ host, port }) => [host, port])).toEqual(hosts)
  })

  it.each([
    ['postgres://u:p@h/d', ['u', 'p', 'd']],
    ['postgres://u@h/d', ['u', null, 'd']],
    ['postgres://u@h', ['u', null, 'u']],
    ['postgres://h', ['os', null, 'os']],
    ['postgres://u%40x:p%40%3A%2F%25@h/d%20e', ['u@x', 'p@:/%', 'd e']],
    ['postgres://u:a:b@h/d', ['u', 'a:b', 'd']],
    ['postgres://h/d?user=u&password=a+b%2Bc&dbname=e', ['u', 'a+b+c', 'e']],
  ])('takes user, password and database of %s', (url, expected) => {
    const { user, password, database } = read(url)
    expect([user, password, database]).toEqual(expected)
  })

  it.each([
    ['postgres://h/d', {}, 'any'],
    ['postgres://h1,h2/d', {}, 'primary'],
    ['postgres://h1,h2/d?target_session_attrs=any', {}, 'any'],
    ['postgres://h/d', { PGTARGETSESSIONATTRS: 'prefer-standby' }, 'prefer-standby'],
  ])('of %s with %j want a server that is %s', (url, environment, target) => {
    expect(read(url, environment).target).toBe(target)
  })

  it('refuses a kind of server that libpq does not know', () => {
    expect(refusal('postgres://h/d?target_session_attrs=primay').hint).toContain('did you mean "primary"')
  })

  it('takes the parameters of TLS, time and session', () => {
    const options = read(
      'postgres://h/d?sslmode=verify-ca&sslrootcert=%2Fr.crt&sslcert=c.crt&sslkey=c.key&connect_timeout=3&application_name=app&options=-c%20search_path=a&passfile=p',
      { HOME: '/home/x' },
    )
    expect(options).toEqual({
      hosts: [{ host: 'h', port: 5432 }],
      target: 'any',
      user: 'os',
      password: null,
      passwordFile: 'p',
      database: 'd',
      tls: {
        mode: 'verify-ca',
        rootCertFile: '/r.crt',
        certFile: 'c.crt',
        keyFile: 'c.key',
        folder: '/home/x/.postgresql',
      },
      connectTimeoutMs: 3000,
      applicationName: 'app',
      sessionOptions: '-c search_path=a',
    })
  })

  it.each([
    ['postgres://h/d', 'prefer'],
    ['postgres://h/d?ssl=true', 'require'],
    ['postgres://h/d?sslmode=allow', 'allow'],
    ['postgres://h/d?sslrootcert=system', 'verify-full'],
  ])('reads the TLS mode of %s', (url, mode) => {
    expect(read(url).tls.mode).toBe(mode)
  })

  it.each([
    ['postgres://h/d', 10_000],
    ['postgres://h/d?connect_timeout=0', 0],
    ['postgres://h/d?connect_timeout=-1', 0],
    ['postgres://h/d?connect_timeout=99999999', 2 ** 31 - 1],
  ])('reads the timeout of %s', (url, timeoutMs) => {
    expect(read(url).connectTimeoutMs).toBe(timeoutMs)
  })
})

describe('connection options of the environment', () => {
  it('come from the libpq variables where there is no URL', () => {
    const options = read(undefined, {
      PGHOST: 'h1,h2',
      PGPORT: '1,2',
      PGUSER: 'u',
      PGPASSWORD: 'p',
      PGDATABASE: 'd',
      PGSSLMODE: 'require',
      PGSSLROOTCERT: 'r',
      PGSSLCERT: 'c',
      PGSSLKEY: 'k',
      PGCONNECT_TIMEOUT: '4',
      PGPASSFILE: 'f',
      PGAPPNAME: 'a',
      PGOPTIONS: '-c x=y',
    })
    expect(options).toEqual({
      hosts: [
        { host: 'h1', port: 1 },
        { host: 'h2', port: 2 },
      ],
      target: 'primary',
      user: 'u',
      password: 'p',
      passwordFile: 'f',
      database: 'd',
      tls: { mode: 'require', rootCertFile: 'r', certFile: 'c', keyFile: 'k', folder: null },
      connectTimeoutMs: 4000,
      applicationName: 'a',
      sessionOptions: '-c x=y',
    })
  })

  it('fill in what the URL leaves out, and nothing else', () => {
    const environment = { PGHOST: 'e', PGPORT: '7', PGUSER: 'e', PGPASSWORD: 'e', PGDATABASE: 'e', HOME: '/home/x' }
    expect(read('postgres://u@h', environment)).toMatchObject({
      hosts: [{ host: 'h', port: 7 }],
      user: 'u',
      password: 'e',
      database: 'e',
      passwordFile: '/home/x/.pgpass',
    })
  })

  it('count as unset where they are empty', () => {
    expect(read(undefined, { PGHOST: '', PGPASSWORD: '' })).toMatchObject({
      hosts: [{ host: 'localhost', port: 5432 }],
      password: null,
      passwordFile: null,
    })
  })
})

describe('malformed connection options', () => {
  it.each([
    ['mysql://h/d', /not a postgres:\/\/ URL/],
    ['h:5432', /not a postgres:\/\/ URL/],
    ['postgres://u:secret@ss@h/d', /not a postgres:\/\/ URL/],
    ['postgres://u:12/secret@h/d', /not a postgres:\/\/ URL/],
    ['postgres://u:secret%zz@h/d', /% that is not followed/],
    ['postgres://h:port/d', /a host is not/],
    ['postgres://::1/d', /a host is not/],
    ['postgres://h:0/d', /port/],
    ['postgres://h:65536/d', /port/],
    ['postgres://h1,h2,h3/d?port=1,2', /3 hosts and 2 ports/],
    ['postgres://h/d?sslmode=full', /sslmode "full"/],
    ['postgres://h/d?sslmode=require&sslrootcert=system', /too weak/],
    ['postgres://h/d?connect_timeout=soon', /connect_timeout/],
    ['postgres://h/d?sslmode', /no value/],
    ['postgres://h/d?ssl=perhaps', /"ssl" is not known/],
    ['postgres://u:20?secret@h/d', /a parameter is not known/],
    ['postgres://u:20?secret&x@h/d', /a parameter is not known/],
  ])('%s is refused', (url, message) => {
    const error = refusal(url)
    expect(error.code).toBe('OPTION_INVALID')
    expect(error.message).toMatch(message)
    expect(`${error.message} ${error.hint}`).not.toContain('secret')
  })

  it('names the nearest parameter for one that is not known', () => {
    expect(refusal('postgres://h/d?sslmodee=require').hint).toContain('did you mean "sslmode"?')
    expect(refusal('postgres://h/d?sslmode=verify').hint).toContain('did you mean "verify-ca"?')
    expect(refusal('postgres://h/d?channel_binding=require').hint).toMatch(/^known are host, port/)
  })
})

describe('the description of a server', () => {
  it.each([
    ['postgres://u:secret@h1,h2:5433/d', 'h1:5432,h2:5433/d'],
    ['postgres://u:secret@[::1]/d', '[::1]:5432/d'],
    ['postgres://u:secret@%2Ftmp/d', '/tmp:5432/d'],
  ])('of %s is %s', (url, text) => {
    expect(describeServer(read(url))).toBe(text)
  })
})
