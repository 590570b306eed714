import { chownSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import {
  cgroupHost,
  createGroup,
  DEFAULT_DEVICE_RULES,
  groupPlace,
  killGroup,
  removeGroup,
} from '../cgroup/index.ts'
import type { DeviceRule, Resources, Spec } from '../spec/runtime.ts'

/** The directory that a container's cgroup will have. */
export function cgroupOf(
  spec: Spec,
  id: string,
): { parent: string; name: string; directory: string } {
  const place = groupPlace('cgroupfs', spec.linux?.cgroupsPath ?? '', id)
  if (place.driver !== 'cgroupfs') throw new TypeError('a place of the other driver')
  const { parent, name } = place
  return { parent, name, directory: join(cgroupHost().root, parent, name) }
}

/** Makes the container's cgroup with its limits in force, or takes an empty one that is there. */
export async function makeCgroup(
  spec: Spec,
  id: string,
  warn: (message: string) => void,
): Promise<void> {
  const { parent, name, directory } = cgroupOf(spec, id)
  await refuseInhabited(directory)
  const { warnings } = await createGroup(cgroupHost(), {
    parent,
    name,
    resources: withDevices(spec.linux?.resources ?? {}),
  })
  for (const warning of warnings) warn(warning)
  delegate(spec, directory)
}

/** Somebody may have made it for us; what lives in it is not ours to limit, or to kill at the end. */
async function refuseInhabited(directory: string): Promise<void> {
  const events = readFileIfAny(join(directory, 'cgroup.events'))
  if (events === undefined) return
  if (/^populated 1$/m.test(events)) {
    throw new Fault('ALREADY_EXISTS', `the container's cgroup ${directory} is not empty`)
  }
  await removeGroup(directory)
}

/** Kills what is in it, and removes it. */
export async function destroyCgroup(directory: string): Promise<void> {
  killGroup(directory)
  await removeGroup(directory)
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
