/** The programs that people type: how each is set up, with its files below a directory of the bench and, where it has a state that ends with the machine, on a tmpfs, as in /run. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { eventually } from '../test/lib/eventually.ts'
import { REPOSITORY } from '../test/lib/images.ts'
import { lacks } from '../test/lib/needs.ts'
import { COMMAND_LIMIT_MS } from './commands.ts'
import { linkFront, startDaemon } from './daemon.ts'
import { ENVIRONMENT, TMPFS } from './world.ts'

/** An engine whose `run`, `create`, `start`, `wait`, `exec`, `rm` and `load` are docker's. */
export interface Engine {
  readonly name: string
  /** undefined: not measured, for this reason. */
  readonly missing: string | undefined
  readonly command: readonly string[]
  /** Of `run` and `create`: no network, and what the host cannot give left out. */
  readonly options: readonly string[]
  readonly image: string
  readonly start?: () => Promise<void>
  readonly stop?: () => Promise<void>
}

/** `name` is the image that an archive loaded with `load` gives. */
export function engines(directory: string, name: string): Engine[] {
  return [
    berth(directory, name),
    daemon(directory, name),
    podman('crun', directory, name),
    podman('runc', directory, name),
    docker(directory, name),
  ]
}

function berth(directory: string, image: string): Engine {
  return {
    name: 'berth',
    missing: undefined,
    command: [
      ...[process.execPath, join(REPOSITORY, 'bin/berth.cjs')],
      ...['--root', join(directory, 'berth/root'), '--state', join(TMPFS, 'berth')],
    ],
    options: ['--network', 'none'],
    image,
  }
}

/** The same by way of native/front and a daemon. */
function daemon(directory: string, image: string): Engine {
  const own = join(directory, 'daemon')
  const state = join(TMPFS, 'berth-daemon')
  const program = linkFront(own, 'berth')
  let running: ChildProcess | undefined
  return {
    name: 'berth, daemon',
    missing: undefined,
    command: [program, '--root', join(own, 'root'), '--state', state],
    options: ['--network', 'none'],
    image,
    start: async () => {
      running = await startDaemon(own, state)
    },
    stop: async () => {
      if (running) await ended(running)
    },
  }
}

function podman(runtime: string, directory: string, image: string): Engine {
  const own = join(directory, `podman-${runtime}`)
  const missing = [runtime, 'podman', 'conmon'].find((program) => !has(program))
  return {
    name: `podman, ${runtime}`,
    missing: missing && `${missing} is not installed`,
    command: [
      'podman',
      ...['--root', join(own, 'root'), '--runroot', join(TMPFS, `podman-${runtime}`)],
      ...[
        '--runtime',
        join(own, runtime),
        '--cgroup-manager',
        'cgroupfs',
        '--storage-driver',
        'overlay',
      ],
    ],
    // Of processes the host may be unable to count, of files podman asks for more than a root without CAP_SYS_RESOURCE may.
    options: [
      '--network',
      'none',
      '--pids-limit',
      '-1',
      ...ownLimits(),
      '--log-driver',
      'k8s-file',
    ],
    image,
    start: async () => {
      mkdirSync(own, { recursive: true })
      // conmon does not hand the environment on.
      const settings = Object.entries(preload(directory, runtime)).map(
        ([key, value]) => `${key}=${value} `,
      )
      const script = `#!/bin/sh\n${settings.join('')}exec ${runtime} "$@"\n`
      writeFileSync(join(own, runtime), script, { mode: 0o755 })
    },
  }
}

function docker(directory: string, image: string): Engine {
  const own = join(directory, 'docker')
  const at = (name: string) => join(own, name)
  // The whole path: another `docker` in PATH may be podman's.
  const client = '/usr/bin/docker'
  const missing =
    ['dockerd', 'runc'].find((program) => !has(program)) ??
    (existsSync(client) ? undefined : client)
  const command = [client, '--host', `unix://${at('socket')}`]
  let daemon: ChildProcess | undefined
  return {
    name: 'docker',
    missing: missing && `${missing} is not installed`,
    command,
    options: ['--network', 'none'],
    image,
    start: async () => {
      mkdirSync(own, { recursive: true })
      const config = {
        'data-root': at('data'),
        'exec-root': join(TMPFS, 'docker'),
        pidfile: at('pid'),
        hosts: [`unix://${at('socket')}`],
        ...{ iptables: false, ip6tables: false, bridge: 'none' },
        'exec-opts': ['native.cgroupdriver=cgroupfs'],
      }
      writeFileSync(at('daemon.json'), JSON.stringify(config))
      const log = openSync(at('log'), 'w')
      daemon = spawn('dockerd', ['--config-file', at('daemon.json')], {
        stdio: ['ignore', log, log],
      })
      const answers = async () => {
        try {
          quiet(command, 'version')
          return true
        } catch {
          return false
        }
      }
      await eventually('dockerd answers', answers, { withinMs: 60_000, everyMs: 200 })
    },
    stop: async () => {
      if (daemon) await ended(daemon)
    },
  }
}

const CAP_SYS_RESOURCE = 24n

/** crun raises limits, which the root of a guest may not: it ends with an error there, and runc does not. The environment that hides it. */
export function preload(directory: string, runtime: string): Record<string, string> {
  const bits = /^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  const can = ((BigInt(`0x${bits ?? '0'}`) >> CAP_SYS_RESOURCE) & 1n) === 1n
  if (can || runtime !== 'crun' || lacks('program:g++')) return {}
  const library = join(directory, 'rlimit.so')
  quiet(['g++'], '-O2', '-shared', '-fPIC', join(REPOSITORY, 'bench/rlimit.cc'), '-o', library)
  return { LD_PRELOAD: library }
}

function ownLimits(): string[] {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const files = /^Max open files +\S+ +(\d+)/m.exec(limits)?.[1]
  return files ? ['--ulimit', `nofile=${files}:${files}`, '--ulimit', 'nproc=1024:1024'] : []
}

/** Whether a program of the name is in PATH, or a file at the path. */
export function has(program: string): boolean {
  if (program.includes('/')) return existsSync(program)
  return (process.env['PATH'] ?? '').split(delimiter).some((d) => existsSync(join(d, program)))
}

/** The output of a command that must succeed. */
export function quiet(command: readonly string[], ...args: string[]): string {
  const [program = '', ...first] = command
  return execFileSync(program, [...first, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: ENVIRONMENT,
    timeout: COMMAND_LIMIT_MS,
    killSignal: 'SIGKILL',
  })
}

const END_MS = 20_000

/** Ends a daemon of the bench, by force where it does not go. */
export function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS)
    child.once('exit', () => {
      clearTimeout(timer)
      resolve()
    })
    child.kill('SIGTERM')
  })
}
