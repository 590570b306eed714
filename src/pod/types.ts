import type { ContainerConfig, LinuxContainerResources, PodSandboxConfig } from '../spec/cri.ts'
import type { IdMapping } from '../spec/runtime.ts'

/** What is on disk about a pod: ROOT/pods/ID/record.json. Written once, when all that RunPodSandbox does is done. */
export interface PodRecord {
  readonly version: 1
  readonly id: string
  readonly createdNs: string
  /** As the client gave it: labels and annotations go back byte for byte. */
  readonly config: PodSandboxConfig
  /** As the client gave it; '' is the default handler. */
  readonly runtimeHandler: string
  /** Below the cgroup hierarchy's root; where the client named none, berth's own. */
  readonly cgroupParent: string
  /** Of the driver systemd: the pod's scope in the slice that `cgroupParent` is, with the groups of its containers in it. */
  readonly scope?: string
  /** The cgroup parent was not there before the pod, so it goes with it: on a host whose kubelet uses another hierarchy nobody else removes it. */
  readonly ownsParent: boolean
  /** What programs of the pod find as their host's name. */
  readonly hostname: string
  /** Of the pod's user namespace; undefined where it has none. */
  readonly mappings?: Mappings
}

export interface Mappings {
  readonly uidMappings: readonly IdMapping[]
  readonly gidMappings: readonly IdMapping[]
}

/** A container's configuration as the client gave it, with values of the environment as text. */
export type StoredConfig = Omit<ContainerConfig, 'envs'> & {
  readonly envs: readonly { readonly key: string; readonly value: string }[]
}

/** What is on disk about a container: ROOT/pods/POD/containers/ID/record.json. Replaced when its resources change. */
export interface ContainerRecord {
  readonly version: 1
  readonly id: string
  readonly podId: string
  readonly createdNs: string
  readonly config: StoredConfig
  readonly imageId: string
  /** A name of the image for people: a tag, else the id. */
  readonly imageRef: string
  /** NAME@DIGEST where it came from a registry, else the id. */
  readonly imageDigestRef: string
  /** Layers of the root, topmost first, below ROOT. */
  readonly lower: readonly string[]
  readonly user: { readonly uid: number; readonly gid: number; readonly groups: readonly number[] }
  readonly stopSignal: number
  /** Absolute; '' keeps no log. */
  readonly logPath: string
  /** In force, or to be at the start: changed by UpdateContainerResources. */
  readonly resources: LinuxContainerResources
  /** They are just being put in force. */
  readonly isUpdating?: boolean
  /** Whose /dev/shm it sees. */
  readonly sharedMemory: 'pod' | 'own' | 'node' | 'target'
  /** The image of each mount that is one, by its place in `config.mounts`. */
  readonly imageMounts: readonly ImageMount[]
}

export interface ImageMount {
  readonly index: number
  readonly imageId: string
  /** Below ROOT, topmost first. */
  readonly lower: readonly string[]
  /** What is mounted of it, without links; '' is its root. */
  readonly path: string
  readonly isDirectory: boolean
}

/** created: never started. A container that was lost with its monitor or its machine is exited, with code 255. */
export type ContainerState = 'created' | 'running' | 'exited'

export interface ContainerStatus {
  readonly state: ContainerState
  /** Host pid of the first process; 0 when none. */
  readonly pid: number
  readonly startedNs: string
  readonly finishedNs: string
  readonly exitCode: number
  /** Completed, Error, OOMKilled, StartError, ContainerStatusUnknown …; '' while it has not ended. */
  readonly reason: string
  readonly message: string
}
