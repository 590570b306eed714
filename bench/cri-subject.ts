/** A runtime behind a socket, and the life of one pod of it as the kubelet asks for it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type * as cri from '../src/spec/cri.ts'
import type { Given } from '../test/lib/cri.ts'
import { BenchClient } from './cri-client.ts'

/** The repository, seen from dist/bench/. */
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
const READY_MS = 20_000
const LOOK_MS = 20
const END_MS = 20_000
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

export interface StartedPod {
  readonly podId: string
  readonly containerId: string
}

export class CriSubject {
  readonly name: string
  readonly socket: string
  readonly #client: BenchClient
  readonly #handler: string
  readonly #image: string
  readonly #logs = mkdtempSync(join(tmpdir(), 'bench-logs-'))
  readonly #end: () => Promise<void>
  #count = 0

  constructor(options: {
    readonly name: string
    readonly socket: string
    readonly handler: string
    readonly image: string
    readonly end?: () => Promise<void>
  }) {
    this.name = options.name
    this.socket = options.socket
    this.#handler = options.handler
    this.#image = options.image
    this.#client = new BenchClient(options.socket)
    this.#end = options.end ?? (async () => {})
  }

  async pull(): Promise<void> {
    await this.#client.call('PullImage', { image: { image: this.#image } })
  }

  /** RunPodSandbox, CreateContainer, StartContainer. */
  async startPod(network: 'host' | 'bridge'): Promise<StartedPod> {
    const namespaceOptions = {
      network: network === 'host' ? 'NODE' : 'POD',
      pid: 'CONTAINER',
      ipc: 'POD',
    } as const
    const seccomp = { profileType: 'RuntimeDefault' } as const
    const name = `pod-${process.hrtime.bigint()}-${this.#count++}`
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
        image: { image: this.#image },
        command: ['sleep', '100000'],
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

  async list(): Promise<void> {
    await this.#client.call('ListContainers')
  }

  async listStats(): Promise<void> {
    await this.#client.call('ListContainerStats')
  }

  /** Removes what is left of this run, also by a work that has failed. */
  async end(): Promise<void> {
    try {
      const { items } = await this.#client.call('ListPodSandbox')
      for (const { id, metadata } of items) {
        if (metadata?.namespace !== NAMESPACE) continue
        await this.#client.call('StopPodSandbox', { podSandboxId: id })
        await this.#client.call('RemovePodSandbox', { podSandboxId: id })
      }
    } finally {
      this.#client.close()
      await this.#end()
      rmSync(this.#logs, { recursive: true, force: true })
    }
  }
}

/** `berth serve` as a subject, with roots that go with it. */
export async function startBerth(image: string): Promise<CriSubject> {
  const directory = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  const at = (name: string) => join(directory, name)
  // Where it is on a node: a tmpfs.
  const state = mkdtempSync('/run/berth-bench-')
  // A hybrid host lacks controllers, and the image asks for no limit.
  writeFileSync(at('config.toml'), '[cgroup]\nmissing = "warn"\n')
  const errors = openSync(at('log'), 'w')
  const roots = ['--root', at('root'), '--state', state]
  const child = spawn(
    process.execPath,
    [
      ...(process.env['BENCH_NODE_OPTIONS']?.split(' ') ?? []),
      join(REPOSITORY, 'bin/berth.cjs'),
      ...roots,
      'serve',
      '--config',
      at('config.toml'),
      '--socket',
      at('cri.sock'),
    ],
    { stdio: ['ignore', errors, errors] },
  )
  const subject = new CriSubject({
    name: 'berth',
    socket: at('cri.sock'),
    handler: '',
    image,
    end: async () => {
      await endChild(child)
      for (const path of [directory, state])
        rmSync(path, { recursive: true, force: true, maxRetries: 3 })
    },
  })
  const until = performance.now() + READY_MS
  for (;;) {
    await delay(LOOK_MS)
    try {
      await subject.list()
      return subject
    } catch (error) {
      if (child.exitCode === null && performance.now() < until) continue
      await endChild(child)
      throw new Error(`berth serve does not answer: see ${at('log')}`, { cause: error })
    }
  }
}

function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), END_MS)
    child.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    child.kill('SIGTERM')
  })
}
