import { randomBytes } from 'node:crypto'
import { Fault } from '../base/fault.ts'
import { compiledSeccomp } from '../container/index.ts'
import type { ExecExit } from '../container/monitor.ts'
import { connectMonitor, type Monitor } from '../container/monitor.ts'
import type { MonitorSession } from '../container/session.ts'
import { hostFacts, planProcess } from '../plan/index.ts'
import type { ProcessPlan } from '../spec/plan.ts'
import { specOf } from './first-process.ts'
import { unlessHung } from './hung.ts'
import type { Container } from './model.ts'
import type { Node } from './node.ts'

const ARGUMENTS_MAX = 32768

export interface ExecOptions {
  readonly command: readonly string[]
  readonly terminal: boolean
  readonly stdin: boolean
  /** 0 for none; after it the whole tree of the process is killed. */
  readonly timeoutMs: number
  /** Nobody but the caller has a use for it: it is killed when that one leaves. */
  readonly owned?: boolean
  /** Closes the connection, also while the program is still being made. */
  readonly signal?: AbortSignal
}

/** A further program in a running container. The connection is the session's alone and ends with it. */
export async function execContainer(
  node: Node,
  container: Container,
  options: ExecOptions,
): Promise<{ session: MonitorSession<ExecExit>; monitor: Monitor }> {
  mustRun(container)
  const process = await processOf(node, container, options)
  const monitor = await connectMonitor(node.at.monitor(container.pod.id))
  const { signal } = options
  const leave = (): void => monitor.close()
  signal?.addEventListener('abort', leave)
  void monitor.lost.then(() => signal?.removeEventListener('abort', leave))
  try {
    signal?.throwIfAborted()
    const asked = monitor.exec({
      containerId: container.id,
      execId: randomBytes(16).toString('hex'),
      process,
      stdin: options.stdin,
      timeoutMs: options.timeoutMs,
      owned: options.owned ?? false,
    })
    const { session } = await unlessHung(node.at.monitor(container.pod.id), asked)
    session.exit.then(
      () => monitor.close(),
      () => monitor.close(),
    )
    return { session, monitor }
  } catch (error) {
    monitor.close()
    signal?.throwIfAborted()
    throw error
  }
}

export function mustRun({ id, status }: Container): void {
  if (status.state === 'running') return
  throw new Fault(
    'FAILED_PRECONDITION',
    `container ${id.slice(0, 12)} is ${status.state}: only in a running one can a program be executed`,
  )
}

async function processOf(
  node: Node,
  container: Container,
  options: ExecOptions,
): Promise<ProcessPlan> {
  const { command, terminal } = options
  if (command.length === 0) throw new Fault('INVALID_ARGUMENT', 'cmd names no program')
  if (command.length > ARGUMENTS_MAX)
    throw new Fault('INVALID_ARGUMENT', `cmd has more than ${ARGUMENTS_MAX} words`)
  const spec = specOf(node, container)
  const base = spec.process
  if (!base) throw new Fault('DATA_LOSS', `the configuration of ${container.id} has no process`)
  const env = base.env ?? []
  const process = {
    ...base,
    args: [...command],
    terminal,
    env: terminal && !env.some((entry) => entry.startsWith('TERM=')) ? [...env, 'TERM=xterm'] : env,
  }
  const seccomp = await compiledSeccomp(spec.linux?.seccomp, node.at.programs)
  return planProcess(process, spec, hostFacts(), {
    warn: (text) => node.warn(text),
    ...(seccomp ? { seccomp } : {}),
  })
}

export interface ExecSyncOptions {
  /** 0 for none. */
  readonly timeoutMs: number
  /** Of both streams: the rest is read and thrown away (CVE-2022-1708, CVE-2022-31030). */
  readonly bytesMax: number
  /** The caller has gone: then nobody waits for the program any more, and it is killed. */
  readonly signal: AbortSignal
}

/** Runs a program to its end and gives what it wrote. DEADLINE_EXCEEDED after the time: its whole tree is dead then. */
export async function execSync(
  node: Node,
  id: string,
  command: readonly string[],
  { timeoutMs, bytesMax, signal }: ExecSyncOptions,
): Promise<{ stdout: Buffer; stderr: Buffer; code: number }> {
  const container = node.mustContainer(id)
  const { session, monitor } = await execContainer(node, container, {
    command,
    terminal: false,
    stdin: false,
    timeoutMs,
    owned: true,
    signal,
  })
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  let room = bytesMax
  try {
    for await (const { stream, data } of session.output) {
      const taken = data.subarray(0, room)
      if (taken.length === 0) continue
      room -= taken.length
      parts[stream].push(taken)
    }
    signal.throwIfAborted()
    const exit = await session.exit
    if (exit.timedOut) {
      throw new Fault(
        'DEADLINE_EXCEEDED',
        `command ${JSON.stringify(command[0])} did not end within ${timeoutMs / 1000} s and was killed`,
      )
    }
    return {
      stdout: Buffer.concat(parts.stdout),
      stderr: Buffer.concat(parts.stderr),
      code: exit.code,
    }
  } finally {
    monitor.close()
  }
}
