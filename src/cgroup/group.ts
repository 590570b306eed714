import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmdirSync,
  writeSync,
} from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { binding } from '../kernel/binding.ts'
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  DT_DIR,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
} from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import type { Resources } from '../spec/runtime.ts'
import { applyDeviceRules } from './devices.ts'
import { type CgroupHost, words } from './host.ts'
import { type LimitWrite, limitWrites } from './limits.ts'

/** Where berth's groups go when nobody says otherwise, within the hierarchy. */
export const DEFAULT_PARENT = '/berth'

/** Controllers that a container gets where the host has them, asked or not: for its limits, its statistics and its OOM events. */
const CONTROLLERS = ['cpu', 'cpuset', 'io', 'memory', 'pids', 'hugetlb', 'rdma', 'misc']

/** A parent that others remove while it is being made is made again this often. */
const CREATE_ATTEMPTS_MAX = 50
/** How long the kernel is given to freeze a group's processes or to reap killed ones. */
const WAIT_MS = 10_000
/** Bytes of a path within the hierarchy; with a file's name and the root it stays below PATH_MAX. */
const PATH_BYTES_MAX = 3000

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
}

/**
 * Makes an empty group with its limits in force. Nothing is left behind on failure, except parents. ALREADY_EXISTS where there is one
 * of that name, FAILED_PRECONDITION where a limit's controller is missing (it names both).
 */
export async function createGroup(host: CgroupHost, request: GroupRequest): Promise<Group> {
  const { resources, preferred = {} } = request
  const path = join(checkPath(request.parent), checkName(request.name))
  const directory = join(host.root, path)
  // Judged before anything is made.
  const writes = limitWrites(resources)
  requireWritable(host)
  checkControllers(host.controllers, writes, 'this host')
  makeDirectory(host, path, neededControllers(writes))
  try {
    const has = words(readFileSync(join(directory, 'cgroup.controllers'), 'utf8'))
    const { doable, warnings } = selectWrites(has, writes)
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
): Promise<readonly string[]> {
  const text = readFileIfAny(join(directory, 'cgroup.controllers'))
  if (text === undefined) throw new Fault('NOT_FOUND', `there is no cgroup ${directory}`)
  const writes = limitWrites(resources)
  checkControllers(words(text), writes, 'the cgroup')
  const { doable, warnings } = selectWrites(words(text), writes)
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

/** Sends SIGKILL to every process of the group and below, forks under way included. No error where the group is gone. */
export function killGroup(directory: string): void {
  writeIfAny(join(directory, 'cgroup.kill'), '1')
}

/** Waits until no process is left in the group and below; false when the time ends first. */
export function waitEmpty(directory: string, timeoutMs = WAIT_MS): Promise<boolean> {
  return waitForEvent(directory, 'populated', '0', timeoutMs)
}

/**
 * Stops every process of the group and below where it stands. DEADLINE_EXCEEDED when the kernel cannot within `timeoutMs` (a
 * process in an uninterruptible call); after any error the group runs as before.
 */
export async function freezeGroup(directory: string, timeoutMs = WAIT_MS): Promise<void> {
  const file = join(directory, 'cgroup.freeze')
  try {
    writeFileOnce(file, '1')
    if (!(await waitForEvent(directory, 'frozen', '1', timeoutMs))) {
      throw new Fault(
        'DEADLINE_EXCEEDED',
        `cannot freeze ${directory}: its processes did not stop within ${timeoutMs} ms`,
      )
    }
  } catch (error) {
    writeIfAny(file, '0')
    throw isErrno(error, 'ENOENT')
      ? new Fault('NOT_FOUND', `there is no cgroup ${directory}`, { cause: error })
      : error
  }
}

/** The way back from freezeGroup; no error where the group is gone or runs. */
export async function thawGroup(directory: string, timeoutMs = WAIT_MS): Promise<void> {
  if (!writeIfAny(join(directory, 'cgroup.freeze'), '0')) return
  if (!(await waitForEvent(directory, 'frozen', '0', timeoutMs))) {
    throw new Fault('DEADLINE_EXCEEDED', `cannot thaw ${directory}: a group above it is frozen`)
  }
}

/** Whether the group's processes are stopped by freezeGroup or by a frozen parent; false where it is gone. */
export function isFrozen(directory: string): boolean {
  return eventValue(readFileIfAny(join(directory, 'cgroup.events')) ?? '', 'frozen') === '1'
}

/** The processes of the group and of all groups below it; none where it is gone. */
export function groupProcesses(directory: string): number[] {
  const pids = readProcesses(directory)
  for (const child of childGroups(directory)) pids.push(...groupProcesses(join(directory, child)))
  return pids
}

/**
 * Removes the group and what a container made below it. Processes that are being killed are waited for; with others in it this is
 * DEADLINE_EXCEEDED after `timeoutMs`. No error where it is gone.
 */
export async function removeGroup(directory: string, timeoutMs = WAIT_MS): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    if (removeNow(directory)) return
    const left = deadline - performance.now()
    const empty = left > 0 && (await waitEmpty(directory, left))
    if (!empty) {
      throw new Fault(
        'DEADLINE_EXCEEDED',
        `cannot remove ${directory}: processes ${groupProcesses(directory).slice(0, 8).join(', ')} live in it`,
      )
    }
    // Empty and still EBUSY: somebody made a group below in this moment, or the kernel is not yet done with the last process.
    if (!removeNow(directory)) await delay(1)
    else return
  }
}

/** Removes a group that others may be using, such as DEFAULT_PARENT's directory, only if nothing is below it. Says whether it did. */
export function removeParentIfEmpty(directory: string): boolean {
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    if (isErrno(error, 'EBUSY', 'ENOTEMPTY', 'ENOENT')) return false
    throw error
  }
}

/** A path within the hierarchy in its plain form. INVALID_ARGUMENT where it is not absolute or leads elsewhere. */
export function checkPath(path: string): string {
  if (!path.startsWith('/') || Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw new Fault('INVALID_ARGUMENT', `cgroup path "${path}" must be absolute and not too long`)
  }
  return `/${path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .map(checkName)
    .join('/')}`
}

function checkName(name: string): string {
  // A newline would forge a line of /proc/PID/cgroup; `cgroup.` and a controller's name and dot are the kernel's own files.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused.
  if (name === '' || name === '.' || name === '..' || /[/\x00-\x1f\x7f]/.test(name)) {
    throw new Fault('INVALID_ARGUMENT', `"${name}" is no name of a cgroup`)
  }
  if (name.startsWith('cgroup.') || Buffer.byteLength(name) > 255) {
    throw new Fault('INVALID_ARGUMENT', `"${name}" cannot be the name of a cgroup`)
  }
  return name
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
): { doable: LimitWrite[]; warnings: string[] } {
  checkControllers(has, writes, 'the cgroup')
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

/** Makes all groups of the path, the last of them new. Others may make or remove the same parents at any moment. */
function makeDirectory(host: CgroupHost, path: string, needed: readonly string[]): void {
  const directory = join(host.root, path)
  for (let attempt = 1; ; attempt++) {
    try {
      mkdirSync(dirname(directory), { recursive: true })
      enableControllers(host, dirname(path), needed)
      mkdirSync(directory)
      return
    } catch (error) {
      if (isErrno(error, 'EEXIST')) {
        throw new Fault('ALREADY_EXISTS', `there is a cgroup ${directory} already`, {
          cause: error,
        })
      }
      // ENODEV: a file of a group that was removed between open and write.
      if (isErrno(error, 'ENOENT', 'ENODEV') && attempt < CREATE_ATTEMPTS_MAX) continue
      throw error
    }
  }
}

/** Switches controllers on in every group from the root down to `parent`, for the groups below it. */
function enableControllers(host: CgroupHost, parent: string, needed: readonly string[]): void {
  let directory = host.root
  for (const part of ['', ...parent.split('/').filter((name) => name !== '')]) {
    directory = join(directory, part)
    const file = join(directory, 'cgroup.subtree_control')
    const on = words(readFileSync(file, 'utf8'))
    const has = words(readFileSync(join(directory, 'cgroup.controllers'), 'utf8'))
    const missing = CONTROLLERS.filter((name) => has.includes(name) && !on.includes(name))
    if (missing.length === 0) continue
    if (isInhabited(directory)) {
      const wanted = missing.find((name) => needed.includes(name))
      if (wanted === undefined) continue
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot switch the controller "${wanted}" on in ${directory}: processes live in that group itself`,
      )
    }
    try {
      writeFileOnce(file, missing.map((name) => `+${name}`).join(' '))
    } catch {
      // One that cannot be had spoils them all: one by one.
      for (const name of missing) enableController(file, name, needed.includes(name))
    }
  }
}

function enableController(file: string, name: string, isNeeded: boolean): void {
  try {
    writeFileOnce(file, `+${name}`)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) throw error
    if (!isNeeded) return
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot switch the controller "${name}" on in ${dirname(file)}`,
      { cause: error },
    )
  }
}

/**
 * Whether processes live in the group itself. cgroups(7), "no internal processes": such a group, other than the root, hands no
 * controllers down, and trying it with a threaded one (cpu, pids) would turn it and all below it into threaded groups.
 */
function isInhabited(directory: string): boolean {
  // The root has no type.
  if (readFileIfAny(join(directory, 'cgroup.type')) === undefined) return false
  return readFileSync(join(directory, 'cgroup.procs'), 'utf8') !== ''
}

async function writeLimit(directory: string, write: LimitWrite): Promise<void> {
  const { option, instead } = write
  try {
    if (await writeOff(join(directory, write.file), write.value)) return
    if (instead && (await writeOff(join(directory, instead.file), instead.value))) return
  } catch (error) {
    // ENODEV, ENXIO: io.max of a device that is not there.
    if (isErrno(error, 'EINVAL', 'ERANGE', 'ENODEV', 'ENXIO', 'EOPNOTSUPP')) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `resources.${option}: the kernel refuses "${write.value}" for ${write.file}`,
        { cause: error },
      )
    }
    throw new Fault('INTERNAL', `resources.${option}: cannot write ${write.file}`, { cause: error })
  }
  if (write.fileOptional || write.kind === 'share') return
  throw new Fault(
    'FAILED_PRECONDITION',
    `resources.${option} cannot be enforced: this kernel has no ${write.file}`,
  )
}

/** Off the main thread: lowering memory.max makes the writer reclaim the memory itself, which can take seconds. */
async function writeOff(file: string, value: string): Promise<boolean> {
  if (!file.endsWith('/memory.max') && !file.endsWith('/memory.high')) {
    return writeIfAny(file, value)
  }
  try {
    await writeFile(file, value, { flag: constants.O_WRONLY })
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}

/** False where there is no such file, or the group goes away in this moment. */
function writeIfAny(file: string, value: string): boolean {
  try {
    writeFileOnce(file, value)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return false
    throw error
  }
}

/** Kernel files take a value in one write(2), and none of O_CREAT and O_TRUNC. */
function writeFileOnce(file: string, value: string): void {
  const fd = openSync(file, constants.O_WRONLY)
  try {
    // An empty value still has to be a write.
    writeSync(fd, value === '' ? '\n' : value)
  } finally {
    closeSync(fd)
  }
}

function refuseBelowUse(directory: string, memory: NonNullable<Resources['memory']>): void {
  const used = Number(readFileIfAny(join(directory, 'memory.current')) ?? 0)
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

/** The write that brings back what a file holds now. */
function readRestore(directory: string, write: LimitWrite): LimitWrite | undefined {
  const { controller, option, kind, instead } = write
  for (const { file, value } of instead ? [write, instead] : [write]) {
    const now = readFileIfAny(join(directory, file))
    if (now === undefined) continue
    return { controller, option, kind, file, value: restoreValue(now, value) }
  }
  return undefined
}

/**
 * What to write to undo `written` in a file that holds `now`. Files keyed by device show one line for each; a device without a line is at its default.
 */
export function restoreValue(now: string, written: string): string {
  const lines = now.split('\n').filter((line) => line !== '')
  const [key = '', ...settings] = words(written)
  const isKeyed = settings.length > 0 && (key.includes(':') || settings[0]?.includes('='))
  if (!isKeyed) return lines.find((line) => line.startsWith('default ')) ?? lines[0] ?? ''
  const line = lines.find((candidate) => candidate.startsWith(`${key} `))
  if (line !== undefined) return line
  return [
    key,
    ...settings.map((s) => (s.includes('=') ? `${s.split('=')[0]}=max` : 'default')),
  ].join(' ')
}

function eventValue(events: string, key: string): string | undefined {
  for (const line of events.split('\n')) {
    const [name, value] = line.split(' ')
    if (name === key) return value
  }
  return undefined
}

/** Waits until cgroup.events says so. A group that is gone has no process and nothing frozen: true for '0'. */
async function waitForEvent(
  directory: string,
  key: string,
  wanted: string,
  timeoutMs: number,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  let fd: number
  try {
    fd = openSync(join(directory, 'cgroup.events'), 'r')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return wanted === '0'
    throw error
  }
  using events = new Fd(fd)
  for (;;) {
    // Reading arms the poll: a change between here and there ends it at once.
    const text = readEvents(events)
    if (text === undefined) return wanted === '0'
    if (eventValue(text, key) === wanted) return true
    const left = Math.ceil(deadline - performance.now())
    if (left <= 0) return false
    await binding.pollPriority(events.number, left)
  }
}

function readEvents(events: Fd): string | undefined {
  try {
    const buffer = Buffer.alloc(256)
    return buffer.toString('latin1', 0, readSync(events.number, buffer, 0, buffer.length, 0))
  } catch (error) {
    if (isErrno(error, 'ENODEV')) return undefined
    throw error
  }
}

function readProcesses(directory: string): number[] {
  try {
    // 0 is a process of a pid namespace that this one cannot see.
    return words(readFileSync(join(directory, 'cgroup.procs'), 'utf8'))
      .map(Number)
      .filter((pid) => pid > 0)
  } catch (error) {
    // EOPNOTSUPP: a threaded group; its processes are listed above it.
    if (isErrno(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP')) return []
    throw error
  }
}

function childGroups(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return []
    throw error
  }
}

/** Whether the group and everything below is gone now; false where a process is left in it. */
function removeNow(directory: string): boolean {
  const removal = tryRemove(AT_FDCWD, directory)
  if (removal !== 'busy') return true
  using below = openDirectory(AT_FDCWD, directory)
  if (!below) return true
  if (!removeBelow(below)) return false
  return tryRemove(AT_FDCWD, directory) !== 'busy'
}

/**
 * Removes all groups below a directory, however deep: a container that was given its cgroup may have nested them beyond any path's
 * length or any stack, so this walks by fd and comes back by "..".
 */
function removeBelow(top: Fd): boolean {
  const trail: Buffer[] = []
  let here = new Fd(binding.openat2(top.number, '.', O_RDONLY | O_DIRECTORY, 0, 0))
  try {
    for (;;) {
      const child = binding
        .readdir(here.number)
        .find((entry) => entry.type === DT_DIR && tryRemove(here.number, entry.name) === 'busy')
      const name = child?.name ?? trail.at(-1)
      if (name === undefined) return true
      const next = openDirectory(here.number, child?.name ?? '..')
      if (!next) continue
      here.close()
      here = next
      if (child) trail.push(name)
      // Nothing is left below it: what still keeps it is a process.
      else if (tryRemove(here.number, trail.pop() ?? name) === 'busy') return false
    }
  } finally {
    here.close()
  }
}

function tryRemove(dirfd: number, name: string | Buffer): 'removed' | 'gone' | 'busy' {
  try {
    binding.unlinkat(dirfd, name, AT_REMOVEDIR)
    return 'removed'
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return 'gone'
    if (isErrno(error, 'EBUSY', 'ENOTEMPTY')) return 'busy'
    throw error
  }
}

function openDirectory(dirfd: number, name: string | Buffer): Fd | undefined {
  try {
    return new Fd(binding.openat2(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, 0))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return undefined
    throw error
  }
}
