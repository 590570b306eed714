import { MS } from '../spec/linux.ts'
import type {
  ContainerPlan,
  ExecPlan,
  IdMappings,
  MountPlan,
  NamespaceType,
  ProcessPlan,
  RootPlan,
} from '../spec/plan.ts'
import type { Linux, Process, Seccomp, Spec } from '../spec/runtime.ts'
import { absolute, invalid, list, show, text, unfit, unsupported } from './check.ts'
import { planDevices } from './devices.ts'
import type { HostFacts } from './facts.ts'
import { planHooks } from './hooks.ts'
import { PROPAGATION, planMounts } from './mounts.ts'
import {
  type Namespaces,
  outsideOf,
  planIdMappings,
  planNamespaces,
  planTimeOffsets,
} from './namespaces.ts'
import { checkNetDevices } from './net-devices.ts'
import { type ProcessPlace, planProcess } from './process.ts'
import { planSysctls } from './sysctl.ts'

/** __NEW_UTS_LEN of the kernel, and the NUL. */
const NAME_BYTES_MAX = 65
const PATHS_MAX = 4096
/** SECCOMP_FILTER_FLAG_NEW_LISTENER of a compiled filter. */
const SECCOMP_NEW_LISTENER = 8

/** What the configuration does not say: chosen by the caller, who owns these places. */
export interface Place extends ProcessPlace {
  readonly id: string
  /** The container's cgroup directory; '' keeps the caller's. */
  readonly cgroup: string
  readonly root: RootPlan
  readonly io: ContainerPlan['io']
  readonly exit: ContainerPlan['exit']
  readonly restart?: ContainerPlan['restart'] | undefined
  /** Brings `lo` up; the default is to do so in a new network namespace. */
  readonly loopback?: boolean | undefined
  readonly reaper?: boolean | undefined
  /** What relative sources of bind mounts are below. */
  readonly bundle?: string | undefined
  /** A mount namespace (its path) whose /dev/shm takes the place of a tmpfs there: of the container whose ipc namespace is joined, or what a monitor holds. */
  readonly sharedMemory?: string | undefined
  /** Whoever makes the container runs the host's hooks, and this is the cwd of all that see the host's files. Without it hooks are refused. */
  readonly hookDirectory?: string | undefined
  /** A directory of the host in which the root of a container without a mount namespace is mounted, in the caller's; without it such a one is refused. */
  readonly rootPlace?: string | undefined
  /** Joined namespaces that are the host's own (`namespacesOfHost`). */
  readonly hostNamespaces?: ReadonlySet<NamespaceType> | undefined
}

/** Judges a whole configuration. Throws a Fault that names the field; warnings tell what is left out as the specification allows. */
export function planContainer(
  spec: Spec,
  facts: HostFacts,
  place: Place,
): { plan: ContainerPlan; warnings: string[] } {
  const warnings: string[] = []
  const warn = (warning: string): void => {
    warnings.push(warning)
    place.warn?.(warning)
  }
  if (!/^1\.\d+\.\d+/.test(String(spec.ociVersion))) {
    throw unfit('ociVersion', spec.ociVersion, 'is no version 1 of the runtime-spec')
  }
  const linux = spec.linux
  if (!linux) throw invalid('linux', 'is missing: berth runs Linux containers')
  if (!spec.process) throw invalid('process', 'is missing')
  refuseUnsupported(spec, linux, place.hookDirectory !== undefined)
  if (linux.mountLabel && facts.selinux) throw unsupported('linux.mountLabel')
  if (linux.mountLabel) {
    warn('linux.mountLabel has no effect: this host has not enabled SELinux, which reads it')
  }

  const namespaces = planNamespaces(linux, facts, place.hostNamespaces ?? new Set())
  const isMountShared = namespaces.isInherited('mount')
  if (isMountShared) checkWithoutMountNamespace(namespaces, place)
  else if (!namespaces.isNew('mount') && (spec.mounts ?? []).length > 0) {
    warn('mounts and root have no effect: the joined mount namespace has its own')
  }
  checkNetDevices(linux, namespaces, place.hookDirectory !== undefined)
  const idMappings = planIdMappings(linux, namespaces)
  const mounts = withSharedMemory(
    planMounts(spec.mounts, { namespaces, facts, bundle: place.bundle, warn }),
    place.sharedMemory,
  )
  const layers = isMountShared ? mounts.findIndex(({ lower }) => lower !== undefined) : -1
  if (layers >= 0) {
    throw unsupported(`mounts[${layers}]: layers without a mount namespace in linux.namespaces`)
  }
  const { devices, links } = planDevices({ devices: linux.devices, mounts, facts, warn })
  const process = planProcess(spec.process, spec, facts, { ...place, warn })
  if (idMappings) checkMapped(process, idMappings)
  const hostname = nameOf('hostname', spec.hostname)
  const domainname = nameOf('domainname', spec.domainname)
  for (const [field, name] of Object.entries({ hostname, domainname })) {
    if (name !== undefined && !namespaces.isOwn('uts')) {
      throw invalid(field, "needs a uts namespace that is not the host's")
    }
  }
  const plan: ContainerPlan = {
    id: place.id,
    cgroup: place.cgroup,
    namespaces: namespaces.plans,
    ...(idMappings ? { idMappings } : {}),
    ...planTimeOffsets(linux, namespaces),
    ...(hostname === undefined ? {} : { hostname }),
    ...(domainname === undefined ? {} : { domainname }),
    root: place.root,
    ...(isMountShared && place.rootPlace !== undefined ? { rootPlace: place.rootPlace } : {}),
    rootReadonly: spec.root?.readonly ?? false,
    rootPropagation: rootPropagation(linux.rootfsPropagation),
    mounts,
    devices,
    links,
    sysctls: planSysctls(linux.sysctl, namespaces, hostname),
    maskedPaths: paths('linux.maskedPaths', linux.maskedPaths),
    readonlyPaths: paths('linux.readonlyPaths', linux.readonlyPaths),
    loopback: place.loopback ?? namespaces.isNew('network'),
    reaper: place.reaper ?? false,
    process,
    io: place.io,
    exit: place.exit,
    restart: place.restart ?? { policy: 'no', maximumRetries: 0 },
    ...hooksOf(spec, place.hookDirectory),
    ...notifySocketOf(linux.seccomp, place),
  }
  return { plan, warnings }
}

/** Of whoever makes it only one that mounts its root where it can take it away again has such a container. */
function checkWithoutMountNamespace(namespaces: Namespaces, { rootPlace }: Place): void {
  if (rootPlace === undefined) {
    throw unsupported('a container without a mount namespace', 'add one to linux.namespaces')
  }
  // It could mount nothing, and nothing in it could be mapped to it.
  if (!namespaces.isInherited('user')) {
    throw unsupported(
      'linux.namespaces: a user namespace without a mount namespace',
      'add one of type mount',
    )
  }
}

/** Where the listener of the filter goes; of a filter that asks for one, only whoever makes the container by itself can hand it on. */
function notifySocketOf(
  seccomp: Seccomp | undefined,
  { hookDirectory, seccomp: program }: Place,
): Pick<ContainerPlan, 'notifySocket'> {
  const field = 'linux.seccomp.listenerPath'
  if (!program || (program.flags & SECCOMP_NEW_LISTENER) === 0) return {}
  if (hookDirectory === undefined) throw unsupported(field)
  return { notifySocket: absolute(field, seccomp?.listenerPath) }
}

/** Those that run inside; with any that run outside while the container is made, it waits for them. */
function hooksOf(spec: Spec, directory: string | undefined): Pick<ContainerPlan, 'hooks'> {
  const { prestart, createRuntime, createContainer, startContainer } = planHooks(spec.hooks)
  const none = [prestart, createRuntime, createContainer, startContainer].every(
    (hooks) => hooks.length === 0,
  )
  if (none || directory === undefined) return {}
  return { hooks: { directory, createContainer, startContainer } }
}

/** A further process in a container that was made from `spec`. */
export function planExec(
  process: Process,
  spec: Spec,
  facts: HostFacts,
  place: ProcessPlace & { containerId: string; stdin: boolean; timeoutMs?: number | undefined },
): ExecPlan {
  const { containerId, stdin, timeoutMs = 0, ...rest } = place
  return {
    containerId,
    process: planProcess(process, spec, facts, { ...rest, isFurther: true }),
    stdin,
    timeoutMs,
  }
}

/** POSIX shared memory is files in /dev/shm: it is shared where the mount is, not where the ipc namespace is. */
function withSharedMemory(mounts: MountPlan[], namespace: string | undefined): MountPlan[] {
  if (namespace === undefined) return mounts
  return mounts.map((mount) =>
    mount.target === '/dev/shm' && mount.kind === 'new'
      ? {
          ...mount,
          kind: 'bind',
          source: '/dev/shm',
          sourceNamespace: namespace,
          type: '',
          options: [],
          copyUp: false,
        }
      : mount,
  )
}

/** What the native side has no field for: refused by name, never ignored. */
function refuseUnsupported(spec: Spec, linux: Linux, hooks: boolean): void {
  for (const [name, list] of Object.entries(spec.hooks ?? {})) {
    if (!hooks && Array.isArray(list) && list.length > 0) throw unsupported(`hooks.${name}`)
  }
  if (linux.intelRdt !== undefined && linux.intelRdt !== null) throw unsupported('linux.intelRdt')
}

function nameOf(field: string, name: string | undefined): string | undefined {
  return name === undefined || name === '' ? undefined : text(field, name, NAME_BYTES_MAX)
}

function rootPropagation(name: string | undefined): number {
  if (name === undefined || name === '') return MS.PRIVATE | MS.REC
  const flags = Object.hasOwn(PROPAGATION, name) ? PROPAGATION[name] : undefined
  if (flags === undefined)
    throw invalid('linux.rootfsPropagation', `${show(name)} is no propagation`)
  return flags
}

function paths(field: string, given: readonly string[] | undefined): string[] {
  return [
    ...new Set(list(field, given, PATHS_MAX).map((path, i) => absolute(`${field}[${i}]`, path))),
  ]
}

/** setuid(2) and setgroups(2) of an id without a mapping fail with EINVAL, long after this. */
function checkMapped(process: ProcessPlan, { uids, gids }: IdMappings): void {
  if (outsideOf(uids, process.uid) === undefined) {
    throw invalid('process.user.uid', `${process.uid} is not in linux.uidMappings`)
  }
  for (const gid of [process.gid, ...process.groups]) {
    if (outsideOf(gids, gid) === undefined) {
      throw invalid('process.user', `the group ${gid} is not in linux.gidMappings`)
    }
  }
}
