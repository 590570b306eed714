import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import type * as cri from '../../src/spec/cri.ts'
import { Berth } from './berth.ts'
import { eventually } from './eventually.ts'
import { REPOSITORY } from './images.ts'

const CALL_MS = 60_000
export const HELLO = 'localhost/hello:latest'

/** What a message may leave out on the wire. */
export type Given<T> = T extends (infer Item)[]
  ? Given<Item>[]
  : T extends Buffer | string | number | boolean | null
    ? T
    : { [Key in keyof T]?: Given<T[Key]> }

/** The calls that the tests use, by their names. */
export interface Calls {
  Version: [cri.VersionRequest, cri.VersionResponse]
  Status: [cri.StatusRequest, cri.StatusResponse]
  RuntimeConfig: [cri.RuntimeConfigRequest, cri.RuntimeConfigResponse]
  UpdateRuntimeConfig: [cri.UpdateRuntimeConfigRequest, cri.UpdateRuntimeConfigResponse]
  RunPodSandbox: [cri.RunPodSandboxRequest, cri.RunPodSandboxResponse]
  StopPodSandbox: [cri.StopPodSandboxRequest, cri.StopPodSandboxResponse]
  RemovePodSandbox: [cri.RemovePodSandboxRequest, cri.RemovePodSandboxResponse]
  PodSandboxStatus: [cri.PodSandboxStatusRequest, cri.PodSandboxStatusResponse]
  ListPodSandbox: [cri.ListPodSandboxRequest, cri.ListPodSandboxResponse]
  UpdatePodSandboxResources: [
    cri.UpdatePodSandboxResourcesRequest,
    cri.UpdatePodSandboxResourcesResponse,
  ]
  CreateContainer: [cri.CreateContainerRequest, cri.CreateContainerResponse]
  StartContainer: [cri.StartContainerRequest, cri.StartContainerResponse]
  StopContainer: [cri.StopContainerRequest, cri.StopContainerResponse]
  RemoveContainer: [cri.RemoveContainerRequest, cri.RemoveContainerResponse]
  ListContainers: [cri.ListContainersRequest, cri.ListContainersResponse]
  ContainerStatus: [cri.ContainerStatusRequest, cri.ContainerStatusResponse]
  UpdateContainerResources: [
    cri.UpdateContainerResourcesRequest,
    cri.UpdateContainerResourcesResponse,
  ]
  ReopenContainerLog: [cri.ReopenContainerLogRequest, cri.ReopenContainerLogResponse]
  ExecSync: [cri.ExecSyncRequest, cri.ExecSyncResponse]
  Exec: [cri.ExecRequest, cri.ExecResponse]
  Attach: [cri.AttachRequest, cri.AttachResponse]
  PortForward: [cri.PortForwardRequest, cri.PortForwardResponse]
  ContainerStats: [cri.ContainerStatsRequest, cri.ContainerStatsResponse]
  ListContainerStats: [cri.ListContainerStatsRequest, cri.ListContainerStatsResponse]
  PodSandboxStats: [cri.PodSandboxStatsRequest, cri.PodSandboxStatsResponse]
  ListPodSandboxStats: [cri.ListPodSandboxStatsRequest, cri.ListPodSandboxStatsResponse]
  ListMetricDescriptors: [cri.ListMetricDescriptorsRequest, cri.ListMetricDescriptorsResponse]
  ListPodSandboxMetrics: [cri.ListPodSandboxMetricsRequest, cri.ListPodSandboxMetricsResponse]
  CheckpointContainer: [cri.CheckpointContainerRequest, cri.CheckpointContainerResponse]
  CheckpointPod: [cri.CheckpointPodRequest, cri.CheckpointPodResponse]
  RestorePod: [cri.RestorePodRequest, cri.RestorePodResponse]
  ListImages: [cri.ListImagesRequest, cri.ListImagesResponse]
  ImageStatus: [cri.ImageStatusRequest, cri.ImageStatusResponse]
  PullImage: [cri.PullImageRequest, cri.PullImageResponse]
  RemoveImage: [cri.RemoveImageRequest, cri.RemoveImageResponse]
  ImageFsInfo: [cri.ImageFsInfoRequest, cri.ImageFsInfoResponse]
}

export interface Streams {
  StreamPodSandboxes: [cri.StreamPodSandboxesRequest, cri.StreamPodSandboxesResponse]
  StreamContainers: [cri.StreamContainersRequest, cri.StreamContainersResponse]
  StreamContainerStats: [cri.StreamContainerStatsRequest, cri.StreamContainerStatsResponse]
  StreamPodSandboxStats: [cri.StreamPodSandboxStatsRequest, cri.StreamPodSandboxStatsResponse]
  StreamPodSandboxMetrics: [cri.StreamPodSandboxMetricsRequest, cri.StreamPodSandboxMetricsResponse]
  StreamImages: [cri.StreamImagesRequest, cri.StreamImagesResponse]
  GetContainerEvents: [cri.GetEventsRequest, cri.ContainerEventResponse]
}

const IMAGE_CALLS = new Set([
  'ListImages',
  'StreamImages',
  'ImageStatus',
  'PullImage',
  'RemoveImage',
  'ImageFsInfo',
])

type Stub = Record<string, (...args: unknown[]) => unknown> & { close(): void }

/** A client of the CRI, as the kubelet is one. */
export class CriClient {
  readonly #runtime: Stub
  readonly #images: Stub

  constructor(socket: string) {
    const root = loadPackageDefinition(
      loadSync(join(REPOSITORY, 'src/spec/cri.proto'), {
        longs: String,
        enums: String,
        defaults: true,
      }),
    ) as unknown as { runtime: { v1: Record<string, ServiceClientConstructor> } }
    const of = (name: string): Stub => {
      const Client = root.runtime.v1[name] as ServiceClientConstructor
      return new Client(`unix:${socket}`, credentials.createInsecure(), {
        'grpc.max_receive_message_length': 64 * 1024 * 1024,
        'grpc.initial_reconnect_backoff_ms': 50,
        'grpc.max_reconnect_backoff_ms': 200,
      }) as unknown as Stub
    }
    this.#runtime = of('RuntimeService')
    this.#images = of('ImageService')
  }

  call<Name extends keyof Calls>(
    name: Name,
    request: Given<Calls[Name][0]> = {} as Given<Calls[Name][0]>,
    options: { deadlineMs?: number } = {},
  ): Promise<Calls[Name][1]> {
    const stub = IMAGE_CALLS.has(name) ? this.#images : this.#runtime
    const deadline = Date.now() + (options.deadlineMs ?? CALL_MS)
    return new Promise((resolve, reject) => {
      stub[name]?.call(
        stub,
        request,
        { deadline, 'grpc.wait_for_ready': true },
        (error: ServiceError | null, reply: unknown) =>
          error ? reject(error) : resolve(reply as Calls[Name][1]),
      )
    })
  }

  stream<Name extends keyof Streams>(
    name: Name,
    request: Given<Streams[Name][0]> = {} as Given<Streams[Name][0]>,
  ): ClientReadableStream<Streams[Name][1]> {
    const stub = IMAGE_CALLS.has(name) ? this.#images : this.#runtime
    return stub[name]?.call(stub, request) as ClientReadableStream<Streams[Name][1]>
  }

  async list<Name extends keyof Streams>(
    name: Name,
    request: Given<Streams[Name][0]> = {} as Given<Streams[Name][0]>,
  ): Promise<Streams[Name][1][]> {
    const parts: Streams[Name][1][] = []
    for await (const part of this.stream(name, request)) parts.push(part as Streams[Name][1])
    return parts
  }

  close(): void {
    this.#runtime.close()
    this.#images.close()
  }
}

/** A call's failure: its gRPC code and text. */
export async function failure(promise: Promise<unknown>): Promise<{ code: number; text: string }> {
  try {
    await promise
  } catch (error) {
    const { code, details } = error as ServiceError
    return { code, text: details }
  }
  throw new Error('the call has not failed')
}

/** A daemon of its own, with roots, a socket, logs and networks in one private directory. */
export class CriDaemon {
  readonly berth = new Berth()
  readonly socket = join(this.berth.directory, 'cri.sock')
  readonly logs = join(this.berth.directory, 'logs')
  readonly netConf = join(this.berth.directory, 'net.d')
  readonly config = join(this.berth.directory, 'config.toml')
  #child: ChildProcessWithoutNullStreams | undefined
  #client: CriClient | undefined
  /** What the daemon has logged. */
  log = ''

  /**
   * `missing` as a node that is cgroup v2 has it, or as this machine's hybrid host needs it; `cgroup` are further keys of that table.
   */
  constructor(extra = '', missing: 'refuse' | 'warn' = 'warn', cgroup = '') {
    mkdirSync(this.logs)
    mkdirSync(this.netConf)
    writeFileSync(
      this.config,
      `${extra}
[cgroup]
missing = "${missing}"
${cgroup}
[network]
conf_dir = "${this.netConf}"
`,
    )
  }

  get client(): CriClient {
    if (!this.#client) throw new Error('the daemon is not started')
    return this.#client
  }

  call<Name extends keyof Calls>(
    name: Name,
    request?: Given<Calls[Name][0]>,
    options?: { deadlineMs?: number },
  ): Promise<Calls[Name][1]> {
    return this.client.call(name, request, options)
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Starts it, and waits until it answers. */
  async start(withinMs = 20_000): Promise<void> {
    const child = this.berth.spawn(['serve', '--config', this.config, '--socket', this.socket])
    this.#child = child
    child.stdin.end()
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (part: Buffer) => {
        this.log = (this.log + part.toString()).slice(-1024 * 1024)
      })
    this.#client ??= new CriClient(this.socket)
    await eventually(
      'the daemon answers',
      async () => {
        if (child.exitCode !== null) throw new Error(`it has ended: ${this.log}`)
        await this.client.call('Version', {}, { deadlineMs: 2000 })
        return true
      },
      { withinMs },
    )
  }

  /** Ends it, as a service manager does or by kill -9; pods and containers go on. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('close', resolve))
    child.kill(signal)
    await ended
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  /** The image that all tests run, taken into this daemon's store by the command line. */
  async loadHello(): Promise<void> {
    await this.berth.ok([
      'load',
      '--input',
      join(REPOSITORY, 'dist/rootfs/images/hello'),
      '--name',
      HELLO,
    ])
  }

  /** Removes every pod and everything below the directory. */
  async destroy(): Promise<void> {
    try {
      if (!this.#child) await this.start()
      const { items } = await this.call('ListPodSandbox')
      await Promise.all(items.map(({ id }) => this.call('RemovePodSandbox', { podSandboxId: id })))
      await this.end()
    } finally {
      this.#client?.close()
      await this.end('SIGKILL')
      this.berth.destroy()
    }
  }
}

let count = 0

/** A pod's configuration: in the host's network, unless the change says otherwise. */
export function podConfig(
  daemon: CriDaemon,
  change: Given<cri.PodSandboxConfig> = {},
): Given<cri.PodSandboxConfig> {
  count++
  const name = `pod-${count}`
  return {
    metadata: { name, uid: `uid-${process.pid}-${count}`, namespace: 'test', attempt: 0 },
    logDirectory: join(daemon.logs, name),
    ...change,
    linux: {
      securityContext: { namespaceOptions: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } },
      ...change.linux,
    },
  }
}

export function containerConfig(
  command: string[],
  change: Given<cri.ContainerConfig> = {},
): Given<cri.ContainerConfig> {
  count++
  return {
    metadata: { name: `container-${count}`, attempt: 0 },
    image: { image: HELLO },
    command,
    logPath: `container-${count}.log`,
    ...change,
    linux: {
      securityContext: { namespaceOptions: { network: 'NODE', pid: 'CONTAINER', ipc: 'POD' } },
      ...change.linux,
    },
  }
}

export async function runPod(
  daemon: CriDaemon,
  change: Given<cri.PodSandboxConfig> = {},
): Promise<{ id: string; config: Given<cri.PodSandboxConfig> }> {
  const config = podConfig(daemon, change)
  const { podSandboxId } = await daemon.call('RunPodSandbox', { config })
  return { id: podSandboxId, config }
}

/** Creates and starts; its id. */
export async function runContainer(
  daemon: CriDaemon,
  pod: { id: string; config: Given<cri.PodSandboxConfig> },
  command: string[],
  change: Given<cri.ContainerConfig> = {},
): Promise<string> {
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(command, change),
    sandboxConfig: pod.config,
  })
  await daemon.call('StartContainer', { containerId })
  return containerId
}

export async function statusOf(daemon: CriDaemon, id: string): Promise<cri.ContainerStatus> {
  const { status } = await daemon.call('ContainerStatus', { containerId: id })
  if (!status) throw new Error(`no status of ${id}`)
  return status
}

/** Its status when it has exited. */
export function exited(daemon: CriDaemon, id: string): Promise<cri.ContainerStatus> {
  return eventually(`container ${id} exits`, async () => {
    const status = await statusOf(daemon, id)
    return status.state === 'CONTAINER_EXITED' && status
  })
}

/** The lines of a container's log, without time and tags. */
export function logLines(path: string): string[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => line.replace(/^\S+ (stdout|stderr) [FP] /, ''))
}
