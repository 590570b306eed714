import {
  constants,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  unlinkSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { monotonicMs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { binding, NATIVE_DIRECTORY } from '../kernel/binding.ts'
import { Fd } from '../kernel/fd.ts'
import { slicePath } from './driver.ts'
import { writeFileOnce } from './file.ts'
import { cgroupHost, words } from './host.ts'

/**
 * For systemd to make one scope. It works on one thing at a time: with a hundred before us, or while it executes itself anew, that is
 * seconds. Well below the kubelet's two minutes for a pod.
 */
const SCOPE_MS = 30_000
/** Between two attempts while systemd still collects a scope of the same name, or does not answer. */
const RETRY_MS = 100
const COMPLAINT_BYTES_MAX = 1000

/** systemd's own client: it speaks systemd's bus, waits for the job and tells a failure in words. */
const CLIENTS = [
  '/usr/bin/systemd-run',
  '/bin/systemd-run',
  '/run/current-system/sw/bin/systemd-run',
]
const HOLD_PROGRAM = fileURLToPath(new URL('berth-hold', NATIVE_DIRECTORY))
/** The group of the scope in which its holder lives: none but leaves have processes (cgroups(7)). */
const HOLDER = 'holder'

/** What systemd says while a scope of that name is there, and when it goes away in the middle of a call (daemon-reexec). */
const PASSING =
  /already (loaded|exists)|has a fragment file|Connection reset|Connection refused|Transport endpoint|Failed to connect/i

export interface ScopeRequest {
  readonly slice: string
  /** With `.scope`. */
  readonly unit: string
  readonly description: string
  /** A file that somebody holds an exclusive flock(2) of: the scope stays as long, and longer while other processes are in it. */
  readonly heldBy: string
  readonly timeoutMs?: number
}

/** FAILED_PRECONDITION where systemd does not run this machine, or its program systemd-run is missing. */
export function requireSystemd(): void {
  // sd_booted(3).
  if (!existsSync('/run/systemd/system')) {
    throw new Fault(
      'FAILED_PRECONDITION',
      'cgroup.driver = "systemd" needs a machine that systemd runs: there is no /run/systemd/system',
    )
  }
  client()
}

function client(): string {
  const found = CLIENTS.find((path) => existsSync(path))
  if (found !== undefined) return found
  throw new Fault(
    'FAILED_PRECONDITION',
    `cgroup.driver = "systemd" needs systemd-run: it is at none of ${CLIENTS.join(', ')}`,
  )
}

/** Where a scope's group is, on the host. */
export function scopeDirectory({ slice, unit }: Pick<ScopeRequest, 'slice' | 'unit'>): string {
  return join(cgroupHost().root, slicePath(slice), unit)
}

/**
 * Sees to it that the scope is there and ready for groups below it, which are berth's own: it is delegated, systemd changes nothing there. Called again,
 * also after somebody has stopped the scope, it makes what is missing. One call for one scope at a time.
 */
export async function holdScope(request: ScopeRequest): Promise<void> {
  const directory = scopeDirectory(request)
  if (!existsSync(directory)) await startScope(request)
  try {
    emptyRoot(directory)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error
    throw new Fault(
      'UNAVAILABLE',
      `the scope ${request.unit} is not at ${directory}: stopped just now, or systemd has another hierarchy`,
      { cause: error },
    )
  }
}

async function startScope(request: ScopeRequest): Promise<void> {
  const { timeoutMs = SCOPE_MS } = request
  const deadline = monotonicMs() + timeoutMs
  let passing: string | undefined
  for (;;) {
    const complaint = await runClient(request, deadline - monotonicMs())
    if (complaint === undefined) return
    if (isPassing(complaint)) passing = complaint
    if (complaint === passing && monotonicMs() + RETRY_MS < deadline) {
      await delay(RETRY_MS)
      continue
    }
    // The last try may have been cut off before it could say the same as those before.
    const reason = monotonicMs() < deadline ? complaint : passing
    throw new Fault(
      reason === undefined ? 'DEADLINE_EXCEEDED' : 'UNAVAILABLE',
      `systemd has not made ${request.unit} in ${request.slice}: ${reason ?? `no answer within ${timeoutMs} ms`}`,
    )
  }
}

/** The text of its failure; undefined when the scope is there with its holder in it. */
async function runClient(
  { slice, unit, description, heldBy }: ScopeRequest,
  leftMs: number,
): Promise<string | undefined> {
  using held = new Fd(openSync(heldBy, constants.O_RDONLY | constants.O_NOFOLLOW))
  using nothing = new Fd(openSync('/dev/null', constants.O_RDWR))
  const { file, args } = scopeCommand({ slice, unit, description })
  const path = join(dirname(heldBy), `scope.tmp-${process.pid}`)
  using complaint = new Fd(openSync(path, 'w+', 0o600))
  unlinkSync(path)
  const { pid, status } = binding.spawn({
    file,
    args: [...args, HOLD_PROGRAM],
    env: [],
    fds: [held.number, nothing.number, complaint.number],
    group: true,
    directory: '/',
  })
  const late = setTimeout(() => process.kill(pid, 'SIGKILL'), leftMs)
  const { code } = await status.finally(() => clearTimeout(late))
  if (code === 0) return undefined
  const text = Buffer.alloc(Math.min(fstatSync(complaint.number).size, COMPLAINT_BYTES_MAX))
  readSync(complaint.number, text, 0, text.length, 0)
  return text.toString().trim() || `systemd-run ended with ${code}`
}

/** What makes a scope, becomes a process in it, and executes the program whose path and arguments come behind. */
export function scopeCommand({
  slice,
  unit,
  description,
}: Pick<ScopeRequest, 'slice' | 'unit' | 'description'>): { file: string; args: string[] } {
  return {
    file: client(),
    args: [
      'systemd-run',
      ...['--scope', '--quiet', '--no-ask-password', '--collect'],
      ...[`--unit=${unit}`, `--slice=${slice}`, `--description=${description}`],
      // DefaultDependencies: at a shutdown the kubelet ends its pods in an order of its own.
      ...['--property=Delegate=yes', '--property=DefaultDependencies=no'],
      '--',
    ],
  }
}

/** Whether a failure of scopeCommand's is over by itself in a moment. */
export function isPassing(complaint: string): boolean {
  return PASSING.test(complaint)
}

/** Moves a process that was made in a scope's root out of it, into a new group there: only leaves have processes. */
export function leaveScopeRoot(scope: string, group: string, pid: number): void {
  const directory = join(scope, group)
  if (!existsSync(directory)) mkdirSync(directory)
  writeFileOnce(join(directory, 'cgroup.procs'), String(pid))
}

/** Moves the holder out of the scope's root, which could not hand controllers down with a process in it. */
function emptyRoot(directory: string): void {
  const pids = words(readFileIfAny(join(directory, 'cgroup.procs')) ?? '')
  const holder = join(directory, HOLDER)
  if (pids.length === 0 && existsSync(holder)) return
  // Not recursive: a scope that has just gone must not come back as a directory of nobody.
  try {
    mkdirSync(holder)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
  for (const pid of pids) {
    try {
      writeFileOnce(join(holder, 'cgroup.procs'), pid)
    } catch (error) {
      if (!isErrno(error, 'ESRCH')) throw error
    }
  }
}
