/** Dockerfile and docker-compose.yml, as far as they can be held to the code without a Docker engine. */
import { existsSync, readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { COMMANDS } from '../src/cli/commands.js'
import { loadConfig } from '../src/cli/load-config.js'

const root = new URL('../', import.meta.url)
const read = (file: string): string => readFileSync(new URL(file, root), 'utf8')

describe('docker-compose.yml', () => {
  const compose = parse(read('docker-compose.yml'))

  it('has Postgres with logical WAL, Kafka and evert, which waits until both are healthy', () => {
    const { postgres, kafka, evert } = compose.services
    expect(postgres.command).toContain('wal_level=logical')
    for (const service of [postgres, kafka]) expect(service.healthcheck.test.length).toBeGreaterThan(1)
    expect(evert.depends_on).toEqual({
      postgres: { condition: 'service_healthy' },
      kafka: { condition: 'service_healthy' },
    })
  })

  it('gives evert options that it knows', () => {
    const config = loadConfig({
      command: 'run',
      flags: {},
      environment: compose.services.evert.environment,
      readFile: () => null,
    })
    expect(config.log).toBe('kafka://kafka:19092')
    expect(config.source).toContain(`@postgres:5432/${compose.services.postgres.environment.POSTGRES_DB}`)
  })
})

describe('Dockerfile', () => {
  const lines = read('Dockerfile').split('\n')

  it('copies only what is in the repository or made by the build, and runs a command that exists as another user than root', () => {
    const copied = lines.flatMap((line) => /^COPY --from=build (.*) \S+$/.exec(line)?.[1]?.split(' ') ?? [])
    const files = copied.map((path) => path.replace('/app/', ''))
    expect(files.length).toBeGreaterThan(3)
    for (const file of files)
      expect(['node_modules', 'dist'].includes(file) || existsSync(new URL(file, root))).toBe(true)
    expect(lines).toContain('USER node')
    const [command] = JSON.parse(/^CMD (.*)$/m.exec(read('Dockerfile'))?.[1] ?? '[]')
    expect(COMMANDS.map(({ name }) => name)).toContain(command)
  })
})
