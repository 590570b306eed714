import { chownSync, existsSync, openSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { monotonicMs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import {
  cgroupHost,
  createGroup,
  DEFAULT_DEVICE_RULES,
  type DriverName,
  groupPlace,
  isPassing,
  killGroup,
  leaveScopeRoot,
  removeGroup,
  requireSystemd,
  scopeDirectory,
} from '../cgroup/index.ts'
import { O_DIRECTORY, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import type { DeviceRule, Resources, Spec } from '../spec/runtime.ts'
import { type Launch, LaunchFault } from './launch.ts'
import type { OciRecord } from './record.ts'

/** In a scope: systemd itself changes only the attributes of the scope, so the limits are those of a group below. */
const IN_SCOPE = 'container'
/** Where berth-launch is meanwhile. */
const LAUNCH_IN_SCOPE = 'launch'
/** For systemd to make a scope: it works on one thing at a time. */
const SCOPE_MS = 30_000
const RETRY_MS = 100

export interface GroupOf {
  readonly parent: string
  readonly name: string
  /** On the host. */
  readonly directory: string
  /** Made by systemd, around the group. */
  readonly scope?: { readonly slice: string; readonly unit: string }
}

/** The cgroup that a container will have. */
export function cgroupOf(driver: DriverName, spec: Spec, id: string): GroupOf {
  const place = groupPlace(driver, spec.linux?.cgroupsPath ?? '', id)
  if (place.driver === 'cgroupfs') {
    const { parent, name } = place
    return { parent, name, directory: join(cgroupHost().root, parent, name) }
  }
  const { slice, unit } = place
  if (!unit.endsWith('.scope')) {
    throw new Fault(
      'UNIMPLEMENTED',
      `linux.cgroupsPath: ${unit} is no scope; only scopes are supported`,
    )
  }
  requireSystemd()
  const parent = join(place.parent, unit)
  const directory = join(scopeDirectory({ slice, unit }), IN_SCOPE)
  return { parent, name: IN_SCOPE, directory, scope: { slice, unit } }
}

/** Has systemd make the scope around a launch, again while it is still busy with one of the same name. */
export async function launchInScope(
  begin: () => Launch,
  scope: { readonly slice: string; readonly unit: string },
): Promise<Launch> {
  const deadline = monotonicMs() + SCOPE_MS
  for (;;) {
    const launch = begin()
    try {
      const { scope: pid } = await launch.next()
      if (pid === undefined) throw new Fault('INTERNAL', 'berth-launch said something unknown')
      leaveScopeRoot(scopeDirectory(scope), LAUNCH_IN_SCOPE, pid)
      return launch
    } catch (error) {
      await launch.close()
      const passes = error instanceof LaunchFault && isPassing(error.complaint)
      if (!passes || monotonicMs() > deadline) throw error
      await delay(RETRY_MS)
    }
  }
}

/** Makes the container's cgroup with its limits in force, or takes an empty one that is there; gives its inode. */
export async function makeCgroup(
  { parent, name, directory }: GroupOf,
  spec: Spec,
  warn: (message: string) => void,
): Promise<string> {
  await refuseInhabited(directory)
  const { warnings } = await createGroup(cgroupHost(), {
    parent,
    name,
    resources: withDevices(spec.linux?.resources ?? {}),
  })
  for (const warning of warnings) warn(warning)
  delegate(spec, directory)
  return inodeOf(directory) ?? ''
}

function inodeOf(directory: string): string | undefined {
  const status = statSync(directory, { bigint: true, throwIfNoEntry: false })
  return status && String(status.ino)
}

type CgroupOfRecord = Pick<OciRecord, 'cgroup' | 'cgroupInode'>

/**
 * A container's own cgroup, held: by a path that leads to nothing else. Undefined where it is gone, or not made yet: whatever is at its path then is another
 * container's.
 */
export function ownCgroup({ cgroup, cgroupInode }: CgroupOfRecord): OwnCgroup | undefined {
  let fd: Fd
  try {
    fd = new Fd(openSync(cgroup, O_RDONLY | O_DIRECTORY))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  const path = `/proc/self/fd/${fd.number}`
  if (inodeOf(path) === cgroupInode) return { path, [Symbol.dispose]: () => fd.close() }
  fd.close()
  return undefined
}

interface OwnCgroup extends Disposable {
  readonly path: string
}

/** Somebody may have made it for us; what lives in it is not ours to limit, or to kill at the end. */
async function refuseInhabited(directory: string): Promise<void> {
  // Most often there is none: the exception would cost as much as twenty looks.
  if (!existsSync(directory)) return
  if (isInhabited(directory)) {
    throw new Fault('ALREADY_EXISTS', `the container's cgroup ${directory} is not empty`)
  }
  await removeGroup(directory)
}

function isInhabited(directory: string): boolean {
  return /^populated 1$/m.test(readFileIfAny(join(directory, 'cgroup.events')) ?? '')
}

/** Kills what is in it, and removes it. Of one that was being made the record knows no inode: there is no process in it. */
export async function destroyCgroup(record: CgroupOfRecord): Promise<void> {
  if (record.cgroupInode === undefined) {
    if (!isInhabited(record.cgroup)) await removeGroup(record.cgroup)
    return
  }
  {
    using own = ownCgroup(record)
    if (!own) return
    killGroup(own.path)
  }
  await removeGroup(record.cgroup)
}

/**
 * The rules of the configuration, and behind them those for the devices that every container has: without any rule nothing else is allowed, as with runc
 * ("Default Devices" of the runtime-spec must work).
 */
export function withDevices(resources: Resources): Resources {
  const given = resources.devices ?? []
  const [denyAll, ...defaults] = DEFAULT_DEVICE_RULES
  const rules: DeviceRule[] = given.length > 0 ? [...given] : denyAll ? [denyAll] : []
  return { ...resources, devices: [...rules, ...defaults] }
}

/**
 * runtime-spec, "Cgroup ownership": with a cgroup namespace of its own the root of the container's user namespace owns the group, as far as the kernel lets
 * groups be handed on.
 */
function delegate(spec: Spec, directory: string): void {
  const has = (type: string): boolean =>
    (spec.linux?.namespaces ?? []).some((ns) => ns.type === type && !ns.path)
  const isWritable = (spec.mounts ?? []).some(
    (mount) => /^cgroup2?$/.test(mount.type ?? '') && !(mount.options ?? []).includes('ro'),
  )
  const root = (spec.linux?.uidMappings ?? []).find((map) => map.containerID === 0)?.hostID
  if (!has('cgroup') || !has('user') || !isWritable || root === undefined) return
  const files = readFileIfAny('/sys/kernel/cgroup/delegate')?.split('\n') ?? []
  const there = new Set(readdirSync(directory))
  chownSync(directory, root, -1)
  for (const name of files.filter((file) => there.has(file))) {
    try {
      chownSync(join(directory, name), root, -1)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}
