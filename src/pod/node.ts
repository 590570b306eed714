import { nowNs } from '../base/clock.ts'
import { Fault } from '../base/fault.ts'
import { Joins, Turns } from '../base/turns.ts'
import type { DriverName } from '../cgroup/index.ts'
import type { Engine } from '../engine/open.ts'
import { onceEach } from './check.ts'
import { EventBus, type PodEventType } from './events.ts'
import type { Container, Pod } from './model.ts'
import { Monitors } from './monitors.ts'
import type { Networks } from './network.ts'
import { type PodPaths, podPaths } from './paths.ts'
import { Rates } from './stats.ts'

/** What a container gets that its pod says nothing about. */
export interface HandlerSettings {
  /** A file in place of the built-in profile for RuntimeDefault; '' for that one. */
  readonly seccompProfile: string
  /** Before a container's own `add` and `drop`. */
  readonly capabilities: readonly string[]
  /** NAME=SOFT[:HARD] */
  readonly ulimits: readonly string[]
  readonly privilegedWithoutHostDevices: boolean
  /** An oom_score_adj that berth may not give becomes its own one; else it is refused. */
  readonly restrictOomScoreAdj: boolean
}

/** What the daemon's configuration decides about pods; may be replaced while it runs. */
export interface NodeSettings {
  /** Who makes the groups of new pods. */
  readonly cgroupDriver: DriverName
  /** A limit whose controller the host lacks: refused, or told and not in force (for development). */
  readonly missingControllers: 'refuse' | 'warn'
  /** Of RuntimeClass handlers, by name, beside '' and 'berth', which are `container`. */
  readonly handlers: ReadonlyMap<string, HandlerSettings>
  readonly container: HandlerSettings
  /** Images that are never collected, as patterns with `*`. */
  readonly pinnedImages: readonly string[]
  /** A pull of which nothing has arrived for so long is given up. */
  readonly pullProgressTimeoutMs: number
  /** Layers of one image that are fetched at the same time. */
  readonly layersAtOnce: number
  /** Whether the archives of unpacked layers stay. */
  readonly keepBlobs: boolean
  /** The node's own where undefined, and then it may be missing. */
  readonly signaturePolicy: string | undefined
}

/** The pods of this machine: the state that all calls work on. One in a process, and one process for a root. */
export class Node {
  readonly engine: Engine
  readonly at: PodPaths
  settings: NodeSettings
  readonly networks: Networks
  readonly monitors: Monitors
  readonly events = new EventBus()
  readonly rates = new Rates()
  readonly pods = new Map<string, Pod>()
  readonly containers = new Map<string, Container>()
  /** What changes a pod or a container, by its id. */
  readonly turns = new Turns()
  /** Creations under way, by name: a client whose call ran out of time comes back with the same one. */
  readonly creations = new Joins<string>()
  /** Files of removed containers that are on their way out. */
  readonly removals = new Set<Promise<void>>()
  /** Containers whose first process was made before their start. */
  readonly ahead = new Map<string, Container>()
  /** What was found damaged at the start, in sentences for Status. */
  readonly damage: string[] = []

  constructor(engine: Engine, settings: NodeSettings, networks: Networks) {
    this.engine = engine
    this.at = podPaths(engine)
    this.settings = settings
    this.networks = networks
    this.monitors = new Monitors(engine, engine.warn)
    this.warnOnce = onceEach(engine.warn)
  }

  pod(id: string): Pod | undefined {
    return byId(this.pods, id, 'pod')
  }

  container(id: string): Container | undefined {
    return byId(this.containers, id, 'container')
  }

  mustPod(id: string): Pod {
    const pod = this.pod(id)
    if (!pod) throw new Fault('NOT_FOUND', `no pod "${id}"`)
    return pod
  }

  mustContainer(id: string): Container {
    const container = this.container(id)
    if (!container) throw new Fault('NOT_FOUND', `no container "${id}"`)
    return container
  }

  emit(type: PodEventType, pod: Pod, id: string): void {
    pod.changedNs = String(nowNs())
    this.events.emit({ type, id, podId: pod.id, timeNs: pod.changedNs })
  }

  /** What is so for every container, such as a kernel without AppArmor, is told once. */
  readonly warnOnce: (message: string) => void

  /** For what went wrong and makes no difference to the call. */
  warn(message: string): void {
    this.engine.warn(message)
  }
}

const ID = /^[0-9a-f]{1,64}$/

/** By the whole id or a unique beginning of it (crictl cuts ids to 13 digits). */
function byId<T>(all: ReadonlyMap<string, T>, id: string, what: string): T | undefined {
  const exact = all.get(id)
  if (exact !== undefined || !ID.test(id)) {
    if (id === '') throw new Fault('INVALID_ARGUMENT', `the ${what}'s id is empty`)
    return exact
  }
  let found: T | undefined
  for (const [each, value] of all) {
    if (!each.startsWith(id)) continue
    if (found !== undefined)
      throw new Fault(
        'INVALID_ARGUMENT',
        `"${id}" is the beginning of several ids: give more of it`,
      )
    found = value
  }
  return found
}
