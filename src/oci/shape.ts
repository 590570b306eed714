import { Fault } from '../base/fault.ts'
import type { Process, Resources, Spec } from '../spec/runtime.ts'

/**
 * What the JSON schema of the runtime-spec says of a configuration: which fields there are and what they may hold. Unknown ones are no error (runtime-spec,
 * "Extensibility"). Whoever reads a document asks this first; what the values mean is judged by plan/, cgroup/ and seccomp/.
 */

/** Throws a Fault that names the field. */
type Check = (field: string, value: unknown) => void

function wrong(field: string, value: unknown, what: string): Fault {
  const text =
    typeof value === 'bigint'
      ? String(value)
      : JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? String(part) : part))
  const shown = text.length > 80 ? `${text.slice(0, 77)}…` : text
  return new Fault('INVALID_ARGUMENT', `${field}: ${shown} is ${what}`)
}

const text: Check = (field, value) => {
  if (typeof value !== 'string') throw wrong(field, value, 'no text')
}

const truth: Check = (field, value) => {
  if (typeof value !== 'boolean') throw wrong(field, value, 'neither true nor false')
}

function whole(minimum: number | bigint, maximum: number | bigint): Check {
  return (field, value) => {
    const isWhole = typeof value === 'bigint' || (typeof value === 'number' && value % 1 === 0)
    if (!isWhole || value < minimum || value > maximum) {
      throw wrong(field, value, `no whole number from ${minimum} to ${maximum}`)
    }
  }
}

const INT32 = whole(-(2 ** 31), 2 ** 31 - 1)
const UINT8 = whole(0, 2 ** 8 - 1)
const UINT16 = whole(0, 2 ** 16 - 1)
const UINT32 = whole(0, 2 ** 32 - 1)
/** What programs with doubles write for 2^64-1 and 2^63-1. */
const UINT64_MAX = 18446744073709552000n
const INT64_MAX = 9223372036854776000n
const UINT64 = whole(0, UINT64_MAX)
const INT64 = whole(-INT64_MAX, INT64_MAX)

function matching(pattern: RegExp, what: string): Check {
  return (field, value) => {
    if (typeof value !== 'string' || !pattern.test(value)) throw wrong(field, value, what)
  }
}

function oneOf(...words: readonly string[]): Check {
  return (field, value) => {
    if (typeof value !== 'string' || !words.includes(value)) {
      throw wrong(field, value, `none of ${words.join(', ')}`)
    }
  }
}

function list(of: Check, minimum = 0): Check {
  return (field, value) => {
    if (!Array.isArray(value)) throw wrong(field, value, 'no list')
    if (value.length < minimum) throw wrong(field, value, 'empty')
    for (const [i, entry] of value.entries()) of(`${field}[${i}]`, entry)
  }
}

function entriesOf(field: string, value: unknown): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrong(field, value, 'no object')
  }
  return Object.entries(value)
}

function map(of: Check): Check {
  return (field, value) => {
    for (const [key, entry] of entriesOf(field, value)) of(`${field}.${key.slice(0, 80)}`, entry)
  }
}

/** Names that end in `!` must be there. */
function object(fields: Readonly<Record<string, Check>>): Check {
  const checks = new Map(
    Object.entries(fields).map(([name, check]) => [name.replace('!', ''), check]),
  )
  const required = Object.keys(fields)
    .filter((name) => name.endsWith('!'))
    .map((name) => name.slice(0, -1))
  return (field, value) => {
    const entries = entriesOf(field, value)
    const path = (name: string): string => (field === '' ? name : `${field}.${name}`)
    for (const name of required) {
      if (!entries.some(([key]) => key === name)) {
        throw new Fault('INVALID_ARGUMENT', `${path(name)} is missing`)
      }
    }
    for (const [name, entry] of entries) checks.get(name)?.(path(name), entry)
  }
}

const TEXTS = list(text)
const ID_MAPS = list(object({ 'containerID!': UINT32, 'hostID!': UINT32, 'size!': UINT32 }))
const HOOKS = list(object({ 'path!': text, args: TEXTS, env: TEXTS, timeout: whole(1, INT64_MAX) }))
const DEVICE_NUMBERS = { major: INT64, minor: INT64 }
const DEVICE_NUMBERS_NEEDED = { 'major!': INT64, 'minor!': INT64 }
const THROTTLES = list(object({ ...DEVICE_NUMBERS_NEEDED, rate: UINT64 }))
const CPUS = matching(/^[0-9, -]*$/, 'no list of CPUs')

const PROCESS = object({
  args: TEXTS,
  commandLine: text,
  consoleSize: object({ 'height!': UINT64, 'width!': UINT64 }),
  'cwd!': text,
  env: TEXTS,
  terminal: truth,
  user: object({
    uid: UINT32,
    gid: UINT32,
    umask: UINT32,
    additionalGids: list(UINT32),
    username: text,
  }),
  capabilities: object({
    bounding: TEXTS,
    permitted: TEXTS,
    effective: TEXTS,
    inheritable: TEXTS,
    ambient: TEXTS,
  }),
  apparmorProfile: text,
  oomScoreAdj: INT64,
  selinuxLabel: text,
  ioPriority: object({
    'class!': oneOf('IOPRIO_CLASS_RT', 'IOPRIO_CLASS_BE', 'IOPRIO_CLASS_IDLE'),
    priority: INT32,
  }),
  noNewPrivileges: truth,
  scheduler: object({
    'policy!': matching(/^SCHED_[A-Z]+$/, 'no policy'),
    nice: INT32,
    priority: INT32,
    flags: list(matching(/^SCHED_FLAG_[A-Z_]+$/, 'no flag of a scheduler')),
    runtime: UINT64,
    deadline: UINT64,
    period: UINT64,
  }),
  rlimits: list(
    object({
      'type!': matching(/^RLIMIT_[A-Z]+$/, 'no limit'),
      // Engines write -1 for no limit.
      'soft!': whole(-1, UINT64_MAX),
      'hard!': whole(-1, UINT64_MAX),
    }),
  ),
  execCPUAffinity: object({ initial: CPUS, final: CPUS }),
})

const RESOURCES = object({
  unified: map(text),
  devices: list(object({ 'allow!': truth, type: text, ...DEVICE_NUMBERS, access: text })),
  pids: object({ limit: INT64 }),
  blockIO: object({
    weight: UINT16,
    leafWeight: UINT16,
    weightDevice: list(object({ ...DEVICE_NUMBERS_NEEDED, weight: UINT16, leafWeight: UINT16 })),
    throttleReadBpsDevice: THROTTLES,
    throttleWriteBpsDevice: THROTTLES,
    throttleReadIOPSDevice: THROTTLES,
    throttleWriteIOPSDevice: THROTTLES,
  }),
  cpu: object({
    cpus: text,
    mems: text,
    period: UINT64,
    quota: INT64,
    burst: UINT64,
    realtimePeriod: UINT64,
    realtimeRuntime: INT64,
    shares: UINT64,
    idle: INT64,
  }),
  hugepageLimits: list(
    object({
      'pageSize!': matching(/^[1-9][0-9]*[KMG]B$/, 'no size of a page, such as 2MB'),
      'limit!': UINT64,
    }),
  ),
  memory: object({
    kernel: INT64,
    kernelTCP: INT64,
    limit: INT64,
    reservation: INT64,
    swap: INT64,
    swappiness: UINT64,
    disableOOMKiller: truth,
    useHierarchy: truth,
    checkBeforeUpdate: truth,
  }),
  network: object({
    classID: UINT32,
    priorities: list(object({ 'name!': text, 'priority!': UINT32 })),
  }),
  rdma: map(object({ hcaHandles: UINT32, hcaObjects: UINT32 })),
})

const ACTION = matching(/^SCMP_ACT_[A-Z_]+$/, 'no action')

const LINUX = object({
  devices: list(
    object({
      'type!': matching(/^[cbup]$/, 'none of c, b, u, p'),
      'path!': text,
      fileMode: UINT32,
      ...DEVICE_NUMBERS,
      uid: UINT32,
      gid: UINT32,
    }),
  ),
  netDevices: map(object({ name: text })),
  uidMappings: ID_MAPS,
  gidMappings: ID_MAPS,
  namespaces: list(object({ 'type!': text, path: text })),
  resources: RESOURCES,
  cgroupsPath: text,
  rootfsPropagation: text,
  seccomp: object({
    'defaultAction!': ACTION,
    defaultErrnoRet: UINT32,
    flags: TEXTS,
    listenerPath: text,
    listenerMetadata: text,
    architectures: TEXTS,
    syscalls: list(
      object({
        'names!': list(text, 1),
        'action!': ACTION,
        errnoRet: UINT32,
        args: list(object({ 'index!': UINT32, 'value!': UINT64, valueTwo: UINT64, 'op!': text })),
      }),
    ),
  }),
  sysctl: map(text),
  maskedPaths: TEXTS,
  readonlyPaths: TEXTS,
  mountLabel: text,
  intelRdt: object({
    closID: text,
    schemata: TEXTS,
    l3CacheSchema: text,
    memBwSchema: text,
    enableMonitoring: truth,
  }),
  memoryPolicy: object({ mode: text, nodes: text, flags: TEXTS }),
  personality: object({ domain: text, flags: TEXTS }),
  timeOffsets: map(object({ secs: INT64, nanosecs: UINT32 })),
})

// Of other systems: berth runs none of their containers, but what is wrong there is wrong.
const SHARING = oneOf('disable', 'new', 'inherit')
const SHARING_ON = oneOf('new', 'inherit')
const FREEBSD = object({
  devices: list(object({ path: text, mode: UINT32 })),
  jail: object({
    parent: text,
    host: SHARING_ON,
    ip4: SHARING,
    ip4Addr: TEXTS,
    ip6: SHARING,
    ip6Addr: TEXTS,
    vnet: SHARING_ON,
    interface: text,
    vnetInterfaces: TEXTS,
    sysvmsg: SHARING,
    sysvsem: SHARING,
    sysvshm: SHARING,
    enforceStatfs: UINT8,
    allow: object({ mount: TEXTS }),
  }),
})
const ZOS = object({
  namespaces: list(object({ 'type!': oneOf('mount', 'pid', 'uts', 'ipc'), path: text })),
})

const SPEC = object({
  'ociVersion!': text,
  hooks: object({
    prestart: HOOKS,
    createRuntime: HOOKS,
    createContainer: HOOKS,
    startContainer: HOOKS,
    poststart: HOOKS,
    poststop: HOOKS,
  }),
  annotations: map(text),
  hostname: text,
  domainname: text,
  mounts: list(
    object({
      source: text,
      'destination!': text,
      options: TEXTS,
      type: text,
      uidMappings: ID_MAPS,
      gidMappings: ID_MAPS,
    }),
  ),
  root: object({ 'path!': text, readonly: truth }),
  process: PROCESS,
  linux: LINUX,
  freebsd: FREEBSD,
  zos: ZOS,
})

export function asSpec(name: string, value: unknown): Spec {
  return checked(name, SPEC, value) as Spec
}

export function asProcess(name: string, value: unknown): Process {
  return checked(name, PROCESS, value) as Process
}

export function asResources(name: string, value: unknown): Resources {
  return checked(name, RESOURCES, value) as Resources
}

function checked(name: string, check: Check, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Fault('INVALID_ARGUMENT', `${name} is no JSON object`)
  }
  check('', value)
  return value
}
