/**
 * Makes the command line quick to start: one file in place of two hundred, without what a command rarely needs at its start, and V8's own
 * compiled form of it beside. bin/berth.cjs runs it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { Script } from 'node:vm'
import { type BuildOptions, build, type Plugin } from 'esbuild'

/** The repository, seen from dist/scripts/. */
const repository = fileURLToPath(new URL('../../', import.meta.url))
// As deep as dist/src/FOLDER/: paths relative to a module lead to the same places.
const directory = `${repository}dist/src/bundle`
const require = createRequire(import.meta.url)

/**
 * Modules of Node that are loaded at their first use and not where they are imported: a command uses few of those it could, and crypto alone takes 3 ms.
 * Those that Node itself has loaded at its start (fs, path …) are not among them.
 */
const LATE = `child_process crypto dgram fs/promises http https net readline/promises stream string_decoder timers/promises tls worker_threads zlib`

const lateModules: Plugin = {
  name: 'late modules',
  setup(build) {
    const filter = new RegExp(`^node:(${LATE.replaceAll(' ', '|')})$`)
    build.onResolve({ filter }, ({ path, namespace }) =>
      namespace === 'late' ? { path, external: true } : { path, namespace: 'late' },
    )
    build.onLoad({ filter: /.*/, namespace: 'late' }, ({ path }) => ({
      contents: `for (const name of ${JSON.stringify(Object.keys(require(path) as object))})
        Object.defineProperty(exports, name, { enumerable: true, get: () => require('${path}')[name] })`,
    }))
  },
}

/** The daemon is larger than all commands together and starts rarely, as does the OCI runtime by this name: they have files of their own, loaded by bin/berth.cjs, too. */
const DAEMON = ['serve', 'config', 'debug', 'oci']
const daemonApart: Plugin = {
  name: 'daemon apart',
  setup(build) {
    const filter = new RegExp(`^\\./(${DAEMON.join('|')})\\.ts$`)
    build.onResolve({ filter }, ({ path, importer }) =>
      importer.endsWith('/cli/program.ts')
        ? { path: path.slice(2, -3), namespace: 'apart' }
        : undefined,
    )
    // The main module is bin/berth.cjs itself, and its `require` the bundle's.
    build.onLoad({ filter: /.*/, namespace: 'apart' }, ({ path }) => ({
      contents: `module.exports = require('./berth.cjs').load('${path}')`,
    }))
    build.onResolve({ filter: /^\.\/berth\.cjs$/, namespace: 'apart' }, ({ path }) => ({
      path,
      external: true,
    }))
  },
}

// V8 takes one by the length of its source: after a build that was ended half way it would be that of another.
for (const name of ['berth', 'berth-oci', ...DAEMON])
  rmSync(`${directory}/${name}.cache`, { force: true })

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

/** What V8 compiles when it is built. */
const compiled: BuildOptions = {
  ...common,
  // CommonJS, since only that can be run from V8's cache.
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  // What is not in here is required: the script of a bundle that V8 has compiled before cannot import.
  supported: { 'dynamic-import': false },
  define: { 'import.meta.url': 'berthUrl' },
  // A function, as Node makes one of a CommonJS file: bin/berth.cjs has no text to put together.
  banner: {
    js: "(function (exports, require, module, __filename, __dirname) { const berthUrl = require('node:url').pathToFileURL(__filename).href;",
  },
  footer: { js: '})' },
}

await build({
  ...compiled,
  entryPoints: { berth: 'src/main.ts', 'berth-oci': 'src/main-oci.ts' },
  plugins: [lateModules, daemonApart],
  // A sixth of the whole, for few commands: these load them from node_modules.
  external: ['fzstd', 'protobufjs', 'smol-toml', 'tar'],
})

await build({
  ...compiled,
  entryPoints: Object.fromEntries(DAEMON.map((name) => [name, `src/cli/${name}.ts`])),
  external: ['fzstd', 'tar'],
})

await build({
  ...common,
  // A thread of the daemon, for command lines; it does none of these.
  entryPoints: { front: 'src/main-front.ts' },
  plugins: [daemonApart],
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  external: ['fzstd', 'tar'],
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

/** V8's own form of every function, not only of those that run at once. */
function compile(name: string): void {
  const path = `${directory}/${name}.cjs`
  // The flag is part of what V8 compares, so it must be back when the cache is made.
  setFlagsFromString('--no-lazy')
  const script = new Script(readFileSync(path, 'latin1'), { filename: path })
  setFlagsFromString('--lazy')
  writeFileSync(`${directory}/${name}.cache`, script.createCachedData())
  process.stdout.write(`${name}: ${Math.round(readFileSync(path).length / 1024)} KiB\n`)
}

for (const name of ['berth', 'berth-oci', ...DAEMON]) compile(name)
