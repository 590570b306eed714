/** OCI runtime-spec 1.3, config.json, for Linux. Field names are the specification's. */

export interface Spec {
  ociVersion: string
  process?: Process
  root?: { path: string; readonly?: boolean }
  hostname?: string
  domainname?: string
  mounts?: Mount[]
  hooks?: Hooks
  annotations?: Record<string, string>
  linux?: Linux
}

export interface Process {
  terminal?: boolean
  consoleSize?: { height: number; width: number }
  user: User
  args?: string[]
  env?: string[]
  cwd: string
  capabilities?: Capabilities
  rlimits?: Rlimit[]
  noNewPrivileges?: boolean
  apparmorProfile?: string
  oomScoreAdj?: number
  scheduler?: {
    policy: string
    nice?: number
    priority?: number
    flags?: string[]
    runtime?: number
    deadline?: number
    period?: number
  }
  selinuxLabel?: string
  ioPriority?: { class: string; priority: number }
  execCPUAffinity?: { initial?: string; final?: string }
}

export interface User {
  uid: number
  gid: number
  umask?: number
  additionalGids?: number[]
  username?: string
}

export interface Capabilities {
  bounding?: string[]
  effective?: string[]
  inheritable?: string[]
  permitted?: string[]
  ambient?: string[]
}

export interface Rlimit {
  type: string
  hard: number | bigint
  soft: number | bigint
}

export interface Mount {
  destination: string
  type?: string
  source?: string
  options?: string[]
  uidMappings?: IdMapping[]
  gidMappings?: IdMapping[]
}

export interface IdMapping {
  containerID: number
  hostID: number
  size: number
}

export interface Hook {
  path: string
  args?: string[]
  env?: string[]
  timeout?: number
}

export interface Hooks {
  prestart?: Hook[]
  createRuntime?: Hook[]
  createContainer?: Hook[]
  startContainer?: Hook[]
  poststart?: Hook[]
  poststop?: Hook[]
}

export interface Linux {
  uidMappings?: IdMapping[]
  gidMappings?: IdMapping[]
  timeOffsets?: Record<string, { secs?: number; nanosecs?: number }>
  sysctl?: Record<string, string>
  resources?: Resources
  cgroupsPath?: string
  namespaces?: { type: string; path?: string }[]
  devices?: Device[]
  netDevices?: Record<string, { name?: string }>
  seccomp?: Seccomp
  rootfsPropagation?: string
  maskedPaths?: string[]
  readonlyPaths?: string[]
  mountLabel?: string
  intelRdt?: Record<string, unknown>
  memoryPolicy?: { mode: string; nodes: string; flags?: string[] }
  personality?: { domain: string; flags?: string[] }
}

export interface Device {
  path: string
  type: string
  major?: number
  minor?: number
  fileMode?: number
  uid?: number
  gid?: number
}

export interface DeviceRule {
  allow: boolean
  type?: string
  major?: number
  minor?: number
  access?: string
}

export interface Resources {
  devices?: DeviceRule[]
  memory?: {
    limit?: number
    reservation?: number
    swap?: number
    kernel?: number
    kernelTCP?: number
    swappiness?: number
    disableOOMKiller?: boolean
    useHierarchy?: boolean
    checkBeforeUpdate?: boolean
  }
  cpu?: {
    shares?: number
    quota?: number
    burst?: number
    period?: number
    realtimeRuntime?: number
    realtimePeriod?: number
    cpus?: string
    mems?: string
    idle?: number
  }
  pids?: { limit?: number }
  blockIO?: {
    weight?: number
    leafWeight?: number
    weightDevice?: { major: number; minor: number; weight?: number; leafWeight?: number }[]
    throttleReadBpsDevice?: Throttle[]
    throttleWriteBpsDevice?: Throttle[]
    throttleReadIOPSDevice?: Throttle[]
    throttleWriteIOPSDevice?: Throttle[]
  }
  hugepageLimits?: { pageSize: string; limit: number }[]
  network?: { classID?: number; priorities?: { name: string; priority: number }[] }
  rdma?: Record<string, { hcaHandles?: number; hcaObjects?: number }>
  unified?: Record<string, string>
}

export interface Throttle {
  major: number
  minor: number
  rate: number
}

export interface Seccomp {
  defaultAction: string
  defaultErrnoRet?: number
  architectures?: string[]
  flags?: string[]
  listenerPath?: string
  listenerMetadata?: string
  syscalls?: SeccompRule[]
}

export interface SeccompRule {
  names: string[]
  action: string
  errnoRet?: number
  args?: { index: number; value: number | bigint; valueTwo?: number | bigint; op: string }[]
}
