/** A container from a plan, without engine and monitor: `berth-monitor once PLAN` (native/init). */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ContainerPlan, MountPlan, NamespaceType, ProcessPlan } from '../../src/spec/plan.ts'
import { encodeContainer } from '../../src/wire/plan.ts'
import { testDirectory } from './traces.ts'

const RELEASE = new URL('../../../build/Release/', import.meta.url)
export const MONITOR = process.env['BERTH_ONCE'] ?? fileURLToPath(new URL('berth-monitor', RELEASE))
export const PROBE = fileURLToPath(new URL('probe', RELEASE))

export const ALL_CAPABILITIES = 0x1ffffffffffn
/** MOUNT_ATTR_* of mount_setattr(2). */
export const ATTRIBUTE = { readonly: 1, nosuid: 2, nodev: 4, noexec: 8 } as const
/** A range of ids far above any user of the machine. */
export const MAPPED = 1_000_000
export const ID_MAPPINGS = {
  uids: [{ inside: 0, outside: MAPPED, size: 65536 }],
  gids: [{ inside: 0, outside: MAPPED, size: 65536 }],
}

export const NEW: readonly NamespaceType[] = ['mount', 'pid', 'network', 'ipc', 'uts', 'cgroup']

const NONE: MountPlan = {
  kind: 'new',
  source: '',
  target: '',
  type: '',
  options: [],
  setAttributes: 0,
  clearAttributes: 0,
  setAttributesRecursive: 0,
  clearAttributesRecursive: 0,
  propagation: 0,
  recursive: false,
  copyUp: false,
  optional: false,
}

export function fresh(type: string, target: string, more: Partial<MountPlan> = {}): MountPlan {
  return { ...NONE, type, target, source: type, ...more }
}

export function bind(source: string, target: string, more: Partial<MountPlan> = {}): MountPlan {
  return { ...NONE, kind: 'bind', source, target, recursive: true, ...more }
}

export const MOUNTS: readonly MountPlan[] = [
  fresh('proc', '/proc'),
  fresh('tmpfs', '/dev', { options: ['mode=755', 'size=65536k'] }),
  fresh('devpts', '/dev/pts', { options: ['newinstance', 'ptmxmode=0666', 'mode=0620'] }),
  fresh('sysfs', '/sys', { setAttributes: ATTRIBUTE.readonly }),
]

export const DEVICES = [
  { target: '/dev/null', major: 1, minor: 3 },
  { target: '/dev/zero', major: 1, minor: 5 },
  { target: '/dev/full', major: 1, minor: 7 },
  { target: '/dev/tty', major: 5, minor: 0 },
].map((d) => ({ ...d, type: 'c' as const, mode: 0o666, uid: 0, gid: 0 }))

export interface Given extends Partial<Omit<ContainerPlan, 'process'>> {
  readonly args: readonly string[]
  readonly process?: Partial<ProcessPlan>
}

export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** A private directory with a root file system of `probe` in `lower`; `remove` takes all of it away. */
export class Place {
  readonly directory = testDirectory()
  readonly lower = this.path('lower')

  constructor() {
    for (const name of ['bin', 'proc', 'dev', 'sys', 'tmp', 'etc']) this.make(`lower/${name}`)
    copyFileSync(PROBE, join(this.lower, 'bin/probe'))
    writeFileSync(join(this.lower, 'etc/from-layer'), 'layer\n')
    symlinkSync('probe', join(this.lower, 'bin/found-in-path'))
  }

  path(name: string): string {
    return join(this.directory, name)
  }

  make(name: string): string {
    const path = this.path(name)
    mkdirSync(path, { recursive: true })
    return path
  }

  plan(given: Given): ContainerPlan {
    const { args, process: more, ...rest } = given
    const upper = this.make('upper')
    const owner = rest.idMappings ? MAPPED : 0
    chownSync(upper, owner, owner)
    this.make('work')
    return {
      id: 'inside',
      cgroup: '',
      namespaces: NEW.map((type) => ({ type })),
      root: { kind: 'overlay', lower: [this.lower], upper, work: this.path('work'), options: [] },
      rootReadonly: false,
      rootPropagation: 0,
      mounts: MOUNTS,
      devices: DEVICES,
      links: [{ target: '/dev/fd', to: '/proc/self/fd' }],
      sysctls: [],
      maskedPaths: [],
      readonlyPaths: [],
      loopback: true,
      reaper: false,
      process: {
        args,
        env: ['PATH=/nowhere:/bin'],
        cwd: '/',
        createCwd: false,
        uid: 0,
        gid: 0,
        groups: [],
        umask: 0o022,
        terminal: false,
        rows: 0,
        columns: 0,
        capabilities: {
          bounding: ALL_CAPABILITIES,
          effective: ALL_CAPABILITIES,
          permitted: ALL_CAPABILITIES,
          inheritable: 0n,
          ambient: 0n,
        },
        noNewPrivileges: true,
        rlimits: [],
        ...more,
      },
      io: { stdin: false, stdinOnce: false, log: 'none', logPath: '' },
      exit: { recordPath: '', command: [] },
      restart: { policy: 'no', maximumRetries: 0 },
      ...rest,
    }
  }

  /** Runs the container; with `exec` that second process is run in it once the first has said a line, and it is the result. */
  run(given: Given, exec?: Given): Ran {
    const files = [given, ...(exec ? [exec] : [])].map((g, i) => {
      const file = this.path(`plan${i}`)
      writeFileSync(file, encodeContainer(this.plan(g)))
      return file
    })
    // Node gives a child sockets; a container gets pipes. Descriptor 7 is what a careless caller leaks. A bash whose stdin is a socket takes
    // itself for one started by rshd and reads ~/.bashrc.
    const piped = ['--norc', '-c', 'exec 7< /; set -o pipefail; "$@" | cat', 'bash']
    const done = spawnSync('bash', [...piped, MONITOR, 'once', ...files], {
      encoding: 'utf8',
      timeout: 20_000,
    })
    return { code: done.status, out: done.stdout, err: done.stderr }
  }

  /** Starts a container whose first process says a line when it is there; `pid` is that process on the host. */
  async start(
    given: Given,
  ): Promise<{ pid: number; output: () => string; end: () => Promise<void> }> {
    const file = this.path('plan-started')
    writeFileSync(file, encodeContainer(this.plan(given)))
    const monitor = spawn(MONITOR, ['once', file], { stdio: ['pipe', 'pipe', 'inherit'] })
    const said = once(monitor.stdout, 'data')
    let output = ''
    monitor.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
    await said
    const children = readFileSync(`/proc/${monitor.pid}/task/${monitor.pid}/children`, 'utf8')
    const pid = Number(children.trim())
    return {
      pid,
      output: () => output,
      end: async () => {
        const exit = once(monitor, 'exit')
        process.kill(pid, 'SIGKILL')
        await exit
      },
    }
  }

  /** Forgets what containers wrote. */
  reset(): void {
    for (const name of ['upper', 'work']) {
      rmSync(this.path(name), { recursive: true, force: true })
    }
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** `/bin/probe VERB …`. */
export function probe(...args: string[]): { args: string[] } {
  return { args: ['/bin/probe', ...args] }
}
