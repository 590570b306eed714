import { openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { monotonicMs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { binding } from '../kernel/binding.ts'
import { Fd } from '../kernel/fd.ts'
import { writeFileOnce, writeIfAny } from './file.ts'
import { words } from './host.ts'

/** How long the kernel is given to freeze a group's processes or to reap killed ones. */
const WAIT_MS = 10_000

/** Sends SIGKILL to every process of the group and below, forks under way included. No error where the group is gone. */
export function killGroup(directory: string): void {
  writeIfAny(join(directory, 'cgroup.kill'), '1')
}

/**
 * The kernel holds an event back that comes within 10 ms of the one before, and with a group that somebody removes meanwhile it is lost: who waits for it is not
 * woken by the removal either.
 */
const LOOK_MS = 100

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
  const below = childGroups(directory).map((child) => groupProcesses(join(directory, child)))
  return [readProcesses(directory), ...below].flat()
}

function readProcesses(directory: string): number[] {
  try {
    // 0 is a process of a pid namespace that this one cannot see.
    return words(readFileSync(join(directory, 'cgroup.procs'), 'utf8'))
      .map(Number)
      .filter((pid) => pid > 0)
  } catch (error) {
    // EOPNOTSUPP: a threaded group; its processes are listed above it. ENAMETOOLONG: nested on purpose beyond what has a path.
    if (isErrno(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP', 'ENAMETOOLONG')) return []
    throw error
  }
}

function childGroups(directory: string): string[] {
  try {
    // A directory has a link for its name, one for its `.` and one for the `..` of each directory in it: most have none, and need not be listed.
    if (statSync(directory).nlink === 2) return []
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV', 'ENAMETOOLONG')) return []
    throw error
  }
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
  const deadline = monotonicMs() + timeoutMs
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
    const left = Math.ceil(deadline - monotonicMs())
    if (left <= 0) return false
    await binding.pollPriority(events.number, Math.min(left, LOOK_MS))
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
