import { openSync } from 'node:fs'
import { Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { compiledSeccomp } from '../container/seccomp.ts'
import type { Caller } from '../kernel/caller.ts'
import { O_DIRECTORY, O_PATH } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { openProcess } from '../kernel/process.ts'
import { hostFacts, planExec } from '../plan/index.ts'
import type { Process, Spec } from '../spec/runtime.ts'
import { encodeExecFile } from '../wire/plan.ts'
import { checkConsole, programsOf, withHome } from './create.ts'
import { Launch } from './launch.ts'
import { sharesMounts } from './plain.ts'
import { lockContainer, type Place, readKeptConfig, readRecord } from './record.ts'
import { isAlive, statusOf } from './status.ts'

export interface ExecRequest {
  readonly caller: Caller
  readonly root: string
  /** Of the container's own process, what is not said is taken. */
  readonly processOf: (own: Process) => Process
  readonly consoleSocket: string | undefined
  readonly pidFile: string | undefined
  readonly preserve: number
  readonly foreground: boolean
  readonly ignorePaused: boolean
  readonly pidfdSocket?: string | undefined
  /** --cgroup: below the container's own. */
  readonly group?: string | undefined
  readonly warn: (message: string) => void
}

/** Runs a further process. It may end before this returns. */
export async function execInContainer(
  place: Place,
  request: ExecRequest,
): Promise<{ pid: number; launch: Launch }> {
  using lock = await lockContainer(place)
  const record = readRecord(place)
  const status = await statusOf(place, record)
  const isThere = status === 'running' || status === 'created'
  if (!isThere && !(status === 'paused' && request.ignorePaused)) {
    throw new Fault('FAILED_PRECONDITION', `cannot exec in a ${status} container: ${record.id}`)
  }
  const spec = readKeptConfig(place)
  using first = record.pid === undefined ? undefined : openProcess(record.pid)
  if (!first || !isAlive(record)) {
    throw new Fault('FAILED_PRECONDITION', `container not running: ${record.id}`)
  }
  const plan = await planOf(request, spec, record.pid ?? 0)
  const launch = new Launch({
    caller: request.caller,
    mode: 'exec',
    what: `exec in container ${record.id}`,
    plan: encodeExecFile(record.cgroup, plan),
    group: request.group === undefined ? undefined : groupBelow(request.group),
    place: first,
    foreground: request.foreground,
    consoleSocket: request.consoleSocket,
    pidfdSocket: request.pidfdSocket,
    preserve: request.preserve,
  })
  // How long it takes is up to what may be the container's: a cgroup that it freezes, a file system that it serves. kill, delete and resume must not wait for
  // that; who deletes it kills the process, too, and whoever comes to its cgroup or namespaces later finds the first process ended.
  lock.release()
  try {
    const { pid } = await launch.next()
    if (pid === undefined) throw new Fault('INTERNAL', 'berth-launch said something unknown')
    if (request.pidFile !== undefined) {
      writeFileAtomic(request.pidFile, String(pid), { mode: 0o644 & ~request.caller.umask })
    }
    return { pid, launch }
  } catch (error) {
    await launch.abandon()
    throw error
  }
}

/** What `--cgroup` means, relative to the container's cgroup, below which native/init/launch.cc finds it. runc's `CONTROLLERS:PATH` is for cgroup v1. */
function groupBelow(path: string): string {
  const names = path.split('/').filter(Boolean)
  if (names.includes('..') || path.includes(':')) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `--cgroup ${JSON.stringify(path)} is no path below the container's cgroup`,
    )
  }
  return names.join('/') || '.'
}

async function planOf(request: ExecRequest, spec: Spec, firstPid: number) {
  if (!spec.process) throw new Fault('DATA_LOSS', 'the kept configuration has no process')
  using root = new Fd(openSync(`/proc/${firstPid}/root`, O_PATH | O_DIRECTORY))
  const process = withHome(request.processOf(spec.process), root)
  checkConsole(process, request)
  const rules = spec.linux?.seccomp?.syscalls ?? []
  if (rules.some(({ action }) => action === 'SCMP_ACT_NOTIFY')) {
    throw new Fault(
      'UNIMPLEMENTED',
      'exec in a container whose filter has SCMP_ACT_NOTIFY is not supported: it would have a listener of its own',
    )
  }
  const seccomp = await compiledSeccomp(spec.linux?.seccomp, programsOf(request.root), request.warn)
  const plan = planExec(process, spec, hostFacts(request.caller.pid), {
    containerId: '',
    stdin: false,
    createCwd: true,
    labelsWhereEnabled: true,
    warn: request.warn,
    ...(seccomp ? { seccomp } : {}),
  }).process
  return sharesMounts(spec.linux) ? { ...plan, inRoot: true } : plan
}
