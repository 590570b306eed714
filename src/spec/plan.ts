/**
 * What the native side is told to do: flat, complete, already judged. No default, look-up or parsing remains
 * for it. `plan/` makes these values from an OCI configuration; `wire/plan.ts` encodes them;
 * `native/common/plan.h` decodes them into structs of the same names.
 *
 * Paths named `source`, `lower`, `upper`, `work`, `cgroup` and `path` of a namespace are the host's. Paths
 * named `target` are the container's: resolved below its root, no link may lead out.
 */

/** A range of ids inside a user namespace and the host ids behind it. */
export interface IdMap {
  readonly inside: number
  readonly outside: number
  readonly size: number
}

export interface IdMappings {
  readonly uids: readonly IdMap[]
  readonly gids: readonly IdMap[]
}

/** CLONE_* bits of clone(2); the names of the OCI runtime-spec. */
export const NAMESPACE_FLAGS = {
  time: 0x00000080,
  mount: 0x00020000,
  cgroup: 0x02000000,
  uts: 0x04000000,
  ipc: 0x08000000,
  user: 0x10000000,
  pid: 0x20000000,
  network: 0x40000000,
} as const

export type NamespaceType = keyof typeof NAMESPACE_FLAGS

export interface NamespacePlan {
  readonly type: NamespaceType
  /** Joined when given (a host path, such as /proc/PID/ns/net); created new when not. */
  readonly path?: string
}

export type RootPlan =
  | {
      readonly kind: 'overlay'
      /** Topmost first. More than a page of them is fine: the mount API takes them one by one. */
      readonly lower: readonly string[]
      /** Without upper and work the root is a read-only view of the layers. */
      readonly upper?: string
      readonly work?: string
      /** Further overlay options, each `key` or `key=value`. */
      readonly options: readonly string[]
    }
  /** A directory of the host, bind-mounted recursively (an OCI bundle's rootfs). */
  | { readonly kind: 'directory'; readonly path: string }

/** One mount, done in the listed order. `attributes` are MOUNT_ATTR_* bits (mount_setattr(2)). */
export interface MountPlan {
  /** 'bind' clones `source`; 'new' makes a file system of `type`; 'remount' changes what is at `target`. */
  readonly kind: 'bind' | 'new' | 'remount'
  readonly source: string
  /** bind only: a mount namespace (its path) in which `source` is; what is there is the container's of that namespace. */
  readonly sourceNamespace?: string
  /** bind only: host directories, topmost first; `source` is a path inside a read-only view of them (an image's layers). */
  readonly lower?: readonly string[]
  readonly target: string
  /** The file system's type; for kind 'new' only. */
  readonly type: string
  /** Options for fsconfig(2), each `key` or `key=value`; for kind 'new' only. */
  readonly options: readonly string[]
  readonly setAttributes: number
  readonly clearAttributes: number
  /** The same for the whole tree (`rro`, `rnosuid` …). */
  readonly setAttributesRecursive: number
  readonly clearAttributesRecursive: number
  /** MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, with MS_REC where recursive; 0 for none. */
  readonly propagation: number
  /** bind only: the whole tree below the source. */
  readonly recursive: boolean
  /** bind only: mapped to the container's user namespace ('container') or to these ids; recursively when `recursive`. */
  readonly idmap?: 'container' | IdMappings
  /** Copies what the root holds at the target into the new tmpfs first. */
  readonly copyUp: boolean
  /** A missing source or a kernel without the file system is no error (optional mounts such as /dev/mqueue). */
  readonly optional: boolean
}

export interface DevicePlan {
  readonly target: string
  /** 'c', 'b', 'p' (fifo). */
  readonly type: 'c' | 'b' | 'p'
  readonly major: number
  readonly minor: number
  /** Permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

export interface RlimitPlan {
  /** RLIMIT_* number of getrlimit(2). */
  readonly resource: number
  readonly soft: bigint
  readonly hard: bigint
}

export interface SeccompPlan {
  /** A whole struct sock_filter array. */
  readonly program: Uint8Array
  /** SECCOMP_FILTER_FLAG_* bits. */
  readonly flags: number
}

/** Capability sets as bit masks, bit n for capability n. */
export interface CapabilitiesPlan {
  readonly bounding: bigint
  readonly effective: bigint
  readonly permitted: bigint
  readonly inheritable: bigint
  readonly ambient: bigint
}

/** A process that starts in a container: its first one, or one of exec. */
export interface ProcessPlan {
  readonly args: readonly string[]
  /** `KEY=value`; the whole environment. */
  readonly env: readonly string[]
  readonly cwd: string
  /** Creates a missing cwd, owned by the process's user (docker's and kubelet's habit). */
  readonly createCwd: boolean
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
  readonly umask: number
  readonly terminal: boolean
  readonly rows: number
  readonly columns: number
  readonly capabilities: CapabilitiesPlan
  readonly noNewPrivileges: boolean
  readonly rlimits: readonly RlimitPlan[]
  readonly seccomp?: SeccompPlan
  /** Written to /proc/self/oom_score_adj when given. */
  readonly oomScoreAdj?: number
  readonly apparmor?: string
  readonly selinux?: string
  /** Stays in the session keyring of whoever starts it. */
  readonly keepKeyring?: boolean
  /** A whole struct sched_attr (sched_setattr(2)). */
  readonly scheduler?: Uint8Array
  /** Class and priority in one number (ioprio_set(2)). */
  readonly ioPriority?: number
  /** PER_* of personality(2). */
  readonly personality?: number
  /** Mode with its flags, and a bit for each node in words of 64 (set_mempolicy(2)). */
  readonly memoryPolicy?: { readonly mode: number; readonly nodes: Uint8Array }
  /** Of a further process: a bit for each processor on which it enters the cgroup, and on which it is then (sched_setaffinity(2)). */
  readonly initialCpus?: Uint8Array
  readonly finalCpus?: Uint8Array
  /** Of a further process: its root is that of the first one, for the mount namespace is the host's. */
  readonly inRoot?: boolean
}

/** A program that runs at a point of a container's life, with the container's state on its stdin. */
export interface HookPlan {
  readonly path: string
  readonly args: readonly string[]
  readonly env: readonly string[]
  /** 0 for none. */
  readonly timeoutMs: number
}

export interface ContainerPlan {
  readonly id: string
  /** The container's cgroup directory: exists, limits written. Empty: the caller's cgroup is kept. */
  readonly cgroup: string
  readonly namespaces: readonly NamespacePlan[]
  /** Required with a new user namespace. */
  readonly idMappings?: IdMappings
  readonly monotonicOffset?: { readonly seconds: bigint; readonly nanoseconds: number }
  readonly boottimeOffset?: { readonly seconds: bigint; readonly nanoseconds: number }
  readonly hostname?: string
  readonly domainname?: string
  readonly root: RootPlan
  readonly rootReadonly: boolean
  /** Propagation of the root mount: MS_* bits, MS_PRIVATE|MS_REC unless asked. */
  readonly rootPropagation: number
  readonly mounts: readonly MountPlan[]
  readonly devices: readonly DevicePlan[]
  /** Symbolic links made in the root, such as /dev/fd; an existing name is kept. */
  readonly links: readonly { readonly target: string; readonly to: string }[]
  /** [path below /proc/sys, value] written after the namespaces are joined. */
  readonly sysctls: readonly (readonly [string, string])[]
  readonly maskedPaths: readonly string[]
  readonly readonlyPaths: readonly string[]
  /** Brings `lo` up in a new network namespace. */
  readonly loopback: boolean
  /** --init: our process stays as PID 1, passes signals on and reaps. */
  readonly reaper: boolean
  readonly process: ProcessPlan
  readonly io: {
    /** Keeps a pipe to the process's stdin open for attach. */
    readonly stdin: boolean
    /** Closes that pipe when the first attached client ends (docker's and CRI's stdin once). */
    readonly stdinOnce: boolean
    /** 'cri': the kubelet's log format at `logPath`; 'none': nothing is kept. */
    readonly log: 'cri' | 'none'
    /** A `/./` in it ends what may be reached by links: directories below are made, and no link is followed. */
    readonly logPath: string
  }
  readonly exit: {
    /** Written atomically before anyone is told of the exit. */
    readonly recordPath: string
    /** Run by the monitor after the container is gone and its record is written; empty for nothing. */
    readonly command: readonly string[]
  }
  readonly restart: {
    readonly policy: 'no' | 'always' | 'on-failure' | 'unless-stopped'
    /** 0 for no bound. */
    readonly maximumRetries: number
  }
  /** With hooks of which the caller runs some: before pivot_root the creation waits for its word. */
  readonly hooks?: {
    /** The cwd of those that see the host's files. */
    readonly directory: string
    readonly createContainer: readonly HookPlan[]
    readonly startContainer: readonly HookPlan[]
  }
  /** Where the seccomp filter's listener is sent to; '' for nowhere. */
  readonly notifySocket?: string
  /** The host's root is covered by the container's, and its mounts taken off, in place of pivot_root(2). */
  readonly noPivot?: boolean
  /** Without a mount namespace of its own or one to join: a directory of the host, where the root is mounted in that of the caller. */
  readonly rootPlace?: string
}

/** A further process in a running container. */
export interface ExecPlan {
  readonly containerId: string
  readonly process: ProcessPlan
  readonly stdin: boolean
  /** 0 for none; after it the whole process tree of the exec is killed. */
  readonly timeoutMs: number
}

/**
 * What the containers of a pod share (user, network, ipc, uts and pid namespaces, shared memory), and what it says about itself. It lives without a
 * process in it, but the first of a pid namespace.
 */
export type NamespacesPlan = Pick<
  ContainerPlan,
  'namespaces' | 'idMappings' | 'hostname' | 'domainname' | 'sysctls' | 'loopback'
> & {
  /** Of the pid namespace's first process; as a container's. */
  readonly cgroup?: string
  /** The size of the tmpfs that is the containers' /dev/shm. */
  readonly sharedMemoryBytes?: number
}
