/**
 * Makes the command line quick to start: one file in place of two hundred, without what a command rarely needs at its start, and V8's own
 * compiled form of it beside. bin/berth.cjs runs it.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { Script } from 'node:vm'
import { type BuildOptions, build, type Plugin } from 'esbuild'

/** The repository, seen from dist/scripts/. */
const repository = fileURLToPath(new URL('../../', import.meta.url))
// As deep as dist/src/FOLDER/: paths relative to a module lead to the same places.
const directory = `${repository}dist/src/bundle`

/** commander loads node:child_process at its start, 4 ms, for sub-commands in programs of their own: berth has none. */
const lateChildProcess: Plugin = {
  name: 'late child_process',
  setup(build) {
    build.onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes('/commander/') ? { path: 'late', namespace: 'late' } : undefined,
    )
    build.onLoad({ filter: /.*/, namespace: 'late' }, () => ({
      contents: "module.exports = { spawn: (...args) => require('child_process').spawn(...args) }",
    }))
  },
}

const common: BuildOptions = {
  absWorkingDir: repository,
  outdir: directory,
  bundle: true,
  minifyWhitespace: true,
  minifySyntax: true,
  // Names stay: they are in stack traces.
  minifyIdentifiers: false,
  platform: 'node',
  target: 'node20',
  logLevel: 'warning',
}

await build({
  ...common,
  entryPoints: { berth: 'src/main.ts' },
  // CommonJS, since only that can be run from V8's cache.
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  plugins: [lateChildProcess],
  define: { 'import.meta.url': 'berthUrl' },
  banner: { js: "const berthUrl = require('node:url').pathToFileURL(__filename).href;" },
})

await build({
  ...common,
  // Found beside the file that starts it.
  entryPoints: { 'unpack-worker': 'src/layer/unpack-worker.ts' },
  format: 'esm',
  banner: {
    js: "import { createRequire as berthRequire } from 'node:module'; const require = berthRequire(import.meta.url);",
  },
})

const path = `${directory}/berth.cjs`
const { wrapped } = createRequire(import.meta.url)(`${repository}bin/berth.cjs`) as {
  wrapped: (path: string) => string
}
// Every function, not only those that run at once. The flag is part of what V8 compares, so it must be back when the cache is made.
setFlagsFromString('--no-lazy')
const script = new Script(wrapped(path), { filename: path })
setFlagsFromString('--lazy')
writeFileSync(`${directory}/berth.cache`, script.createCachedData())
process.stdout.write(`bundle: ${Math.round(readFileSync(path).length / 1024)} KiB\n`)
