import { randomBytes } from 'node:crypto'
import { Fault } from '../base/fault.ts'
import { compiledSeccomp } from '../container/index.ts'
import { hostFacts, planProcess } from '../plan/index.ts'
import { ALL_CAPABILITIES } from '../spec/defaults.ts'
import type { Spec } from '../spec/runtime.ts'
import { emit } from './events.ts'
import { findContainer } from './find.ts'
import { monitorOf, openRoot } from './live.ts'
import type { Engine } from './open.ts'
import { readConfig } from './record.ts'
import { endWithProcess, openSession } from './session.ts'
import { about, accountIn } from './start.ts'
import type { Container, ExecOptions, Session } from './types.ts'

/** Runs a further program in a running container. With `detach` resolves to its pid when it runs. */
export async function execContainer(
  engine: Engine,
  ref: string,
  options: ExecOptions,
): Promise<Session | { pid: number }> {
  const container = await findContainer(engine, ref)
  const { record } = container
  mustRun(container, 'exec in')
  if (options.command.length === 0)
    throw new Fault('INVALID_ARGUMENT', 'no command to run: give one after the container')
  const spec = readConfig(engine, record.id)
  const base = spec.process
  if (!base)
    throw new Fault('DATA_LOSS', `the configuration of container ${record.name} has no process`)
  using root = openRoot(engine, container)
  const account = accountIn(
    root.number,
    options.user ?? record.options.user ?? record.imageConfig?.User ?? '',
    record.options.groupAdd,
  )
  const env = mergeEnv(
    base.env ?? [],
    options.terminal ? ['TERM=xterm', ...options.env] : options.env,
    engine.caller.env,
  )
  const capabilities = options.privileged ? ALL_CAPABILITIES : (base.capabilities?.bounding ?? [])
  const process = {
    ...base,
    args: options.command,
    cwd: options.workdir ?? base.cwd,
    terminal: options.terminal,
    consoleSize: { height: options.rows, width: options.columns },
    user: { ...base.user, uid: account.uid, gid: account.gid, additionalGids: [...account.groups] },
    env: env.some((entry) => entry.startsWith('HOME=')) ? env : [...env, `HOME=${account.home}`],
    capabilities: {
      bounding: [...capabilities],
      effective: [...capabilities],
      permitted: [...capabilities],
    },
    noNewPrivileges: options.privileged ? false : (base.noNewPrivileges ?? false),
  }
  const judged = options.privileged ? withoutSeccomp(spec) : spec
  const seccomp = await compiledSeccomp(judged.linux?.seccomp, engine.at.programs)
  const plan = planProcess(process, judged, hostFacts(engine.caller.pid), {
    warn: engine.warn,
    ...(seccomp ? { seccomp } : {}),
  })
  const monitor = await monitorOf(engine, record)
  try {
    const request = {
      containerId: record.id,
      execId: randomBytes(16).toString('hex'),
      process: plan,
      stdin: options.interactive,
      timeoutMs: 0,
    }
    const told = about(record, 'exec', { command: options.command.join(' ') })
    if (options.detach) {
      const { pid } = await monitor.execDetached(request)
      monitor.close()
      emit(engine, told)
      return { pid }
    }
    const { session } = await monitor.exec(request)
    emit(engine, told)
    return endWithProcess(monitor, session)
  } catch (error) {
    monitor.close()
    throw error
  }
}

function withoutSeccomp(spec: Spec): Spec {
  const { seccomp: _seccomp, ...linux } = spec.linux ?? {}
  return { ...spec, linux }
}

function mergeEnv(
  base: readonly string[],
  added: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
): string[] {
  const values = new Map(base.map((entry) => [entry.slice(0, entry.indexOf('=')), entry]))
  for (const entry of added) {
    const at = entry.indexOf('=')
    if (at > 0) values.set(entry.slice(0, at), entry)
    else if (at < 0 && own[entry] !== undefined) values.set(entry, `${entry}=${own[entry]}`)
    else if (at === 0) throw new Fault('INVALID_ARGUMENT', `the variable "${entry}" has no name`)
  }
  return [...values.values()]
}

export function mustRun({ record, status }: Container, verb: string): void {
  if (status.state === 'running') return
  throw new Fault(
    'FAILED_PRECONDITION',
    `cannot ${verb} container ${record.name}: it is ${status.state}`,
  )
}

/** Joins the stdio of the container's first process. Output from before is in the log. */
export async function attachContainer(
  engine: Engine,
  ref: string,
  options: { stdin: boolean },
): Promise<Session> {
  const container = await findContainer(engine, ref)
  mustRun(container, 'attach to')
  const monitor = await monitorOf(engine, container.record)
  try {
    const session = await openSession(monitor, container.record.id, options.stdin)
    emit(engine, about(container.record, 'attach'))
    return session
  } catch (error) {
    monitor.close()
    throw error
  }
}
