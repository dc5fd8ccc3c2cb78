import { type ConfigSources, loadConfig } from '../../src/cli/load-config.js'
import type { Config } from '../../src/config.js'

function load(sources: Partial<ConfigSources> & { readonly file?: string }): Config {
  const { file, ...rest } = sources
  return loadConfig({
    command: 'run',
    flags: {},
    environment: {},
    readFile: (path) => (path === 'evert.yaml' ? (file ?? null) : null),
    ...rest,
  })
}

describe('configuration', () => {
  it('takes a flag before a variable before the file before the default', () => {
    const file = 'name: file\npartitions: 2\nretention: forever\n'
    const environment = { EVERT_NAME: 'variable', EVERT_PARTITIONS: '3' }
    expect(load({ flags: { name: 'flag' }, environment, file })).toMatchObject({
      name: 'flag',
      partitions: 3,
      retention: 'forever',
      compression: 'none',
      snapshot: 'initial',
    })
  })

  it.each([
    ['15m', 900_000],
    ['0ms', 0],
    ['2h', 7_200_000],
  ])('reads the duration %s', (text, ms) => {
    expect(load({ flags: { 'batch-age': text } })['batch-age']).toBe(ms)
  })

  it.each([
    ['65536', 65_536],
    ['8MiB', 8 << 20],
  ])('reads the size %s', (text, bytes) => {
    expect(load({ flags: { 'batch-bytes': text } })['batch-bytes']).toBe(bytes)
  })

  it('reads a retention as a word or a duration', () => {
    expect(load({ flags: { retention: '7d' } }).retention).toEqual({ ms: 604_800_000 })
    expect(load({ flags: { retention: 'compact' } }).retention).toBe('compact')
  })

  it.each([
    [{ flags: { tabels: 'x' } }, 'evert run has no option --tabels', 'did you mean --tables?'],
    [{ environment: { EVERT_SORCE: 'x' } }, 'the environment variable EVERT_SORCE is not known', 'EVERT_SOURCE'],
    [{ file: 'sourc: x' }, 'evert.yaml: the option sourc is not known', 'source'],
  ])('names the nearest known one for %j', (sources, message, hint) => {
    expect(() => load(sources)).toThrow(
      expect.objectContaining({ code: 'OPTION_UNKNOWN', message, hint: expect.stringContaining(hint) }),
    )
  })

  it.each([
    [{ flags: { partitions: 'many' } }],
    [{ flags: { partitions: '0' } }],
    [{ flags: { 'batch-age': '5' } }],
    [{ flags: { 'batch-bytes': '1' } }],
    [{ flags: { retention: 'always' } }],
    [{ flags: { name: 'a.b' } }],
    [{ flags: { name: '' } }],
    [{ flags: { snapshot: 'maybe' } }],
    [{ flags: { config: 'missing.yaml' } }],
    [{ file: '- a list' }],
    [{ file: 'a: : b' }],
  ])('refuses %j', (sources) => {
    expect(() => load(sources)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
  })

  it('takes a list of the file for text with commas', () => {
    expect(load({ file: "tables:\n  - public.*\n  - '!public.audit'\n" }).tables).toBe('public.*,!public.audit')
  })

  it('never repeats a secret', () => {
    const sources = { file: 'kafka-password:\n  secret: hunter2\n' }
    expect(() => load(sources)).toThrow(expect.objectContaining({ message: expect.not.stringContaining('hunter2') }))
  })

  it('lets be what Kubernetes says of a Service of its name', () => {
    const environment = { EVERT_SERVICE_HOST: '10.0.0.7', EVERT_SERVICE_PORT_METRICS: '9464', EVERT_PORT: 'tcp://10.0.0.7:9464', EVERT_PORT_9464_TCP: 'tcp://10.0.0.7:9464' } // prettier-ignore
    expect(load({ environment })).not.toHaveProperty('port')
    expect(() => load({ environment: { EVERT_PORTS: '1' } })).toThrow('EVERT_PORTS')
  })

  it('lets the variables of other commands be', () => {
    expect(load({ environment: { EVERT_TABLE: 'public.cart', EVERT_TEST_CACHE: 'x' } })).not.toHaveProperty('table')
  })
})
