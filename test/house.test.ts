/** The house rules: who may import whom, which words a folder may not say, and nothing dead, stale or from outside. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const ROOT = fileURLToPath(new URL('../', import.meta.url))

/** What each place in src/ may import besides itself: a folder, or a single file. Nothing else is allowed. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  event: ['base'],
  postgres: ['base', 'event'],
  log: ['base', 'event'],
  views: ['base', 'event', 'log/log.ts'],
  server: ['base', 'event', 'postgres', 'log', 'views', 'observer.ts'],
  'config.ts': ['base', 'config-bootstrap.ts', 'config-kafka.ts'],
  'config-bootstrap.ts': ['base'],
  'config-kafka.ts': ['base'],
  // bridge.ts and the files beside it, which join the pieces.
  top: ['base', 'event', 'postgres', 'log', 'views', 'server'],
  // The two ways in: the command line and the package.
  cli: ['base', 'event', 'postgres', 'log', 'views', 'server', 'config.ts', 'top', 'index.ts'],
  'index.ts': ['base', 'event', 'postgres', 'log', 'views', 'server', 'config.ts', 'top'],
}

const sources = filesUnder('src').filter((file) => file.endsWith('.ts'))
const imports = new Map(sources.map((file) => [file, ownImports(file)]))

/** Paths from the root, with forward slashes; what is installed or built is left out. */
function filesUnder(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
}

function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8')
}

function specifiers(file: string): string[] {
  return ts.preProcessFile(read(file), true, true).importedFiles.map(({ fileName }) => fileName)
}

/** The files of ours that a file imports, types and dynamic imports included. */
function ownImports(file: string): string[] {
  return specifiers(file)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => normalize(join(dirname(file), specifier)).replace(/\.js$/, '.ts'))
}

/** The row of MAY_IMPORT that a file of src/ belongs to. */
function place(file: string): string {
  const [first = '', ...rest] = file.replace(/^src\//, '').split('/')
  return rest.length > 0 || first in MAY_IMPORT ? first : 'top'
}

/** A cycle that starts and ends at the file, or null. */
function cycleFrom(start: string): string[] | null {
  const seen = new Set<string>()
  const walk = (file: string, path: readonly string[]): string[] | null => {
    for (const next of imports.get(file) ?? []) {
      if (next === start) return [...path, next]
      if (seen.has(next)) continue
      seen.add(next)
      const found = walk(next, [...path, next])
      if (found !== null) return found
    }
    return null
  }
  return walk(start, [start])
}

function filesThatSay(folder: string, word: RegExp): string[] {
  return sources.filter((file) => file.startsWith(`src/${folder}/`) && word.test(read(file)))
}

describe('house', () => {
  it('holds the import table', () => {
    const broken = sources.flatMap((file) =>
      (imports.get(file) ?? [])
        .filter((target) => {
          const allowed = MAY_IMPORT[place(file)] ?? []
          const inside = target.startsWith('src/') && place(target) === place(file)
          return !inside && !allowed.includes(place(target)) && !allowed.includes(target.replace(/^src\//, ''))
        })
        .map((target) => `${file} imports ${target}`),
    )
    expect(sources.length).toBeGreaterThan(0)
    expect(broken).toEqual([])
  })

  it('imports only files that exist', () => {
    const missing = [...imports].flatMap(([file, targets]) =>
      targets.filter((target) => !sources.includes(target)).map((target) => `${file} imports ${target}`),
    )
    expect(missing).toEqual([])
  })

  it('has no import cycle', () => {
    const cycles = sources.map((file) => cycleFrom(file)).filter((cycle) => cycle !== null)
    expect(cycles.map((cycle) => cycle.join(' → '))).toEqual([])
  })

  it('never names Kafka in postgres/, nor Postgres in log/', () => {
    expect(filesThatSay('postgres', /kafka/i)).toEqual([])
    expect(filesThatSay('log', /postgres|pgoutput/i)).toEqual([])
  })

  it('runs every statement of sql/, and none that is not there', () => {
    const statements = filesUnder('sql').map((file) => file.replace(/^sql\/(.*)\.sql$/, '$1'))
    const code = sources.map((file) => read(file)).join('\n')
    const asked = [...code.matchAll(/\bsql\(\s*'([^']+)'/g)].map(([, name]) => name ?? '')
    expect(statements.filter((name) => !code.includes(`'${name}'`))).toEqual([])
    expect(asked.filter((name) => !statements.includes(name))).toEqual([])
  })

  it('declares every package that it imports', () => {
    const { dependencies, optionalDependencies } = JSON.parse(read('package.json')) as Record<string, object>
    const declared = Object.keys({ ...dependencies, ...optionalDependencies })
    const used = sources.flatMap((file) =>
      specifiers(file)
        .filter((specifier) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
        .map((specifier) => specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')),
    )
    expect([...new Set(used)].filter((name) => !declared.includes(name))).toEqual([])
  })

  it('keeps every source file within 400 lines', () => {
    const long = sources.filter((file) => read(file).trimEnd().split('\n').length > 400)
    expect(long).toEqual([])
  })

  it('stands alone: no file points at a folder outside the repository', () => {
    const folders = ['src', 'test', 'sql', 'bin', 'bench', 'docs', 'scripts', '.ci']
    const topFiles = readdirSync(ROOT, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => entry.name)
    const outside = new RegExp(['(^|[^\\w.])\\/(work)\\/\\w', '\\.\\.\\/shared\\/'].join('|'), 'm')
    const found = [...folders.filter((folder) => existsSync(join(ROOT, folder))).flatMap(filesUnder), ...topFiles]
    expect(found.filter((file) => outside.test(read(file)))).toEqual([])
  })

  it('has generated pages that say what the code says', () => {
    execFileSync(process.execPath, ['scripts/docs.js', '--check'], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
  })
})
