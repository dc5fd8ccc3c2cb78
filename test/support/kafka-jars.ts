/** Kafka as plain jars, which Maven fetches into the cache, once for each release. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { cacheFolder } from './cache.js'

/** The newest is what most suites run on, the oldest is the oldest that evert promises. */
export type KafkaRelease = '4.3.0' | '3.9.2' | '2.8.2'

const NEWEST: KafkaRelease = '4.3.0'

/** Modules of a release. Every release gets slf4j-simple, which writes to stderr, in place of the binding it brings. */
const MODULES: Readonly<Record<KafkaRelease, readonly string[]>> = {
  '4.3.0': ['org.apache.kafka:kafka_2.13:4.3.0', 'org.apache.kafka:kafka-tools:4.3.0'],
  '3.9.2': ['org.apache.kafka:kafka_2.13:3.9.2'],
  // It names classes of log4j, whatever the binding is.
  '2.8.2': ['org.apache.kafka:kafka_2.13:2.8.2', 'ch.qos.reload4j:reload4j:1.2.25'],
}
const SIMPLE_BINDING = 'org.slf4j:slf4j-simple:1.7.36'

/** What is missing for the Kafka suites, or null. */
export function kafkaMissing(): string | null {
  if (spawnSync('java', ['-version']).status !== 0) return 'Java 17'
  return existsSync(folderOf(NEWEST)) || spawnSync('mvn', ['-version']).status === 0 ? null : 'Maven'
}

function folderOf(release: KafkaRelease): string {
  return join(cacheFolder('kafka'), release)
}

/** A class path. */
export function kafkaJars(release = NEWEST): string {
  return mavenJars(folderOf(release), MODULES[release])
}

/** A class path of modules with all they need, in a folder of the cache. A half-fetched one never gets the final name. */
export function mavenJars(folder: string, modules: readonly string[]): string {
  if (!existsSync(folder)) fetchJars(folder, modules)
  return `${folder}/*`
}

function fetchJars(folder: string, modules: readonly string[]): void {
  const work = mkdtempSync(join(dirname(folder), 'fetch-'))
  writeFileSync(join(work, 'pom.xml'), pom([...modules, SIMPLE_BINDING]))
  const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies'
  execFileSync('mvn', ['-q', '-B', '-f', join(work, 'pom.xml'), goal, `-DoutputDirectory=${join(work, 'lib')}`], {
    stdio: 'inherit',
  })
  try {
    renameSync(join(work, 'lib'), folder)
  } catch (error) {
    // Another suite was faster.
    if (!existsSync(folder)) throw error
  }
  rmSync(work, { recursive: true, force: true })
}

function pom(modules: readonly string[]): string {
  const dependencies = modules.map((module) => {
    const [group = '', artifact = '', version = ''] = module.split(':')
    return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`
  })
  return `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>evert</groupId><artifactId>test-kafka</artifactId><version>1</version><dependencies>
${dependencies.join('\n')}
</dependencies></project>`
}
