/**
 * Runs tests against builds of the monitor (and the code between clone and exec) and of the front with the address and undefined-behaviour sanitizers.
 *
 *   sudo node dist/scripts/sanitize.js [KIND | FILE]…      kernel tests without any
 *   sudo node dist/scripts/sanitize.js --addon FILE…       the addon's part in layers instead: decoders, their threads, files and attributes
 *
 * The last line is the runner's. A report of a sanitizer is a failure, whatever the tests say.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { REPOSITORY } from './files.ts'

const FLAGS = ['-std=c++20', '-g', '-O1', '-fno-omit-frame-pointer', '-fno-exceptions', '-fno-rtti']
const SANITIZE = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all']
// Not static, unlike the real one: the sanitizers need the loader.
const SANITIZERS = [...SANITIZE, '-static-libasan', '-static-libubsan']

/**
 * The monitor is started with an empty environment and with its stderr on /dev/null, so what sanitizers would be told by variables is
 * compiled in. Leaks are not looked for: the monitor's children end by exec or _exit, with all they hold.
 */
function options(reports: string): string {
  const text = `detect_leaks=0:exitcode=99:log_path=${reports}/report`
  return ['asan', 'ubsan']
    .map((name) => `extern "C" const char* __${name}_default_options() { return "${text}"; }\n`)
    .join('')
}

function sourcesOf(folder: string): string[] {
  return readdirSync(join(REPOSITORY, 'native', folder))
    .filter((name) => name.endsWith('.cc'))
    .map((name) => basename(name, '.cc'))
}

async function build(name: string, folders: readonly string[]): Promise<string> {
  // As deep as build/Release: the front finds its package from there.
  const directory = join(REPOSITORY, 'build/Sanitized')
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'options.cc'), options(reports))
  const sources = folders.flatMap((folder) =>
    sourcesOf(folder).map((name) => join(REPOSITORY, 'native', folder, `${name}.cc`)),
  )
  const program = join(directory, name)
  const args = [...FLAGS, ...SANITIZERS, ...sources, join(directory, 'options.cc'), '-o', program]
  await promisify(execFile)('g++', args)
  return program
}

/** What of the addon meets an archive's bytes; the rest of it comes from build/Release, since all would take a minute to compile. */
const OF_LAYERS = ['addon/ahead', 'addon/decoder', 'addon/file', 'addon/work', 'addon/xattr']

/** The addon with OF_LAYERS and native/layer/ instrumented, and what has Node load it in place of its own: the environment of the tests. */
async function buildAddon(): Promise<Record<string, string>> {
  const directory = join(REPOSITORY, 'build/Sanitized')
  mkdirSync(directory, { recursive: true })
  const sources = sourcesOf('layer')
    .map((name) => `layer/${name}`)
    .concat(OF_LAYERS)
  // Its first line is a comment.
  const gyp = readFileSync(join(REPOSITORY, 'build/config.gypi'), 'utf8').replace(/^#.*\n/, '')
  const { nodedir } = JSON.parse(gyp).variables as { nodedir: string }
  const flags = [
    ...['-std=c++20', '-g1', '-O1', '-fno-omit-frame-pointer', '-fPIC', ...SANITIZE],
    ...['-DNAPI_VERSION=8', '-DNODE_ADDON_API_CPP_EXCEPTIONS'],
    '-DNODE_ADDON_API_REQUIRE_BASIC_FINALIZERS',
    ...['-I', join(nodedir, 'include/node'), '-I', join(REPOSITORY, 'node_modules/node-addon-api')],
  ]
  const object = (source: string): string => join(directory, `${basename(source)}.o`)
  await Promise.all(
    sources.map((source) => {
      const file = join(REPOSITORY, 'native', `${source}.cc`)
      return promisify(execFile)('g++', [...flags, '-c', file, '-o', object(source)])
    }),
  )
  const others = sourcesOf('addon')
    .filter((name) => !OF_LAYERS.includes(`addon/${name}`))
    .map((name) => join(REPOSITORY, 'build/Release/obj.target/berth/native/addon', `${name}.o`))
  const addon = join(directory, 'berth.node')
  const objects = [...sources.map(object), ...others]
  execFileSync('g++', ['-shared', ...SANITIZE, ...objects, '-o', addon], { stdio: 'inherit' })
  const preload = join(directory, 'addon.cjs')
  writeFileSync(
    preload,
    `const { dlopen } = process
process.dlopen = (module, file) => dlopen(module, file.endsWith('/build/Release/berth.node') ? ${JSON.stringify(addon)} : file)
`,
  )
  const library = (name: string): string =>
    execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim()
  const options = `detect_leaks=0:exitcode=99:log_path=${reports}/report`
  return {
    // Node itself is not instrumented, so nothing else would have it loaded first.
    LD_PRELOAD: `${library('libasan.so')}:${library('libubsan.so')}`,
    NODE_OPTIONS: `--require=${preload}`,
    ASAN_OPTIONS: options,
    UBSAN_OPTIONS: options,
  }
}

async function buildPrograms(): Promise<Record<string, string>> {
  const [monitor, front] = await Promise.all([
    build('berth-monitor', ['common', 'init', 'monitor']),
    build('berth-front', ['front']),
  ])
  return { BERTH_MONITOR: monitor, BERTH_ONCE: monitor, BERTH_TEST_PROGRAM: front }
}

const reports = mkdtempSync(join(tmpdir(), 'berth-sanitize-'))
const given = process.argv.slice(2)
const isAddon = given[0] === '--addon'
const names = isAddon ? given.slice(1) : given.length > 0 ? given : ['kernel']
const environment = isAddon ? await buildAddon() : await buildPrograms()
const tests = spawnSync(process.execPath, [join(REPOSITORY, 'dist/scripts/test.js'), ...names], {
  env: { ...process.env, ...environment },
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
  maxBuffer: 256 * 1024 * 1024,
})
const [, before = '', passed = '0', failed = '1', skipped = '0'] =
  /^([\s\S]*?)(\d+) passed, (\d+) failed, (\d+) skipped\n$/.exec(tests.stdout) ?? []
process.stdout.write(before)
const found = readdirSync(reports)
for (const name of found) process.stdout.write(`${readFileSync(join(reports, name), 'utf8')}\n`)
rmSync(reports, { recursive: true })
const failures = Number(failed) + found.length
process.stdout.write(`${passed} passed, ${failures} failed, ${skipped} skipped\n`)
process.exitCode = failures > 0 ? 1 : 0
