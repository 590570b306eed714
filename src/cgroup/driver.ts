import { basename, dirname, join } from 'node:path'
import { Fault } from '../base/fault.ts'
import type { Resources } from '../spec/runtime.ts'
import { createGroup, DEFAULT_PARENT, type Group, updateGroup } from './group.ts'
import { cgroupHost } from './host.ts'
import { checkPath } from './path.ts'

export type DriverName = 'cgroupfs' | 'systemd'

/** Where a container's group belongs, in the words of either driver. */
export type GroupPlace =
  | { readonly driver: 'cgroupfs'; readonly parent: string; readonly name: string }
  /** The scope `unit` in the slice `slice`, which is at `parent` within the hierarchy. */
  | {
      readonly driver: 'systemd'
      readonly parent: string
      readonly slice: string
      readonly unit: string
    }

/**
 * Who makes groups: berth itself below a parent (cgroupfs), or systemd, whose tree then has no second writer. Everything else (freezing,
 * killing, statistics) works on the group's directory and needs no driver.
 */
export interface CgroupDriver {
  readonly name: DriverName
  create(
    place: GroupPlace,
    resources: Resources,
    preferred?: Readonly<Record<string, string>>,
  ): Promise<Group>
  /** All or nothing; warnings as Group has them. */
  update(directory: string, resources: Resources): Promise<readonly string[]>
}

/** UNIMPLEMENTED for systemd, with a scope for each container: the daemon's pods have one for all of theirs (scope.ts). */
export function cgroupDriver(name: DriverName): CgroupDriver {
  if (name === 'cgroupfs') return CGROUPFS
  throw new Fault(
    'UNIMPLEMENTED',
    'the cgroup driver "systemd" is not supported yet; use "cgroupfs" with a cgroup parent that systemd does not manage',
  )
}

const CGROUPFS: CgroupDriver = {
  name: 'cgroupfs',
  async create(place, resources, preferred = {}) {
    if (place.driver !== 'cgroupfs') {
      throw new Fault(
        'INVALID_ARGUMENT',
        `the cgroupfs driver cannot make the systemd unit ${place.unit}`,
      )
    }
    const { parent, name } = place
    return await createGroup(cgroupHost(), { parent, name, resources, preferred })
  },
  update: updateGroup,
}

/**
 * Where the OCI configuration's `cgroupsPath` puts a container. For cgroupfs an absolute path within the hierarchy, or a relative one below
 * /berth; for systemd `SLICE:PREFIX:NAME`. Empty: /berth/ID, or berth-ID.scope in system.slice. INVALID_ARGUMENT for the other driver's form.
 */
export function groupPlace(driver: DriverName, cgroupsPath: string, id: string): GroupPlace {
  return driver === 'cgroupfs' ? directoryPlace(cgroupsPath, id) : unitPlace(cgroupsPath, id)
}

function directoryPlace(cgroupsPath: string, id: string): GroupPlace {
  if (!cgroupsPath.startsWith('/') && cgroupsPath.includes(':')) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `cgroupsPath "${cgroupsPath}" is of the systemd driver; the cgroupfs driver takes a path`,
    )
  }
  const path = checkPath(
    cgroupsPath.startsWith('/') ? cgroupsPath : `${DEFAULT_PARENT}/${cgroupsPath || id}`,
  )
  if (path === '/') {
    throw new Fault('INVALID_ARGUMENT', 'cgroupsPath "/" leaves no name for the container')
  }
  return { driver: 'cgroupfs', parent: dirname(path), name: basename(path) }
}

function unitPlace(cgroupsPath: string, id: string): GroupPlace {
  const [slice = '', prefix = '', name = '', ...rest] = (
    cgroupsPath === '' ? `:berth:${id}` : cgroupsPath
  ).split(':')
  const wellFormed = name !== '' && rest.length === 0
  if (!wellFormed || [slice, prefix, name].some((part) => !/^[\w.@-]*$/.test(part))) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `cgroupsPath "${cgroupsPath}" must have the form SLICE:PREFIX:NAME with the systemd driver`,
    )
  }
  const isSlice = name.endsWith('.slice')
  return {
    driver: 'systemd',
    slice: slice || 'system.slice',
    parent: slicePath(slice || 'system.slice'),
    unit: isSlice ? name : `${prefix === '' ? '' : `${prefix}-`}${name}.scope`,
  }
}

/** What systemd takes in a unit's name (systemd.unit(5)), but for its escapes, which no slice of the kubelet has. */
const UNIT_STEM = /^[\w.:@-]+$/
/** UNIT_NAME_MAX of systemd, and NAME_MAX of the kernel for the group. */
const UNIT_NAME_MAX = 255

/** systemd.slice(5): every dash of a slice's name is a level, `a-b.slice` lies in `a.slice`; `-.slice` is the root. */
export function slicePath(slice: string): string {
  if (slice === '-.slice') return '/'
  const stem = slice.endsWith('.slice') ? slice.slice(0, -'.slice'.length) : ''
  const isPlain = UNIT_STEM.test(stem) && slice.length <= UNIT_NAME_MAX
  if (!isPlain || stem.startsWith('-') || stem.endsWith('-') || stem.includes('--')) {
    throw new Fault('INVALID_ARGUMENT', `"${slice}" is no name of a systemd slice`)
  }
  const parts = stem.split('-')
  return join('/', ...parts.map((_, i) => `${parts.slice(0, i + 1).join('-')}.slice`))
}

/**
 * The slice that a path of the kubelet names: a path must be where systemd has the slice, for its limits and statistics are looked for there. Without a
 * slash it is the slice's name.
 */
export function sliceOf(path: string): { slice: string; path: string } {
  const slice = basename(path)
  const expanded = slicePath(slice)
  if (path !== slice && path !== expanded) {
    throw new Fault('INVALID_ARGUMENT', `"${path}" is not where systemd has ${slice}: ${expanded}`)
  }
  return { slice, path: expanded }
}
