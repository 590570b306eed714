import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import type { Resources } from '../spec/runtime.ts'
import { makeDirectory } from './creation.ts'
import { applyDeviceRules } from './devices.ts'
import { parseFlat } from './events.ts'
import { writeIfAny } from './file.ts'
import { type CgroupHost, words } from './host.ts'
import { type LimitWrite, limitWrites } from './limits.ts'
import { checkName, checkPath } from './path.ts'
import { removeGroup } from './removal.ts'
import { readRestore, writeLimit } from './write.ts'

/** Where berth's groups go when nobody says otherwise, within the hierarchy. */
export const DEFAULT_PARENT = '/berth'

export interface Group {
  /** The group's directory on the host: what a plan names and the other functions of this file take. */
  readonly directory: string
  /** The same within the hierarchy, as /proc/PID/cgroup shows it. */
  readonly path: string
  /** What was asked and could not be had, in sentences for a person; weights and protections only. */
  readonly warnings: readonly string[]
}

export interface GroupRequest {
  /** Within the hierarchy; made where missing, with the controllers switched on down to it. */
  readonly parent: string
  readonly name: string
  /** With `devices`, the device program is attached, too; without them every device is allowed. */
  readonly resources: Resources
  /** Files written where they exist and skipped in silence where not: berth's own habits, not wishes of the user. */
  readonly preferred?: Readonly<Record<string, string>>
  /** A limit whose controller is missing: refused, or a warning. */
  readonly missing?: MissingController
}

export type MissingController = 'refuse' | 'warn'

/**
 * Makes an empty group with its limits in force. Nothing is left behind on failure, except parents. ALREADY_EXISTS where there is one
 * of that name, FAILED_PRECONDITION where a limit's controller is missing (it names both).
 */
export async function createGroup(host: CgroupHost, request: GroupRequest): Promise<Group> {
  const { resources, preferred = {}, missing = 'refuse' } = request
  const path = join(checkPath(request.parent), checkName(request.name))
  const directory = join(host.root, path)
  // Judged before anything is made.
  const writes = limitWrites(resources)
  requireWritable(host)
  if (missing === 'refuse') checkControllers(host.controllers, writes, 'this host')
  makeDirectory(
    host,
    path,
    neededControllers(writes).filter((name) => host.controllers.includes(name)),
  )
  try {
    const has = words(readFileSync(join(directory, 'cgroup.controllers'), 'utf8'))
    const { doable, warnings } = selectWrites(has, writes, missing)
    for (const write of doable) await writeLimit(directory, write)
    for (const [file, value] of Object.entries(preferred)) writeIfAny(join(directory, file), value)
    if (resources.devices) applyDeviceRules(directory, resources.devices)
    return { directory, path, warnings }
  } catch (error) {
    await removeGroup(directory).catch(() => {
      // The first error says more; an empty group that stays is found by the next cleaning.
    })
    throw error
  }
}

/**
 * Changes limits of a living group: all, or none at all (an error restores what was written). With `memory.checkBeforeUpdate` a limit
 * below the present use is FAILED_PRECONDITION instead of a kill. Returns warnings as createGroup does.
 *
 * Options that v2 keeps in one value must come together, changed or not: cpu.quota with cpu.period, memory.swap with memory.limit.
 */
export async function updateGroup(
  directory: string,
  resources: Resources,
  missing: MissingController = 'refuse',
): Promise<readonly string[]> {
  const text = readFileIfAny(join(directory, 'cgroup.controllers'))
  if (text === undefined) throw new Fault('NOT_FOUND', `there is no cgroup ${directory}`)
  const writes = limitWrites(resources)
  const { doable, warnings } = selectWrites(words(text), writes, missing)
  if (resources.memory?.checkBeforeUpdate) refuseBelowUse(directory, resources.memory)
  const done: LimitWrite[] = []
  try {
    for (const write of doable) {
      const before = readRestore(directory, write)
      await writeLimit(directory, write)
      if (before) done.unshift(before)
    }
    if (resources.devices) applyDeviceRules(directory, resources.devices)
  } catch (error) {
    for (const write of done) {
      await writeLimit(directory, write).catch(() => {
        // The kernel took this value before; if it is refused now, the group is going away.
      })
    }
    throw error
  }
  return warnings
}

/** Of the limits, shares and protections that are asked for: those that a host with these controllers cannot put in force, in sentences. */
export function notInForce(controllers: readonly string[], resources: Resources): string[] {
  return selectWrites(controllers, limitWrites(resources), 'warn').warnings
}

/** Refuses what no group of this host can enforce, by its name, before anything is made for it. */
export function requireControllers({ controllers }: CgroupHost, resources: Resources): void {
  checkControllers(controllers, limitWrites(resources), 'this host')
}

function requireWritable(host: CgroupHost): void {
  if (host.writable) return
  throw new Fault(
    'FAILED_PRECONDITION',
    `the cgroup hierarchy at ${host.root} is mounted read-only: berth cannot make groups there`,
  )
}

function neededControllers(writes: readonly LimitWrite[]): string[] {
  return [...new Set(writes.filter((w) => w.kind === 'limit').map((w) => w.controller))]
}

function checkControllers(
  has: readonly string[],
  writes: readonly LimitWrite[],
  where: string,
): void {
  for (const { kind, controller, option } of writes) {
    // Files of the core need no controller.
    if (kind !== 'limit' || controller === 'cgroup' || has.includes(controller)) continue
    throw new Fault(
      'FAILED_PRECONDITION',
      `resources.${option} cannot be enforced: ${where} has no cgroup v2 controller "${controller}"`,
    )
  }
}

function selectWrites(
  has: readonly string[],
  writes: readonly LimitWrite[],
  missing: MissingController,
): { doable: LimitWrite[]; warnings: string[] } {
  if (missing === 'refuse') checkControllers(has, writes, 'the cgroup')
  const isThere = (write: LimitWrite): boolean =>
    write.controller === 'cgroup' || has.includes(write.controller)
  const warnings = writes
    .filter((write) => !isThere(write))
    .map(
      ({ option, controller }) =>
        `resources.${option} is without effect: no cgroup v2 controller "${controller}" here`,
    )
  return { doable: writes.filter(isThere), warnings }
}

/** Memory in use without page cache: that makes room by itself, and most of what a group has may be of it. */
function unreclaimable(directory: string): number {
  const read = (file: string): string => readFileIfAny(join(directory, file)) ?? ''
  const values = parseFlat(read('memory.stat'))
  const cache = (values.get('active_file') ?? 0n) + (values.get('inactive_file') ?? 0n)
  return Math.max(Number(read('memory.current')) - Number(cache), 0)
}

function refuseBelowUse(directory: string, memory: NonNullable<Resources['memory']>): void {
  const used = unreclaimable(directory)
  for (const [name, value = 0] of [
    ['limit', memory.limit],
    ['swap', memory.swap],
  ] as const) {
    if (value <= 0 || used <= value) continue
    throw new Fault(
      'FAILED_PRECONDITION',
      `resources.memory.${name}: ${value} bytes is less than the ${used} bytes in use`,
    )
  }
}
