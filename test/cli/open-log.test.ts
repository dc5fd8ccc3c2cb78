import { parsePlace } from '../../src/cli/open-log.js'

describe('--log', () => {
  it.each([
    [
      'kafka://a:1,b',
      [
        { host: 'a', port: 1 },
        { host: 'b', port: 9092 },
      ],
    ],
    ['kafka://[::1]:9093/', [{ host: '::1', port: 9093 }]],
  ])('reads the brokers of %s', (text, brokers) => {
    expect(parsePlace(text)).toEqual({ kind: 'kafka', brokers })
  })

  it.each(['./log', '/var/lib/evert', 'file:///var/lib/evert', 'log'])('takes %s for a directory', (text) => {
    expect(parsePlace(text)).toMatchObject({ kind: 'embedded', directory: expect.stringMatching(/^\//) })
  })

  it.each(['localhost:9092', 'a:1,b:2', 'kafka://', 'kafka://a:x', 'kafka://a:70000', 'kafka://u:p@a:1', 'redis://a'])(
    'refuses %s',
    (text) => {
      expect(() => parsePlace(text)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
    },
  )
})
