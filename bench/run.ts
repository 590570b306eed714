/**
 * How long a container takes, from the call of the program to its end: berth against runc, crun, podman and the kernel's own floor.
 *
 *   sudo node dist/bench/run.js [ROUNDS]
 *
 * All subjects take turns within each round, so that what else the machine does hits all alike; medians and ratios are printed. A
 * peer that is not installed is left out by name.
 */
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Round, type Subject, subjects, writeRootfs } from './subjects.ts'

const ROUNDS = 20
const COMMAND_LIMIT_MS = 30_000
const UNIFIED = '/sys/fs/cgroup/unified'

/** Peers want a pure cgroup v2 host: on a hybrid one they get that view in a mount namespace of their own. */
function inPureView(): boolean {
  if (existsSync('/sys/fs/cgroup/cgroup.controllers') || !existsSync(UNIFIED)) return true
  const self = [process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)]
  const script = `mount --bind ${UNIFIED} /sys/fs/cgroup && exec "$@"`
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', ...self]
  process.exitCode = spawnSync('unshare', args, { stdio: 'inherit' }).status ?? 1
  return false
}

/** What sudo leaves, as for a person's own call. With NODE_EXTRA_CA_CERTS, for one, Node reads a hundred certificates before it runs anything. */
const ENVIRONMENT = Object.fromEntries(
  ['PATH', 'HOME', 'LANG', 'TERM', 'TMPDIR'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value]]
  }),
)

/** Milliseconds of all commands of the round together. */
function measure(round: Round, env: Subject['env']): number {
  // A file, since a created container keeps its stderr: a pipe would not end with the command.
  const errors = openSync(join(tmpdir(), `berth-bench-${process.pid}.errors`), 'w+')
  try {
    const begin = performance.now()
    for (const [program = '', ...args] of round) {
      const { status, error } = spawnSync(program, args, {
        stdio: ['ignore', 'ignore', errors],
        env: { ...ENVIRONMENT, ...env },
        timeout: COMMAND_LIMIT_MS,
      })
      if (status !== 0) {
        const text = error?.message ?? readFileSync(`/proc/self/fd/${errors}`, 'utf8').trim()
        throw new Error(`${[program, ...args].join(' ')}: ${text}`)
      }
    }
    return performance.now() - begin
  } finally {
    closeSync(errors)
    rmSync(join(tmpdir(), `berth-bench-${process.pid}.errors`), { force: true })
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function compare(
  title: string,
  kind: 'run' | 'stages',
  all: readonly Subject[],
  rounds: number,
): void {
  const measured = all.flatMap((subject) => {
    const round = subject[kind]
    return round
      ? [{ name: subject.name, env: subject.env, round, times: [] as number[], failure: '' }]
      : []
  })
  for (let i = 0; i < rounds; ++i) {
    for (const subject of measured) {
      if (subject.failure !== '') continue
      try {
        subject.times.push(measure(subject.round, subject.env))
      } catch (error) {
        subject.failure = error instanceof Error ? error.message : String(error)
      }
    }
  }
  const valid = measured.filter((subject) => subject.failure === '')
  const first = valid[0]?.name === 'berth' ? undefined : valid[0]
  const base = median(first?.times ?? [])
  const berth = median(valid.find((subject) => subject.name === 'berth')?.times ?? [])
  process.stdout.write(`\n${title}, ${rounds} rounds\n`)
  process.stdout.write(row('', 'median', 'fastest', first ? `of ${first.name}` : '', 'of berth'))
  for (const { name, times, failure } of measured) {
    if (failure !== '') {
      process.stdout.write(`  ${name}: failed: ${failure}\n`)
      continue
    }
    const middle = median(times)
    const ms = (value: number) => `${value.toFixed(1)} ms`
    const ratio = (to: number) => (Number.isNaN(to) ? '' : `${(middle / to).toFixed(2)}x`)
    process.stdout.write(row(name, ms(middle), ms(Math.min(...times)), ratio(base), ratio(berth)))
  }
}

function row(name: string, ...columns: string[]): string {
  return `  ${name.padEnd(16)}${columns.map((column) => column.padStart(18)).join('')}\n`
}

/** podman leaves its parent group, and those of containers whose start failed; one that is in use stays. */
function removeGroup(directory: string): void {
  if (!existsSync(directory)) return
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroup(join(directory, entry.name))
  }
  try {
    rmdirSync(directory)
  } catch {
    // Not empty: someone else's podman uses it.
  }
}

/** podman leaves its storage mounted, more than once with several runtimes. */
function unmountBelow(directory: string): void {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(' ')[4] ?? [])
  for (const point of points.reverse()) {
    if (!point.startsWith(`${directory}/`)) continue
    spawnSync('umount', ['--lazy', point], { stdio: 'ignore' })
  }
}

function main(): void {
  const rounds = Number(process.argv[2] ?? ROUNDS)
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  try {
    mkdirSync(join(directory, 'rootfs'))
    writeRootfs(join(directory, 'rootfs'))
    const ready: Subject[] = []
    for (const subject of subjects(directory)) {
      try {
        if (subject.missing === undefined) subject.prepare?.()
        if (subject.missing === undefined) ready.push(subject)
        else process.stdout.write(`skipped ${subject.name}: ${subject.missing}\n`)
      } catch (error) {
        const reason = error instanceof Error ? error.message.trim() : String(error)
        process.stdout.write(`skipped ${subject.name}: cannot be set up: ${reason}\n`)
      }
    }
    compare('run a program that ends at once, and remove', 'run', ready, rounds)
    compare('create, start, delete', 'stages', ready, rounds)
  } finally {
    unmountBelow(directory)
    removeGroup('/sys/fs/cgroup/libpod_parent')
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

if (inPureView()) main()
