/** The programs that are measured: how each is set up, and the commands of one round. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { helloEntries } from '../rootfs/hello.ts'

/** The repository, seen from dist/bench/. */
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
const IMAGE = join(REPOSITORY, 'dist/rootfs/images/hello')
const PROGRAM = '/bin/true'

/** Commands that are run one after the other; all of them together are one measurement. */
export type Round = readonly (readonly string[])[]

export interface Subject {
  readonly name: string
  /** undefined: not measured, for this reason. */
  readonly missing?: string
  readonly prepare?: () => void
  readonly env?: Readonly<Record<string, string>>
  readonly run?: Round
  readonly stages?: Round
}

/** All subjects, with their files below the directory. */
export function subjects(directory: string): Subject[] {
  const rootfs = join(directory, 'rootfs')
  const env = canRaiseLimits() ? {} : preload(directory)
  return [
    floor(directory, rootfs),
    berth(directory),
    { ...oci('crun', directory, rootfs), env },
    oci('runc', directory, rootfs),
    podman('crun', directory, env),
    podman('runc', directory, {}),
  ]
}

/** The built-in image's tree, for those that take a directory. */
export function writeRootfs(directory: string): void {
  for (const entry of helloEntries()) {
    const path = join(directory, String(entry.name))
    if (entry.type === 'directory') mkdirSync(path, { recursive: true })
    else if (entry.type === undefined)
      writeFileSync(path, entry.content ?? '', { mode: entry.mode ?? 0o644 })
    else
      writeFileSync(path, helloEntries().find((e) => e.name === 'bin/probe')?.content ?? '', {
        mode: 0o755,
      })
  }
}

function floor(directory: string, rootfs: string): Subject {
  const at = (name: string) => join(directory, 'floor', name)
  return {
    name: 'kernel floor',
    ...(has('g++') ? {} : { missing: 'g++ is not installed' }),
    prepare: () => {
      for (const name of ['upper', 'work', 'target']) mkdirSync(at(name), { recursive: true })
      quiet(
        'g++',
        '-O2',
        '-static',
        '-std=c++20',
        join(REPOSITORY, 'bench/floor.cc'),
        '-o',
        at('floor'),
      )
    },
    run: [[at('floor'), rootfs, at('upper'), at('work'), at('target'), PROGRAM]],
  }
}

function berth(directory: string): Subject {
  const command = [
    process.execPath,
    join(REPOSITORY, 'bin/berth.cjs'),
    ...['--root', join(directory, 'berth/root'), '--state', join(directory, 'berth/state')],
  ]
  const [node = '', ...first] = command
  return {
    name: 'berth',
    // The first run unpacks the image.
    prepare: () => quiet(node, ...first, 'run', '--rm', '--net', 'none', 'hello', PROGRAM),
    run: [[...command, 'run', '--rm', '--net', 'none', 'hello', PROGRAM]],
    stages: [
      [...command, 'create', '--name', 'bench', '--net', 'none', 'hello', PROGRAM],
      [...command, 'start', 'bench'],
      [...command, 'rm', '--force', 'bench'],
    ],
  }
}

function oci(name: string, directory: string, rootfs: string): Subject {
  const bundle = join(directory, name)
  const state = ['--root', join(directory, `${name}-state`)]
  return {
    name,
    ...(has(name) ? {} : { missing: `${name} is not installed` }),
    prepare: () => {
      mkdirSync(bundle, { recursive: true })
      execFileSync(name, ['spec'], { cwd: bundle })
      execFileSync(process.execPath, [
        '-e',
        EDIT_SPEC,
        join(bundle, 'config.json'),
        rootfs,
        PROGRAM,
      ])
    },
    run: [[name, ...state, 'run', '--bundle', bundle, 'bench']],
    stages: [
      [name, ...state, 'create', '--bundle', bundle, 'bench'],
      [name, ...state, 'start', 'bench'],
      [name, ...state, 'delete', '--force', 'bench'],
    ],
  }
}

const EDIT_SPEC = `
const fs = require('fs'), [path, root, program] = process.argv.slice(1)
const spec = JSON.parse(fs.readFileSync(path, 'utf8'))
spec.process.terminal = false
spec.process.args = [program]
delete spec.process.rlimits // Raising a limit needs CAP_SYS_RESOURCE, which root of a guest may lack.
spec.root = { path: root, readonly: true }
fs.writeFileSync(path, JSON.stringify(spec))`

function podman(
  runtime: string,
  directory: string,
  env: Readonly<Record<string, string>>,
): Subject {
  const own = join(directory, `podman-${runtime}`)
  const command = [
    'podman',
    ...[
      '--root',
      join(own, 'root'),
      '--runroot',
      join(own, 'run'),
      '--runtime',
      join(own, runtime),
    ],
    ...['--cgroup-manager', 'cgroupfs', '--storage-driver', 'overlay'],
  ]
  // No limits, neither of processes nor of files: the host may have no pids controller and no CAP_SYS_RESOURCE.
  const options = ['--network', 'none', '--pids-limit', '-1', ...ownLimits()]
  const missing = [runtime, 'podman', 'conmon'].find((program) => !has(program))
  return {
    name: `podman, ${runtime}`,
    ...(missing ? { missing: `${missing} is not installed` } : {}),
    prepare: () => {
      mkdirSync(own, { recursive: true })
      // conmon does not hand the environment on.
      const settings = Object.entries(env).map(([name, value]) => `${name}=${value} `)
      const script = `#!/bin/sh\n${settings.join('')}exec ${runtime} "$@"\n`
      writeFileSync(join(own, runtime), script, { mode: 0o755 })
      const id = quiet(
        command[0] ?? '',
        ...command.slice(1),
        'pull',
        '--quiet',
        `oci:${IMAGE}:hello:latest`,
      )
      quiet(command[0] ?? '', ...command.slice(1), 'tag', id.trim(), 'localhost/hello:latest')
    },
    run: [[...command, 'run', '--rm', ...options, 'localhost/hello:latest', PROGRAM]],
    stages: [
      [...command, 'create', '--name', 'bench', ...options, 'localhost/hello:latest', PROGRAM],
      [...command, 'start', 'bench'],
      [...command, 'rm', '--force', 'bench'],
    ],
  }
}

/** podman's own defaults are above what a root without CAP_SYS_RESOURCE may ask for. */
function ownLimits(): string[] {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const files = /^Max open files +\S+ +(\d+)/m.exec(limits)?.[1]
  return files ? ['--ulimit', `nofile=${files}:${files}`, '--ulimit', 'nproc=1024:1024'] : []
}

const CAP_SYS_RESOURCE = 24n

function canRaiseLimits(): boolean {
  const bits = /^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return ((BigInt(`0x${bits ?? '0'}`) >> CAP_SYS_RESOURCE) & 1n) === 1n
}

function preload(directory: string): Record<string, string> {
  if (!has('g++') || !has('crun')) return {}
  const library = join(directory, 'rlimit.so')
  quiet('g++', '-O2', '-shared', '-fPIC', join(REPOSITORY, 'bench/rlimit.cc'), '-o', library)
  return { LD_PRELOAD: library }
}

function has(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((d) => existsSync(join(d, program)))
}

function quiet(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}
