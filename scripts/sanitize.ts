/**
 * Runs tests against builds of the monitor (and the code between clone and exec) and of the front with the address and undefined-behaviour sanitizers.
 *
 *   sudo node dist/scripts/sanitize.js [KIND | FILE]…      kernel tests without any
 *
 * The last line is the runner's. A report of a sanitizer is a failure, whatever the tests say.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { REPOSITORY } from './files.ts'

const FLAGS = ['-std=c++20', '-g', '-O1', '-fno-omit-frame-pointer', '-fno-exceptions', '-fno-rtti']
// Not static, unlike the real one: the sanitizers need the loader.
const SANITIZERS = [
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-static-libasan',
  '-static-libubsan',
]

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

function build(name: string, folders: readonly string[]): string {
  // As deep as build/Release: the front finds its package from there.
  const directory = join(REPOSITORY, 'build/Sanitized')
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'options.cc'), options(reports))
  const sources = folders.flatMap((folder) =>
    readdirSync(join(REPOSITORY, 'native', folder))
      .filter((name) => name.endsWith('.cc'))
      .map((name) => join(REPOSITORY, 'native', folder, name)),
  )
  const program = join(directory, name)
  const args = [...FLAGS, ...SANITIZERS, ...sources, join(directory, 'options.cc'), '-o', program]
  execFileSync('g++', args, { stdio: 'inherit' })
  return program
}

const reports = mkdtempSync(join(tmpdir(), 'berth-sanitize-'))
const monitor = build('berth-monitor', ['common', 'init', 'monitor'])
const front = build('berth-front', ['front'])
const names = process.argv.length > 2 ? process.argv.slice(2) : ['kernel']
const tests = spawnSync(process.execPath, [join(REPOSITORY, 'dist/scripts/test.js'), ...names], {
  env: { ...process.env, BERTH_MONITOR: monitor, BERTH_ONCE: monitor, BERTH_TEST_PROGRAM: front },
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
