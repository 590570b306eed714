/** A runtime behind a socket, and the life of one pod of it as the kubelet asks for it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type * as cri from '../src/spec/cri.ts'
import type { Given } from '../test/lib/cri.ts'
import { REPOSITORY } from '../test/lib/images.ts'
import { BenchClient } from './cri-client.ts'
import { ended } from './engines.ts'
import { leftOut } from './report.ts'
import { ENVIRONMENT, TMPFS } from './world.ts'

const READY_MS = 60_000
export const LOG_CHARACTERS = 2000
const LOOK_MS = 5
/** Of each pod and container of this run. */
const NAMESPACE = `bench-${process.pid}`

/** What the kubelet sends for every container that is not privileged. */
const MASKED = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
]
const READONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

/** Pods that are started or removed together. */
export const AT_ONCE = 10

/** Of each container. */
export const PROGRAM = ['sleep', '100000']

export interface StartedPod {
  readonly podId: string
  readonly containerId: string
}

/** The calls that a kubelet makes all the time, and that tell of all. */
export const LISTS = [
  'ListContainers',
  'ListPodSandbox',
  'ListContainerStats',
  'ListPodSandboxStats',
] as const
export type List = (typeof LISTS)[number]

export class CriSubject {
  readonly name: string
  readonly socket: string
  readonly #client: BenchClient
  readonly #handler: string
  readonly #image: string
  readonly #logs = mkdtempSync(join(tmpdir(), 'bench-logs-'))
  readonly #daemon: (() => ChildProcess) | undefined
  #child: ChildProcess | undefined
  #count = 0
  /** Names of pods whose directories for logs are there. */
  readonly #prepared: string[] = []

  constructor(options: {
    readonly name: string
    readonly socket: string
    readonly handler: string
    readonly image: string
    /** Starts it, where it is the bench's own. */
    readonly daemon?: () => ChildProcess
  }) {
    this.name = options.name
    this.socket = options.socket
    this.#handler = options.handler
    this.#image = options.image
    this.#client = new BenchClient(options.socket)
    this.#daemon = options.daemon
  }

  /** Starts the daemon, and waits until it answers a list. One that does not in time is ended. */
  async start(): Promise<void> {
    const child = this.#daemon?.()
    this.#child = child
    const until = performance.now() + READY_MS
    for (;;) {
      try {
        return await this.list()
      } catch (error) {
        if (child?.exitCode === null && performance.now() < until) {
          await delay(LOOK_MS)
          continue
        }
        if (child) await ended(child)
        throw error
      }
    }
  }

  /** Whether the bench has started it, and so may start it again. */
  get isOwn(): boolean {
    return this.#daemon !== undefined
  }

  async stop(): Promise<void> {
    if (this.#child) await ended(this.#child)
  }

  async pull(): Promise<void> {
    await this.#client.call('PullImage', { image: { image: this.#image } })
  }

  /** For so many pods to come, what a kubelet makes on the disk before it calls: its work, and no runtime's. */
  prepare(count = 1): void {
    for (let i = 0; i < count; i++) {
      const name = `pod-${process.hrtime.bigint()}-${this.#count++}`
      // The container's, too: conmon makes none.
      mkdirSync(join(this.#logs, name, 'main'), { recursive: true })
      this.#prepared.push(name)
    }
  }

  /** RunPodSandbox, CreateContainer, StartContainer; of a pod that was prepared, where there is one. */
  async startPod(network: 'host' | 'bridge'): Promise<StartedPod> {
    const namespaceOptions = {
      network: network === 'host' ? 'NODE' : 'POD',
      pid: 'CONTAINER',
      ipc: 'POD',
    } as const
    const seccomp = { profileType: 'RuntimeDefault' } as const
    if (this.#prepared.length === 0) this.prepare()
    const name = this.#prepared.shift() ?? ''
    const config: Given<cri.PodSandboxConfig> = {
      metadata: { name, uid: name, namespace: NAMESPACE, attempt: 0 },
      ...(network === 'host' ? {} : { hostname: name }),
      logDirectory: join(this.#logs, name),
      labels: { 'io.kubernetes.pod.name': name, 'io.kubernetes.pod.namespace': NAMESPACE },
      linux: { securityContext: { namespaceOptions, seccomp } },
    }
    const { podSandboxId } = await this.#client.call('RunPodSandbox', {
      config,
      runtimeHandler: this.#handler,
    })
    const { containerId } = await this.#client.call('CreateContainer', {
      podSandboxId,
      sandboxConfig: config,
      config: {
        metadata: { name: 'main', attempt: 0 },
        // CRI-O takes none without the name that the pod's author wrote.
        image: { image: this.#image, userSpecifiedImage: this.#image },
        command: [...PROGRAM],
        labels: { 'io.kubernetes.container.name': 'main' },
        logPath: 'main/0.log',
        linux: {
          securityContext: {
            namespaceOptions,
            seccomp,
            maskedPaths: MASKED,
            readonlyPaths: READONLY,
          },
        },
      },
    })
    await this.#client.call('StartContainer', { containerId })
    return { podId: podSandboxId, containerId }
  }

  /** So many together. Where one fails none is left under way. */
  async startPods(count: number, network: 'host' | 'bridge'): Promise<StartedPod[]> {
    const starts = Array.from({ length: count }, () => this.startPod(network))
    const settled = await Promise.allSettled(starts)
    for (const one of settled) if (one.status === 'rejected') throw one.reason
    return Promise.all(starts)
  }

  async exec(containerId: string): Promise<void> {
    const { exitCode } = await this.#client.call('ExecSync', { containerId, cmd: ['true'] })
    if (exitCode !== 0) throw new Error(`${this.name}: true has ended with ${exitCode}`)
  }

  /** StopContainer by SIGKILL (a sleep that is PID 1 knows no other signal), RemoveContainer, StopPodSandbox, RemovePodSandbox. */
  async removePod({ podId: podSandboxId, containerId }: StartedPod): Promise<void> {
    await this.#client.call('StopContainer', { containerId, timeout: '0' })
    await this.#client.call('RemoveContainer', { containerId })
    await this.#client.call('StopPodSandbox', { podSandboxId })
    await this.#client.call('RemovePodSandbox', { podSandboxId })
  }

  /** Undecoded: see BenchClient.ask. */
  async list(call: List = 'ListContainers'): Promise<void> {
    await this.#client.ask(call)
  }

  /** Those of the lists that can be measured, each of which tells of so many pods with a container; statistics of pods without a cgroup of their own not all have. */
  async lists(count: number, wanted: readonly List[]): Promise<List[]> {
    const numbers: Record<List, () => Promise<number>> = {
      ListContainers: async () => (await this.#client.call('ListContainers')).containers.length,
      ListPodSandbox: async () => (await this.#client.call('ListPodSandbox')).items.length,
      ListContainerStats: async () => (await this.#client.call('ListContainerStats')).stats.length,
      ListPodSandboxStats: async () =>
        (await this.#client.call('ListPodSandboxStats')).stats.length,
    }
    const known: List[] = []
    for (const call of wanted) {
      try {
        const found = await numbers[call]()
        if (found < count) throw new Error(`it tells of ${found} of ${count}`)
        known.push(call)
      } catch (error) {
        leftOut(`${this.name}, ${call}`, String(error).replace(/"?[0-9a-f]{64}"?/g, '…'))
      }
    }
    return known
  }

  /** Also what a work that has failed has left. */
  async removeAll(): Promise<void> {
    const { items } = await this.#client.call('ListPodSandbox')
    const { containers } = await this.#client.call('ListContainers')
    const ids = items.flatMap(({ id, metadata }) => (metadata?.namespace === NAMESPACE ? [id] : []))
    const errors: unknown[] = []
    while (ids.length > 0) {
      const removals = ids.splice(0, AT_ONCE).map(async (podSandboxId) => {
        // The pod's own stop gives each container its grace, which a sleep waits for.
        for (const { id: containerId, podSandboxId: of } of containers)
          if (of === podSandboxId)
            await this.#client.call('StopContainer', { containerId, timeout: '0' })
        await this.#client.call('StopPodSandbox', { podSandboxId })
        await this.#client.call('RemovePodSandbox', { podSandboxId })
      })
      for (const done of await Promise.allSettled(removals))
        if (done.status === 'rejected') errors.push(done.reason)
    }
    if (errors.length > 0) throw errors[0]
  }

  /** What it says it is. */
  async version(): Promise<string> {
    const { runtimeName, runtimeVersion } = await this.#client.call('Version')
    return `${runtimeName} ${runtimeVersion}`
  }

  async removeImage(): Promise<void> {
    await this.#client.call('RemoveImage', { image: { image: this.#image } })
  }

  async end(): Promise<void> {
    this.#client.close()
    await this.stop()
  }
}

/** `berth serve` as a subject, with its files below `directory` and its state where it is on a node: in a tmpfs. */
export async function startBerth(options: {
  readonly directory: string
  readonly networks: string
  readonly image: string
}): Promise<CriSubject> {
  const at = (name: string) => join(options.directory, 'berth', name)
  mkdirSync(at('.'), { recursive: true })
  const state = mkdtempSync(`${TMPFS}/state-`)
  // A hybrid host lacks controllers, and the image asks for no limit.
  writeFileSync(
    at('config.toml'),
    `[cgroup]\nmissing = "warn"\n[network]\nconf_dir = "${options.networks}"\n`,
  )
  const log = openSync(at('log'), 'w')
  const command = [
    ...(process.env['BENCH_NODE_OPTIONS']?.split(' ') ?? []),
    join(REPOSITORY, 'bin/berth.cjs'),
    ...['--root', at('root'), '--state', state, 'serve'],
    ...['--config', at('config.toml'), '--socket', at('cri.sock')],
  ]
  const subject = new CriSubject({
    name: 'berth',
    socket: at('cri.sock'),
    handler: '',
    image: options.image,
    daemon: () =>
      spawn(process.execPath, command, { stdio: ['ignore', log, log], env: ENVIRONMENT }),
  })
  try {
    await subject.start()
    return subject
  } catch (error) {
    const text = readFileSync(at('log'), 'utf8').slice(-LOG_CHARACTERS)
    throw new Error(`berth serve does not answer: ${text}`, { cause: error })
  }
}
