import { impossible, integer, invalid, list, show, text, unsupported } from '../plan/check.ts'
import { idMaps, Namespaces } from '../plan/namespaces.ts'
import { planSysctls } from '../plan/sysctl.ts'
import type {
  IDMapping,
  LinuxContainerSecurityContext,
  NamespaceMode,
  NamespaceOption,
  PodSandboxConfig,
  UserNamespace,
} from '../spec/cri.ts'
import { SHM_SIZE } from '../spec/defaults.ts'
import type { IdMappings, NamespacePlan, NamespacesPlan, NamespaceType } from '../spec/plan.ts'
import { idMapping } from './check.ts'
import type { Mappings } from './types.ts'

/** __NEW_UTS_LEN of the kernel, and the NUL. */
const NAME_BYTES_MAX = 65
const POD = 'linux.security_context.namespace_options'
const PID_MAX = 2 ** 22

/** A pod's network, ipc, uts, user and pid namespaces: /proc/PID/fd/N of whoever holds them. What is not there is the host's. */
export type HeldPaths = Readonly<
  Partial<Record<'user' | 'network' | 'ipc' | 'uts' | 'pid', string>>
>

export interface PodNamespaces {
  /** What the pod holds; without an entry in `namespaces` it holds nothing. */
  readonly plan: NamespacesPlan
  readonly mappings: Mappings | undefined
  /** What programs of the pod find as their host's name: the plan's, or the host's where uts is the host's. */
  readonly hostname: string
}

/** What is in force where a client says nothing: all is the pod's (CRI, NamespaceMode POD is 0). */
const NOTHING_SAID: NamespaceOption = {
  network: 'POD',
  pid: 'POD',
  ipc: 'POD',
  targetId: '',
  usernsOptions: null,
}

export function podOptions(config: PodSandboxConfig): NamespaceOption {
  return config.linux?.securityContext?.namespaceOptions ?? NOTHING_SAID
}

/**
 * What a monitor may hold before it is known whose it will be: a pod that has this can have it from there, and the rest beside it. A user namespace would have to
 * own it, and the first process of a PID namespace live in it.
 */
export const HELD_AHEAD: NamespacesPlan = {
  namespaces: [{ type: 'ipc' }],
  sysctls: [],
  loopback: false,
  sharedMemoryBytes: SHM_SIZE,
}

/** Whether a pod can have what is held ahead; its sysctls are then set in what is made beside it. */
export function takesHeldAhead(config: PodSandboxConfig): boolean {
  const { ipc, pid, usernsOptions } = podOptions(config)
  return (
    ipc === 'POD' &&
    pid !== 'POD' &&
    (usernsOptions === null || usernsOptions.mode === 'NODE') &&
    Object.keys(config.linux?.sysctls ?? {}).every((name) => /^net[./]/.test(name))
  )
}

/** The namespaces of a pod, which live as long as it, whatever becomes of its containers. `id` names a pod that is given no name. */
export function podNamespaces(
  config: PodSandboxConfig,
  { id, hostname: hostHostname }: { id: string; hostname: string },
): PodNamespaces {
  const options = podOptions(config)
  const mappings = userMappings(`${POD}.userns_options`, options.usernsOptions)
  const types: NamespaceType[] = []
  if (mappings) types.push('user')
  if (podMode('network', options.network) === 'POD') types.push('network', 'uts')
  if (podMode('ipc', options.ipc) === 'POD') types.push('ipc')
  // A pid namespace of each container's own is made with the container.
  if (podPid(options, mappings) === 'POD') types.push('pid')
  const plans: NamespacePlan[] = types.map((type) => ({ type }))
  const held = new Namespaces(plans, new Set())
  const ownName = held.isNew('uts')
  const hostname = hostnameOf(config, ownName, id, hostHostname)
  return {
    plan: {
      namespaces: plans,
      ...(mappings ? { idMappings: planMappings(mappings) } : {}),
      ...(ownName ? { hostname } : {}),
      sysctls: sysctls(config, held, mappings, ownName ? hostname : undefined),
      loopback: held.isNew('network'),
    },
    mappings,
    hostname,
  }
}

function podMode(name: 'network' | 'ipc', mode: NamespaceMode): 'POD' | 'NODE' {
  if (mode === 'POD' || mode === 'NODE') return mode
  throw invalid(`${POD}.${name}`, `${show(mode)} is of a container: a pod has POD or NODE`)
}

function podPid(options: NamespaceOption, mappings: Mappings | undefined): NamespaceMode {
  const { pid } = options
  if (pid === 'TARGET') throw invalid(`${POD}.pid`, 'TARGET is of a container')
  if (pid === 'NODE') refuseHostPid(`${POD}.pid`, mappings)
  return pid
}

/** The kernel mounts no procfs of a pid namespace for a user namespace that does not own it. */
function refuseHostPid(field: string, mappings: Mappings | undefined): void {
  if (mappings) throw impossible(field, 'NODE does not go with a user namespace of the pod')
}

/**
 * The one range of ids of a pod's user namespace; undefined for none, which the kubelet asks for by NODE or by nothing.
 */
export function userMappings(field: string, userns: UserNamespace | null): Mappings | undefined {
  if (userns === null) return undefined
  const { mode, uids, gids } = userns
  if (mode === 'NODE') {
    if (uids.length > 0 || gids.length > 0) {
      throw invalid(field, "NODE is the host's user namespace: it goes with no mappings")
    }
    return undefined
  }
  if (mode !== 'POD') throw invalid(`${field}.mode`, `${show(mode)} is neither POD nor NODE`)
  const uid = onlyMapping(`${field}.uids`, uids)
  const gid = onlyMapping(`${field}.gids`, gids)
  if (uid.length !== gid.length) {
    throw invalid(field, `${uid.length} uids and ${gid.length} gids: both must be as many`)
  }
  const mappings = { uidMappings: [idMapping(uid)], gidMappings: [idMapping(gid)] }
  idMaps(`${field}.uids`, mappings.uidMappings)
  idMaps(`${field}.gids`, mappings.gidMappings)
  return mappings
}

function onlyMapping(field: string, mappings: readonly IDMapping[]): IDMapping {
  const [mapping, ...more] = list(field, mappings, 340)
  if (!mapping || more.length > 0) {
    throw invalid(field, `has ${mappings.length} mappings: a pod needs exactly one`)
  }
  if (mapping.containerId !== 0) throw invalid(field, 'container id 0 is not mapped')
  return mapping
}

function planMappings({ uidMappings, gidMappings }: Mappings): IdMappings {
  return { uids: idMaps('uids', uidMappings), gids: idMaps('gids', gidMappings) }
}

function hostnameOf(
  { hostname }: PodSandboxConfig,
  own: boolean,
  id: string,
  hostHostname: string,
): string {
  const given = text('hostname', hostname, NAME_BYTES_MAX)
  if (!own) {
    if (given !== '' && given !== hostHostname) {
      throw invalid(
        'hostname',
        `${show(given)} cannot be set: with the host's network the name is the host's`,
      )
    }
    return hostHostname
  }
  if (given === '') return id.slice(0, 12)
  // It becomes a line of /etc/hosts and /etc/hostname, and a variable.
  if (!/^[A-Za-z0-9_.-]+$/.test(given)) throw invalid('hostname', `${show(given)} is no host name`)
  return given
}

/** The kernel's own default lets only group 1 to 0, so nobody, ping without a capability. */
const PING_GROUPS = 'net/ipv4/ping_group_range'
const PRIVILEGED_PORTS = 'net/ipv4/ip_unprivileged_port_start'

/**
 * linux.sysctls, only of what the pod does not share with the host, and two that containerd and CRI-O set in each pod of its own network, since images and charts
 * count on them: low ports and ping need no capability there.
 */
function sysctls(
  config: PodSandboxConfig,
  held: Namespaces,
  mappings: Mappings | undefined,
  hostname: string | undefined,
): [string, string][] {
  const planned = planSysctls(config.linux?.sysctls, held, hostname, 'linux.sysctls')
  if (!held.isNew('network')) return planned
  // Written inside, where a group beyond the mapping has no number.
  const lastGroup = Math.min(mappings?.gidMappings[0]?.size ?? 2 ** 31, 2 ** 31) - 1
  for (const [path, value] of [
    [PRIVILEGED_PORTS, '0'],
    [PING_GROUPS, `0 ${lastGroup}`],
  ] as const) {
    if (!planned.some(([name]) => name === path)) planned.push([path, value])
  }
  return planned
}

export interface ContainerNamespaces {
  /** linux.namespaces of the container. */
  readonly namespaces: { type: NamespaceType; path?: string }[]
  /** Whose /dev/shm it sees: POSIX shared memory is where that mount is, not where the ipc namespace is. */
  readonly sharedMemory: 'pod' | 'own' | 'node' | 'target'
  readonly network: 'pod' | 'own' | 'node' | 'target'
}

export interface NamespaceContext {
  readonly pod: PodSandboxConfig
  readonly held: HeldPaths
  /** Host pid of the first process of the container that `target_id` names; undefined where that one does not run, or is of another pod. */
  readonly target: number | undefined
}

/** The namespaces that a container of a pod joins or has of its own. POD means "as the pod": where that is the host's, so is the container's. */
export function containerNamespaces(
  context: LinuxContainerSecurityContext | null,
  { pod, held, target }: NamespaceContext,
): ContainerNamespaces {
  const options = context?.namespaceOptions ?? podOptions(pod)
  checkUsers(context, pod, held)
  const namespaces: ContainerNamespaces['namespaces'] = [{ type: 'mount' }]
  // A privileged container manages the machine's cgroups.
  if (!context?.privileged) namespaces.push({ type: 'cgroup' })
  if (held.user !== undefined) namespaces.push({ type: 'user', path: held.user })

  const join = (type: 'network' | 'ipc' | 'pid'): ContainerNamespaces['sharedMemory'] => {
    const mode = options[type]
    const path = pathOf(type, mode, { pod, held, options, target })
    if (path !== 'node') namespaces.push({ type, ...(path === 'own' ? {} : { path }) })
    if (path === 'node' || path === 'own') return path
    return mode === 'TARGET' ? 'target' : 'pod'
  }
  const network = join('network')
  const sharedMemory = join('ipc')
  if (join('pid') === 'node' && held.user !== undefined) {
    throw impossible(`${POD}.pid`, 'NODE does not go with a user namespace of the pod')
  }
  // uts follows the network: a name is what a machine is called there.
  if (network !== 'node') {
    namespaces.push({ type: 'uts', ...(held.uts === undefined ? {} : { path: held.uts }) })
  }
  return { namespaces, sharedMemory, network }
}

const FILES = { network: 'net', ipc: 'ipc', pid: 'pid' } as const

function pathOf(
  type: 'network' | 'ipc' | 'pid',
  mode: NamespaceMode,
  { pod, held, options, target }: NamespaceContext & { options: NamespaceOption },
): string | 'node' | 'own' {
  const field = `${POD}.${type}`
  switch (mode) {
    case 'NODE':
      return 'node'
    case 'CONTAINER':
      return 'own'
    case 'TARGET':
      return `/proc/${targetPid(options, target)}/ns/${FILES[type]}`
    case 'POD': {
      const path = held[type]
      if (path !== undefined) return path
      // Nothing but the pod's own word may lead to the host's namespace.
      if (podOptions(pod)[type] === 'NODE') return 'node'
      throw impossible(field, `POD needs a ${type} namespace of the pod, which has none`)
    }
    default:
      throw unsupported(field, `there is no mode ${show(mode)}`)
  }
}

function targetPid(options: NamespaceOption, target: number | undefined): number {
  const field = `${POD}.target_id`
  if (options.targetId === '') throw invalid(field, 'is empty: the mode TARGET needs a container')
  if (target === undefined || target === 0) {
    throw impossible(field, `no container ${show(options.targetId)} runs in this pod`)
  }
  return integer(field, target, 1, PID_MAX)
}

/** All containers of a pod have the pod's ids: their files are each other's. */
function checkUsers(
  context: LinuxContainerSecurityContext | null,
  pod: PodSandboxConfig,
  held: HeldPaths,
): void {
  const field = `${POD}.userns_options`
  const pods = userMappings(field, podOptions(pod).usernsOptions)
  if ((pods === undefined) !== (held.user === undefined)) {
    throw impossible(field, "the pod's user namespace is not there")
  }
  if (!context?.namespaceOptions) return
  const own = userMappings(field, context.namespaceOptions.usernsOptions)
  if (JSON.stringify(own) !== JSON.stringify(pods)) {
    throw invalid(field, "differs from the pod's")
  }
}
