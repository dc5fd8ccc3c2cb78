import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findPassword, readPassword } from '../../src/postgres/password-file.js'

const request = { host: 'h', port: 5432, database: 'd', user: 'u' }

describe('a password file', () => {
  it.each([
    ['h:5432:d:u:p', 'p'],
    ['*:*:*:*:p', 'p'],
    ['x:5432:d:u:no\nh:*:d:u:p\n*:*:*:*:late', 'p'],
    ['h:5432:d:u:p:with:colons', 'p:with:colons'],
    ['h:5432:d:u:p\\:a\\\\b', 'p:a\\b'],
    ['h:5432:d:u:p\r\n', 'p'],
    ['h:5432:d:u: p # q ', ' p # q '],
    ['#h:5432:d:u:no', null],
    ['h:5432:d:u:', null],
    ['h:5432:d:u', null],
    ['h:5433:d:u:no', null],
    ['h:5432:e:u:no', null],
    ['h:5432:d:v:no', null],
    ['', null],
  ])('%j gives %j', (text, password) => {
    expect(findPassword(text, request)).toBe(password)
  })

  it('matches names with colons and backslashes, and a star that is a name', () => {
    expect(findPassword('\\:\\:1:5432:d:u:p', { ...request, host: '::1' })).toBe('p')
    expect(findPassword('h:5432:a\\\\b:u:p', { ...request, database: 'a\\b' })).toBe('p')
    expect(findPassword('h:5432:\\*:u:p', request)).toBeNull()
  })

  it('calls the socket in a default folder localhost, and any other by its folder', () => {
    expect(findPassword('localhost:5432:d:u:p', { ...request, host: '/var/run/postgresql' })).toBe('p')
    expect(findPassword('localhost:5432:d:u:p', { ...request, host: '/srv' })).toBeNull()
    expect(findPassword('/srv:5432:d:u:p', { ...request, host: '/srv' })).toBe('p')
  })

  describe('on disk', () => {
    const folder = mkdtempSync(join(tmpdir(), 'evert-pgpass-'))
    const file = join(folder, 'pgpass')
    afterAll(() => rmSync(folder, { recursive: true }))

    it('is used where only its owner can read it', () => {
      writeFileSync(file, 'h:5432:d:u:p')
      chmodSync(file, 0o600)
      expect(readPassword(file, request)).toEqual({ password: 'p' })
      expect(readPassword(file, { ...request, user: 'v' })).toEqual({
        password: null,
        why: `${file} has no line that matches`,
      })
      chmodSync(file, 0o640)
      expect(readPassword(file, request)).toEqual({
        password: null,
        why: `${file} is not used because others may read it: chmod 600 ${file}`,
      })
    })

    it('may be missing', () => {
      expect(readPassword(null, request).password).toBeNull()
      expect(readPassword(join(folder, 'none'), request)).toEqual({
        password: null,
        why: `${join(folder, 'none')} cannot be read`,
      })
    })
  })
})
