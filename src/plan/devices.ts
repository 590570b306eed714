import { DEFAULT_DEVICES } from '../spec/defaults.ts'
import type { DevicePlan, MountPlan } from '../spec/plan.ts'
import type { Device } from '../spec/runtime.ts'
import { absolute, ID_MAX, integer, invalid, list, unfit } from './check.ts'
import type { HostFacts } from './facts.ts'

const DEVICES_MAX = 8192

interface DeviceInput {
  readonly devices: readonly Device[] | undefined
  readonly mounts: readonly MountPlan[]
  readonly facts: Pick<HostFacts, 'kcore'>
  readonly warn: (text: string) => void
}

export interface Link {
  readonly target: string
  readonly to: string
}

/** The nodes and links of /dev: runtime-spec, "Default Devices" and "Dev symbolic links", and the configuration's own, which win. */
export function planDevices({ devices, mounts, facts, warn }: DeviceInput): {
  devices: DevicePlan[]
  links: Link[]
} {
  const given = new Map<string, DevicePlan>()
  for (const [i, device] of list('linux.devices', devices, DEVICES_MAX).entries()) {
    const plan = planDevice(`linux.devices[${i}]`, device)
    if (given.has(plan.target))
      throw invalid(`linux.devices[${i}]`, `${plan.target} is given twice`)
    given.set(plan.target, plan)
  }
  const dev = mounts.findLast((mount) => mount.target === '/dev' && mount.kind !== 'remount')
  if (dev?.kind === 'bind') {
    // It is the host's own directory: nodes made there would be made on the host.
    if (given.size > 0) warn(`linux.devices are not made: /dev is bound to ${dev.source}`)
    return { devices: [], links: [] }
  }
  for (const [i, device] of DEFAULT_DEVICES.entries()) {
    const plan = planDevice(`default device ${i}`, device)
    if (!given.has(plan.target)) given.set(plan.target, plan)
  }
  const links: Link[] = [
    { target: '/dev/fd', to: '/proc/self/fd' },
    { target: '/dev/stdin', to: '/proc/self/fd/0' },
    { target: '/dev/stdout', to: '/proc/self/fd/1' },
    { target: '/dev/stderr', to: '/proc/self/fd/2' },
  ]
  if (facts.kcore) links.push({ target: '/dev/core', to: '/proc/kcore' })
  const taken = (path: string): boolean =>
    given.has(path) || mounts.some((mount) => mount.target === path)
  // The container's own devpts has the multiplexer; the node (5, 2) would lead to whichever devpts is found beside it.
  if (mounts.some((mount) => mount.target === '/dev/pts')) {
    given.delete('/dev/ptmx')
    links.push({ target: '/dev/ptmx', to: 'pts/ptmx' })
  }
  return { devices: [...given.values()], links: links.filter((link) => !taken(link.target)) }
}

function planDevice(field: string, device: Device): DevicePlan {
  const target = absolute(`${field}.path`, device.path)
  const type = device.type === 'u' ? 'c' : device.type
  if (type !== 'c' && type !== 'b' && type !== 'p') {
    throw unfit(`${field}.type`, device.type, 'is none of c, b, u and p')
  }
  const number = (name: 'major' | 'minor', maximum: number): number => {
    const value = device[name]
    if (type === 'p' && value === undefined) return 0
    if (value === undefined) throw invalid(`${field}.${name}`, `is missing for ${target}`)
    return integer(`${field}.${name}`, value, 0, maximum)
  }
  return {
    target,
    type,
    // 12 and 20 bits: the kernel's MINORBITS.
    major: number('major', 0xfff),
    minor: number('minor', 0xfffff),
    // Files hand over st_mode here too, with the type's bits.
    mode: integer(`${field}.fileMode`, device.fileMode ?? 0o666, 0, 0o177777) & 0o7777,
    uid: integer(`${field}.uid`, device.uid ?? 0, 0, ID_MAX),
    gid: integer(`${field}.gid`, device.gid ?? 0, 0, ID_MAX),
  }
}
