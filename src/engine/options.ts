/**
 * What `berth run` and `berth create` ask of the engine: parsed (numbers are numbers, sizes are bytes), in the words of the command line, not yet
 * judged against the host or the image. `undefined` is "not asked".
 */
export interface RunOptions {
  image: string
  /** After the image's name; empty: the image's own. */
  command: string[]
  entrypoint?: string[] | undefined
  name?: string | undefined
  platform?: string | undefined
  pull: 'missing' | 'always' | 'never'

  remove: boolean
  interactive: boolean
  terminal: boolean
  detach: boolean
  reaper: boolean
  /** `K=V`, or `K` alone for the caller's value; env-files already read, in order. */
  env: string[]
  workdir?: string | undefined
  user?: string | undefined
  groupAdd: string[]
  hostname?: string | undefined
  domainname?: string | undefined
  labels: Record<string, string>
  annotations: Record<string, string>

  readOnly: boolean
  mounts: MountOption[]
  shmSize?: number | undefined
  devices: DeviceOption[]

  privileged: boolean
  capAdd: string[]
  capDrop: string[]
  /** 'unconfined', a profile's path, or the default profile. */
  seccomp?: string | undefined
  apparmor?: string | undefined
  noNewPrivileges: boolean
  /** Paths added to the masked ones; 'ALL' in unmask, or paths taken away. */
  mask: string[]
  unmask: string[]
  sysctls: Record<string, string>
  ulimits: { name: string; soft: number; hard: number }[]
  oomScoreAdj?: number | undefined
  umask?: number | undefined

  memory?: number | undefined
  /** -1 for unlimited. */
  memorySwap?: number | undefined
  memoryReservation?: number | undefined
  cpus?: number | undefined
  cpuShares?: number | undefined
  cpuPeriod?: number | undefined
  cpuQuota?: number | undefined
  cpusetCpus?: string | undefined
  cpusetMems?: string | undefined
  /** -1 for unlimited. */
  pidsLimit?: number | undefined
  blkioWeight?: number | undefined
  blkioWeightDevice: { path: string; rate: number }[]
  deviceReadBps: { path: string; rate: number }[]
  deviceWriteBps: { path: string; rate: number }[]
  deviceReadIops: { path: string; rate: number }[]
  deviceWriteIops: { path: string; rate: number }[]
  /** Kills all processes of the container at an OOM (memory.oom.group); not asked, the kernel kills one. */
  oomGroup?: boolean | undefined
  cgroupParent?: string | undefined
  /** 'private' (default), 'host', 'container:ID', 'ns:PATH'. */
  cgroupns?: string | undefined

  /** 'host', 'auto' or mappings. */
  userns?: string | undefined
  /** 'private' (default), 'host', 'container:ID', 'ns:PATH'. */
  pid?: string | undefined
  ipc?: string | undefined
  uts?: string | undefined
  time?: string | undefined
  /** 'none', 'host', 'bridge', 'container:ID', 'ns:PATH' or the name of a CNI network. */
  network?: string | undefined
  networkAliases: string[]
  dns: string[]
  dnsSearch: string[]
  dnsOptions: string[]
  /** `host:ip`. */
  addHosts: string[]
  ports: PortOption[]

  restart: { policy: 'no' | 'always' | 'on-failure' | 'unless-stopped'; maximumRetries: number }
  stopSignal?: string | undefined
  stopTimeoutS?: number | undefined
  logDriver: string
  cidfile?: string | undefined
}

export interface MountOption {
  kind: 'bind' | 'volume' | 'tmpfs'
  /** A host path (bind), a volume's name ('' for an anonymous one), or ''. */
  source: string
  target: string
  readOnly: boolean
  /** Recursive read-only. */
  recursiveReadOnly: boolean
  /** 'private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared'; '' for the default (rprivate). */
  propagation: string
  /** -v makes a missing bind source, --mount does not. */
  createSource: boolean
  /** bind: not the mounts below the source. */
  nonRecursive: boolean
  /** idmapped to the container's user namespace. */
  idmap: boolean
  noCopy: boolean
  /** nosuid, nodev, noexec, exec, suid, dev … and tmpfs's size=, mode=. */
  options: string[]
}

export interface DeviceOption {
  source: string
  target: string
  /** Of 'rwm'. */
  access: string
}

export interface PortOption {
  hostIp: string
  hostPort: number
  containerPort: number
  protocol: 'tcp' | 'udp' | 'sctp'
}
