import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  connectMonitor,
  type ExecRequest,
  isMonitorAlive,
  type Monitor,
  startMonitor,
} from '../../src/container/monitor.ts'
import type { MonitorSession, Output } from '../../src/container/session.ts'
import type { ContainerPlan, ProcessPlan } from '../../src/spec/plan.ts'
import { encodeContainer } from '../../src/wire/plan.ts'
import { busyboxRoot } from './busybox.ts'
import { eventually } from './eventually.ts'
import { cgroupRoot } from './needs.ts'
import { testDirectory } from './traces.ts'

const MS_PRIVATE_REC = 0x44000

/** What differs from the plain plan. */
export type PlanChange = Partial<Omit<ContainerPlan, 'process'>> & {
  process?: Partial<ProcessPlan>
}

/** Containers under monitors of their own, without the engine: plans by hand over a root that holds a busybox. */
export class MonitorBench {
  readonly directory = testDirectory()
  readonly root = join(this.directory, 'rootfs')
  readonly #cgroup = join(cgroupRoot(), `berth-monitor-test-${process.pid}`)
  readonly #monitors: (Monitor & { directory: string })[] = []
  readonly #places: string[] = []

  constructor() {
    busyboxRoot(this.root)
    for (const name of ['proc', 'dev', 'tmp', 'etc']) mkdirSync(join(this.root, name))
    mkdirSync(this.#cgroup, { recursive: true })
  }

  async monitor(name = `m${this.#places.length}`): Promise<Monitor & { directory: string }> {
    const directory = join(this.directory, name)
    mkdirSync(directory, { mode: 0o700 })
    this.#places.push(directory)
    const program = process.env['BERTH_TEST_MONITOR']
    const monitor = Object.assign(
      await startMonitor(program === undefined ? { directory } : { directory, program }),
      { directory },
    )
    this.#monitors.push(monitor)
    return monitor
  }

  logPath = (id: string): string => join(this.directory, `${id}.log`)
  exitPath = (id: string): string => join(this.directory, `${id}.exit`)
  cgroupOf = (id: string): string => join(this.#cgroup, id)
  /** Of its own group and of those below. */
  pidsOf = (id: string): number[] =>
    readdirSync(this.cgroupOf(id), { recursive: true })
      .map(String)
      .filter((name) => name.endsWith('cgroup.procs'))
      .flatMap((name) => readFileSync(join(this.cgroupOf(id), name), 'utf8').split('\n'))
      .filter((line) => line !== '')
      .map(Number)
  exitRecord = (id: string): Record<string, unknown> =>
    JSON.parse(readFileSync(this.exitPath(id), 'utf8'))

  /** The log's entries as [stream, tag, text]. */
  log(id: string): [string, string, string][] {
    return readFileSync(this.logPath(id), 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => {
        const [, stream, tag, text] = /^\S+ (stdout|stderr) ([FP]) (.*)$/s.exec(line) ?? []
        return [stream ?? `malformed: ${line}`, tag ?? '', text ?? '']
      })
  }

  process(script: string, change: Partial<ProcessPlan> = {}): ProcessPlan {
    const none = { bounding: 0n, effective: 0n, permitted: 0n, inheritable: 0n, ambient: 0n }
    return {
      args: ['/bin/sh', '-c', script],
      env: ['PATH=/bin'],
      cwd: '/',
      createCwd: false,
      uid: 0,
      gid: 0,
      groups: [],
      umask: 0o22,
      terminal: false,
      rows: 0,
      columns: 0,
      capabilities: none,
      noNewPrivileges: true,
      rlimits: [],
      ...change,
    }
  }

  exec(
    containerId: string,
    script: string,
    change: Partial<ExecRequest & ProcessPlan> = {},
  ): ExecRequest {
    const { stdin = false, timeoutMs = 0, owned = false, ...process } = change
    return { containerId, process: this.process(script, process), stdin, timeoutMs, owned }
  }

  /** Writes the plan file of a container with namespaces of its own, and makes its cgroup. Returns the file's path. */
  plan(id: string, script: string, change: PlanChange = {}): string {
    mkdirSync(this.cgroupOf(id), { recursive: true })
    const path = join(this.directory, `${id}.plan`)
    const types = ['mount', 'pid', 'network', 'ipc', 'uts'] as const
    const plan: ContainerPlan = {
      id,
      cgroup: this.cgroupOf(id),
      namespaces: types.map((type) => ({ type })),
      root: { kind: 'directory', path: this.root },
      rootReadonly: false,
      rootPropagation: MS_PRIVATE_REC,
      mounts: [
        mount('proc', '/proc'),
        mount('tmpfs', '/dev'),
        mount('devpts', '/dev/pts', ['ptmxmode=0666']),
      ],
      devices: [
        { target: '/dev/null', type: 'c', major: 1, minor: 3, mode: 0o666, uid: 0, gid: 0 },
      ],
      links: [{ target: '/dev/ptmx', to: 'pts/ptmx' }],
      sysctls: [],
      maskedPaths: [],
      readonlyPaths: [],
      loopback: false,
      reaper: false,
      io: { stdin: false, stdinOnce: false, log: 'cri', logPath: this.logPath(id) },
      exit: { recordPath: this.exitPath(id), command: [] },
      restart: { policy: 'no', maximumRetries: 0 },
      ...change,
      process: this.process(script, change.process),
    }
    writeFileSync(path, encodeContainer(plan))
    return path
  }

  /** Creates, attaches and starts. */
  async run(
    id: string,
    script: string,
    change: PlanChange = {},
  ): Promise<{
    monitor: Monitor & { directory: string }
    session: MonitorSession<Record<string, unknown>>
  }> {
    const monitor = await this.monitor(id)
    await monitor.create(this.plan(id, script, change))
    const session = await monitor.attach(id, { stdin: true })
    await monitor.start(id)
    return { monitor, session: session as unknown as MonitorSession<Record<string, unknown>> }
  }

  /** Kills what is left and takes everything away; every monitor ends by itself then. */
  async end(): Promise<void> {
    for (const used of this.#monitors) {
      used.close()
      // Anew: one that was attached to a container that has ended may have been closed by the monitor.
      const monitor = await connectMonitor(used.directory).catch(() => undefined)
      if (!monitor) continue
      const { containers = {} } = await monitor.status().catch(() => ({ containers: {} }))
      for (const id of Object.keys(containers))
        await monitor.signal(id, { signal: 9, all: true, stop: true }).catch(() => {})
      await monitor.quit().catch(() => {})
      monitor.close()
    }
    for (const place of this.#places) {
      await eventually(
        `the monitor in ${place} has ended`,
        () => !existsSync(place) || !isMonitorAlive(place),
      )
    }
    // A process that was killed is in its group until the kernel has ended it.
    await eventually('the groups are empty', () => {
      spawnSync('find', [this.#cgroup, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], {
        stdio: 'ignore',
      })
      return !existsSync(this.#cgroup)
    })
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** All of a session's output as text. */
export async function collect(
  session: { output: AsyncIterable<Output> },
  stream?: 'stdout' | 'stderr',
): Promise<string> {
  const parts: Buffer[] = []
  for await (const output of session.output)
    if (!stream || output.stream === stream) parts.push(output.data)
  return Buffer.concat(parts).toString()
}

function mount(
  type: string,
  target: string,
  options: string[] = [],
): ContainerPlan['mounts'][number] {
  return {
    kind: 'new',
    source: type,
    target,
    type,
    options,
    setAttributes: 0,
    clearAttributes: 0,
    setAttributesRecursive: 0,
    clearAttributesRecursive: 0,
    propagation: 0,
    recursive: false,
    copyUp: false,
    optional: false,
  }
}
