/**
 * Runs the fuzz targets of test/fuzz: what reads bytes of others is fed with inputs that are changed by what they reach.
 *
 *   node dist/scripts/fuzz.js [--seconds N] [--seed N] [TARGET]…      all for 60 s in total without any; a random seed without one
 *   node dist/scripts/fuzz.js --input FILE TARGET          one input again
 *
 * TypeScript is watched with V8's coverage (test/fuzz/loop.ts), C++ with libFuzzer under the address and undefined-behaviour sanitizers, which needs
 * clang++. An input that fails is kept below build/fuzz/found. The last line is `N passed, N failed, N skipped`, a target each.
 */
import { spawn } from 'node:child_process'
import { createHash, randomInt } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { killGroup, removeGroup } from '../src/cgroup/index.ts'
import { NATIVE_TARGETS, type NativeTarget } from '../test/fuzz/native.ts'
import { KERNEL_TARGETS, TARGETS } from '../test/fuzz/targets.ts'
import { cgroupRoot, lacks } from '../test/lib/needs.ts'
import { REPOSITORY } from './files.ts'

const CLANG = '/usr/bin/clang++'
const FLAGS = ['-std=c++20', '-g', '-O1', '-fno-omit-frame-pointer']
const SANITIZERS = ['-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all']
const BUILD_MS = 600_000
/** Beyond a target's time: for its start, and for its last input. */
const GRACE_MS = 120_000
const HEAP_MIB = 512
const INPUT_BYTES_MAX = 16 * 1024
const OUTPUT_CHARACTERS_MAX = 1024 * 1024
/** Longer inputs are in the file alone. */
const SHOWN_BYTES_MAX = 4096

const BUNDLES_NEED = ['root', 'cgroup2', 'program:busybox', 'program:unshare'] as const

const found = join(REPOSITORY, 'build/fuzz/found')
const totals = { passed: 0, failed: 0, skipped: 0 }

interface Result {
  readonly ok: boolean
  readonly text: string
  readonly input?: Buffer | undefined
}

function report(name: string, { ok, text, input }: Result): void {
  totals[ok ? 'passed' : 'failed']++
  process.stdout.write(`${ok ? 'ok  ' : 'FAIL'} fuzz ${name}: ${text}\n`)
  if (input === undefined) return
  mkdirSync(found, { recursive: true })
  const file = join(
    found,
    `${name}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`,
  )
  writeFileSync(file, input)
  process.stdout.write(`     again: node dist/scripts/fuzz.js --input ${file} ${name}\n`)
  if (input.length <= SHOWN_BYTES_MAX)
    process.stdout.write(`     input: ${input.toString('base64')}\n`)
}

/** In CI what installing would cure is a failure. */
function skip(name: string, reason: string, isCurable: boolean): void {
  totals[isCurable && process.env['CI'] === 'true' ? 'failed' : 'skipped']++
  process.stdout.write(`skip fuzz ${name}: ${reason}\n`)
}

interface Ended {
  readonly code: number | null
  readonly output: string
  readonly isTooLate: boolean
}

function run(program: string, args: readonly string[], limitMs: number): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: REPOSITORY, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let isTooLate = false
    const add = (part: Buffer): void => {
      output = `${output}${part.toString()}`.slice(-OUTPUT_CHARACTERS_MAX)
    }
    child.stdout.on('data', add)
    child.stderr.on('data', add)
    const timer = setTimeout(() => {
      isTooLate = true
      child.kill('SIGKILL')
    }, limitMs)
    child.on('error', (error) => add(Buffer.from(String(error))))
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code, output, isTooLate })
    })
  })
}

// -- TypeScript ----------------------------------------------------------------------------------------------

const RUN = join(REPOSITORY, 'dist/test/fuzz/run.js')
const NODE = ['--enable-source-maps', `--max-old-space-size=${HEAP_MIB}`]

/**
 * In a mount namespace where nothing but the directory can be written to: a changed configuration may have places for a container made anywhere. /sys stays as
 * it is, since the kernel gives no new sysfs to who sees only a part of it.
 */
const ENCLOSED = `mount --bind "$1" "$1" &&
awk '{ print $5 }' /proc/self/mountinfo | while read -r place; do
  case $place in /proc|/proc/*|/sys|/sys/*|"$1") ;; *) mount -o remount,bind,ro "$place" || exit 1 ;; esac
done && TMPDIR=$1 && export TMPDIR && shift && exec "$@"`

/** run.ts with a directory for its files; what a target of containers has left in its cgroup ends with it. */
async function runScript(directory: string, args: readonly string[], ms: number): Promise<Ended> {
  const command = [process.execPath, ...NODE, RUN, ...args]
  if (!KERNEL_TARGETS.has(args[0] ?? '')) return run(process.execPath, command.slice(1), ms)
  const apart = ['--mount', '--propagation', 'private', 'sh', '-c', ENCLOSED, 'sh', directory]
  const ended = await run('unshare', [...apart, ...command], ms)
  const group = join(cgroupRoot(), basename(directory))
  if (existsSync(group)) {
    killGroup(group)
    await removeGroup(group)
  }
  return ended
}

async function fuzzScript(name: string, ms: number): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'berth-fuzz-'))
  try {
    const note = join(directory, 'note')
    const args = [name, String(ms), String(seed), note]
    const { code, output, isTooLate } = await runScript(directory, args, ms + GRACE_MS)
    if (code === 0) return { ok: true, text: output.trim() }
    const text = `${output.trim()}${isTooLate ? '\nan input does not end' : ''} (seed ${seed})`
    if (code === 1 && existsSync(note)) return { ok: false, text, input: readFileSync(note) }
    // Dead or hanging: it is one of those that were at work.
    const batch = existsSync(note) ? readFileSync(note, 'latin1').split('\n') : []
    const input = await culprit(
      name,
      batch.map((line) => Buffer.from(line, 'base64')),
      directory,
    )
    return { ok: false, text: `exit code ${code}: ${text}`, input }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function culprit(
  name: string,
  batch: readonly Buffer[],
  directory: string,
): Promise<Buffer | undefined> {
  const file = join(directory, 'input')
  for (const input of batch) {
    writeFileSync(file, input)
    const { code } = await runScript(directory, [name, file], GRACE_MS)
    if (code !== 0) return input
  }
  return undefined
}

// -- C++ -------------------------------------------------------------------------------------------------------

const programOf = (name: string): string => join(REPOSITORY, 'build/fuzz', name)

async function build(name: string, { folders }: NativeTarget): Promise<void> {
  const sources = folders.flatMap((folder) =>
    readdirSync(join(REPOSITORY, 'native', folder))
      .filter((file) => file.endsWith('.cc') && file !== 'main.cc')
      .map((file) => join(REPOSITORY, 'native', folder, file)),
  )
  mkdirSync(join(REPOSITORY, 'build/fuzz'), { recursive: true })
  const own = join(REPOSITORY, 'test/fuzz/native', `${name}.cc`)
  const args = [...FLAGS, ...SANITIZERS, own, ...sources, '-ldl', '-o', programOf(name)]
  const { code, output, isTooLate } = await run(CLANG, args, BUILD_MS)
  if (code === 0) return
  throw new Error(`fuzz ${name}: cannot be built${isTooLate ? ' in time' : ''}\n${output}`)
}

async function fuzzNative(name: string, target: NativeTarget, ms: number): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'berth-fuzz-'))
  try {
    const corpus = join(directory, 'corpus')
    mkdirSync(corpus)
    for (const [i, bytes] of target.seeds().entries())
      writeFileSync(join(corpus, `seed-${i}`), bytes)
    const seconds = Math.max(1, Math.round(ms / 1000))
    const { code, output } = await run(
      programOf(name),
      [
        `-max_total_time=${seconds}`,
        `-seed=${seed}`,
        `-artifact_prefix=${directory}/`,
        `-max_len=${INPUT_BYTES_MAX}`,
        '-timeout=60',
        `-rss_limit_mb=${2 * HEAP_MIB}`,
        '-verbosity=1',
        corpus,
      ],
      ms + GRACE_MS,
    )
    const done = /^#(\d+)\s+DONE\s+cov: (\d+).*corp: (\d+)/m.exec(output)
    if (code === 0 && done !== null) {
      return { ok: true, text: `${done[1]} inputs, ${done[3]} kept, ${done[2]} edges of code` }
    }
    const bad = readdirSync(directory).find((file) => /^(crash|leak|oom|timeout)-/.test(file))
    const input = bad === undefined ? undefined : readFileSync(join(directory, bad))
    return { ok: false, text: output.slice(-8000).trim(), input }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

// -- all ---------------------------------------------------------------------------------------------------------

async function again(name: string, file: string): Promise<Ended> {
  const native = NATIVE_TARGETS[name]
  if (native === undefined) {
    const directory = mkdtempSync(join(tmpdir(), 'berth-fuzz-'))
    try {
      return await runScript(directory, [name, resolve(file)], GRACE_MS)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }
  await build(name, native)
  return run(programOf(name), [file], GRACE_MS)
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    input: { type: 'string' },
  },
})
const seed = Number(values.seed ?? randomInt(1, 2 ** 31))
const known = [...Object.keys(TARGETS), ...Object.keys(NATIVE_TARGETS)]
const unknown = positionals.find((name) => !known.includes(name))
if (unknown !== undefined) throw new Error(`no target ${unknown}: ${known.join(', ')}`)
const [first] = positionals
if (values.input !== undefined && first !== undefined) {
  const { code, output } = await again(first, values.input)
  process.stdout.write(`${output}\n`)
  process.exitCode = code ?? 1
} else {
  const wanted = positionals.length > 0 ? positionals : known
  const hasClang = existsSync(CLANG)
  const natives = wanted.filter((name) => Object.hasOwn(NATIVE_TARGETS, name))
  const scripts = wanted.filter((name) => Object.hasOwn(TARGETS, name))
  const queue: (() => Promise<void>)[] = []
  const width = Math.min(availableParallelism(), wanted.length)
  const ms = Math.max(1000, (Number(values.seconds) * 1000 * width) / wanted.length)
  for (const name of natives) {
    const target = NATIVE_TARGETS[name]
    if (target === undefined) continue
    if (!hasClang) {
      skip(name, `needs ${CLANG} (Debian packages clang, libclang-rt-14-dev)`, true)
      continue
    }
    queue.push(async () => {
      await build(name, target)
      report(name, await fuzzNative(name, target, ms))
    })
  }
  for (const name of scripts) {
    const lack = KERNEL_TARGETS.has(name) ? BUNDLES_NEED.map(lacks).find(Boolean) : undefined
    if (lack === undefined) queue.push(async () => report(name, await fuzzScript(name, ms)))
    else skip(name, lack.reason, lack.kind === 'setup')
  }
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      try {
        await next()
      } catch (error) {
        totals.failed++
        process.stdout.write(`FAIL ${error instanceof Error ? error.message : String(error)}\n`)
      }
    }
  }
  await Promise.all(Array.from({ length: width }, worker))
  process.stdout.write(
    `${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`,
  )
  process.exitCode = totals.failed > 0 || totals.passed === 0 ? 1 : 0
}
