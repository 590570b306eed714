import { readdirSync, readFileSync, statSync } from 'node:fs'
import { release } from 'node:os'
import { readFileIfAny } from '../base/file.ts'
import { RLIM_INFINITY, RLIMITS } from '../spec/linux.ts'
import { NAMESPACE_FLAGS, type NamespaceType } from '../spec/plan.ts'
import type { Spec } from '../spec/runtime.ts'

/** What judging a configuration needs to know of the machine and of this process. */
export interface HostFacts {
  /** Capabilities that we can grant in our own user namespace, bit n for capability n. */
  readonly capabilities: bigint
  /** The highest capability number of this kernel. */
  readonly lastCapability: number
  readonly kernel: string
  /** As Node names it: x64, arm64. */
  readonly architecture: string
  readonly apparmor: boolean
  readonly selinux: boolean
  /** Where the host has its cgroup v2 hierarchy and how; undefined without one. */
  readonly cgroup2: { readonly path: string; readonly options: readonly string[] } | undefined
  readonly namespaces: ReadonlySet<NamespaceType>
  /** Our own hard limits by RLIMIT_* number: without CAP_SYS_RESOURCE nobody gets more. */
  readonly hardLimits: ReadonlyMap<number, bigint>
  /** Our own; without CAP_SYS_RESOURCE nobody gets less. */
  readonly oomScoreAdj: number
  readonly kcore: boolean
}

let known: HostFacts | undefined

/**
 * Looks at the machine: some ten small files of /proc and /sys, once in a process's life, for they do not change in it. With a pid the limits and the score
 * are those of that process, whose child is to be made.
 */
export function hostFacts(pid: number | 'self' = 'self'): HostFacts {
  known ??= lookAtHost()
  return pid === 'self' ? known : { ...known, ...ofProcess(pid) }
}

function ofProcess(pid: number | 'self'): Pick<HostFacts, 'hardLimits' | 'oomScoreAdj'> {
  return {
    hardLimits: hardLimits(readFileSync(`/proc/${pid}/limits`, 'utf8')),
    oomScoreAdj: Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8')),
  }
}

function lookAtHost(): HostFacts {
  const status = readFileSync('/proc/self/status', 'utf8')
  const mask = (name: string): bigint =>
    BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`)
  return {
    capabilities: mask('CapBnd') & mask('CapPrm'),
    lastCapability: Number(readFileIfAny('/proc/sys/kernel/cap_last_cap') ?? 40),
    kernel: release(),
    architecture: process.arch,
    apparmor: readFileIfAny('/sys/module/apparmor/parameters/enabled')?.trim() === 'Y',
    selinux: readFileIfAny('/sys/fs/selinux/enforce') !== undefined,
    cgroup2: cgroup2(readFileSync('/proc/self/mountinfo', 'utf8')),
    namespaces: namespaces(),
    ...ofProcess('self'),
    kcore: exists('/proc/kcore'),
  }
}

/** Of the namespaces that a configuration joins by path, those that are our own: to join these is to share the host's. */
export function namespacesOfHost(spec: Spec): Set<NamespaceType> {
  const shared = new Set<NamespaceType>()
  for (const { type, path } of spec.linux?.namespaces ?? []) {
    if (path === undefined || path === '' || !Object.hasOwn(FILES, type)) continue
    const known = type as NamespaceType
    const [own, other] = [identity(`/proc/self/ns/${FILES[known]}`), identity(path)]
    if (own !== undefined && own === other) shared.add(known)
  }
  return shared
}

/** Names below /proc/PID/ns. */
const FILES: Record<NamespaceType, string> = {
  time: 'time_for_children',
  mount: 'mnt',
  cgroup: 'cgroup',
  uts: 'uts',
  ipc: 'ipc',
  user: 'user',
  pid: 'pid_for_children',
  network: 'net',
}

function identity(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat && `${stat.dev}:${stat.ino}`
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined
}

function namespaces(): Set<NamespaceType> {
  const files = new Set(readdirSync('/proc/self/ns'))
  const types = Object.keys(NAMESPACE_FLAGS) as NamespaceType[]
  return new Set(types.filter((type) => files.has(FILES[type])))
}

/** Finds the cgroup v2 mount nearest to /sys/fs/cgroup in /proc/self/mountinfo. */
export function cgroup2(mountinfo: string): HostFacts['cgroup2'] {
  let found: HostFacts['cgroup2']
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ')
    const path = left?.split(' ')[4]
    const [type, , options] = right?.split(' ') ?? []
    if (path === undefined || type !== 'cgroup2') continue
    if (found && found.path.length <= path.length) continue
    found = { path, options: (options ?? '').split(',').filter((o) => o !== 'rw' && o !== 'ro') }
  }
  return found
}

/** The hard limits of /proc/PID/limits, whose columns are of fixed width. */
export function hardLimits(limits: string): Map<number, bigint> {
  const found = new Map<number, bigint>()
  const [, ...lines] = limits.split('\n')
  for (const line of lines) {
    const match = /^Max (.+?)\s{2,}(?:\d+|unlimited)\s+(\d+|unlimited)\s/.exec(line)
    const name = match?.[1] && LIMIT_NAMES[match[1]]
    if (!match?.[2] || !name) continue
    found.set(RLIMITS[name], match[2] === 'unlimited' ? RLIM_INFINITY : BigInt(match[2]))
  }
  return found
}

const LIMIT_NAMES: Record<string, keyof typeof RLIMITS> = {
  'cpu time': 'RLIMIT_CPU',
  'file size': 'RLIMIT_FSIZE',
  'data size': 'RLIMIT_DATA',
  'stack size': 'RLIMIT_STACK',
  'core file size': 'RLIMIT_CORE',
  'resident set': 'RLIMIT_RSS',
  processes: 'RLIMIT_NPROC',
  'open files': 'RLIMIT_NOFILE',
  'locked memory': 'RLIMIT_MEMLOCK',
  'address space': 'RLIMIT_AS',
  'file locks': 'RLIMIT_LOCKS',
  'pending signals': 'RLIMIT_SIGPENDING',
  'msgqueue size': 'RLIMIT_MSGQUEUE',
  'nice priority': 'RLIMIT_NICE',
  'realtime priority': 'RLIMIT_RTPRIO',
  'realtime timeout': 'RLIMIT_RTTIME',
}
