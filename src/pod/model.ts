import { nowNs } from '../base/clock.ts'
import type { Monitor } from '../container/index.ts'
import type { HeldNamespaces } from '../container/monitor.ts'
import type { Spec } from '../spec/runtime.ts'
import type { Ahead } from './ahead.ts'
import { podOptions } from './namespaces.ts'
import type { ContainerRecord, ContainerStatus, PodRecord } from './types.ts'

/** A pod as the daemon knows it: an index over what is on the disk and what its monitor says. */
export class Pod {
  readonly record: PodRecord
  /** Whether its containers share a PID namespace. Lists ask all pods: each then is one look at memory in place of five. */
  readonly #sharesPids: boolean
  readonly containers = new Map<string, Container>()
  /** Undefined when it has ended: then nothing of the pod is alive. */
  monitor: Monitor | undefined
  held: HeldNamespaces = {}
  /** Without prefix length, the primary one first; none with the host's network. */
  addresses: readonly string[] = []
  /** A stop was asked for: no container starts any more. */
  stopped = false
  /** Its stop is done: nothing of it is left but files. */
  isDown = false
  /** The id of its next container, whose directories are there already. */
  preparedContainer: string | undefined
  /** Of its removed containers, files that are on their way out. */
  readonly removals = new Set<Promise<void>>()
  /**
   * When something of it or its containers last changed, for those who compare. A daemon that begins says now: what happened while there was
   * none it cannot date, and a kubelet with EventedPLEG takes nothing older than what it knows.
   */
  changedNs = String(nowNs())

  constructor(record: PodRecord) {
    this.record = record
    this.#sharesPids = podOptions(record.config).pid === 'POD'
  }

  get id(): string {
    return this.record.id
  }

  get isReady(): boolean {
    return this.monitor !== undefined && !this.stopped && !this.hasLostPids
  }

  /** The first process of the PID namespace that its containers share has ended: nothing can be started in there any more. */
  get hasLostPids(): boolean {
    return this.#sharesPids && this.held.pid === undefined
  }
}

/** A container of a pod, in the same sense. */
export class Container {
  readonly pod: Pod
  record: ContainerRecord
  status: ContainerStatus
  /** Its OCI configuration, read when it is first needed. */
  spec: Spec | undefined
  /** Its directory of the cgroup hierarchy while it runs. */
  cgroup = ''
  /** Its stop signal was sent: that is done once, whoever asks again. */
  stopping = false
  removing = false
  /** It is killed because it has more memory than its limit allows (memory-watch.ts): its monitor sees no more than a SIGKILL. */
  outOfMemory = false
  /** Its first process, made before anybody has asked for its start. */
  ahead: Ahead | undefined
  readonly #waiting: (() => void)[] = []

  constructor(pod: Pod, record: ContainerRecord, status: ContainerStatus) {
    this.pod = pod
    this.record = record
    this.status = status
  }

  get id(): string {
    return this.record.id
  }

  /** Resolves when the container does not run (any more). */
  ended(): Promise<void> {
    if (this.status.state !== 'running') return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** The one way to the state `exited`. */
  end(status: ContainerStatus): void {
    this.status = status
    this.cgroup = ''
    for (const tell of this.#waiting.splice(0)) tell()
  }
}
