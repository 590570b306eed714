import { mkdirSync, openSync, realpathSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { Undo } from '../base/undo.ts'
import type { DriverName } from '../cgroup/index.ts'
import { compiledSeccomp } from '../container/seccomp.ts'
import { ACCOUNT_FILE_BYTES_MAX, resolveUser } from '../engine/users.ts'
import type { Caller } from '../kernel/caller.ts'
import { O_DIRECTORY, O_PATH, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { readFileInside } from '../kernel/inside.ts'
import { moveNetDevice } from '../network/index.ts'
import { show } from '../plan/check.ts'
import {
  hostFacts,
  namespacesOfHost,
  planContainer,
  planHooks,
  planNetDevices,
} from '../plan/index.ts'
import type { ContainerPlan } from '../spec/plan.ts'
import type { Process, Spec } from '../spec/runtime.ts'
import { encodeContainer } from '../wire/plan.ts'
import { cgroupOf, destroyCgroup, launchInScope, makeCgroup } from './cgroup.ts'
import { documentText, readDocument } from './config.ts'
import { runHooks } from './hooks.ts'
import { Launch, type LaunchRequest } from './launch.ts'
import { makeNotifyDirectory, notifyParts } from './notify.ts'
import { isPlain } from './plain.ts'
import { claim, type OciRecord, type Place, placeOf, removePlace, writeRecord } from './record.ts'
import { asSpec } from './shape.ts'
import { processTimes, stateOf } from './status.ts'

export interface CreateRequest {
  readonly caller: Caller
  readonly root: string
  readonly id: string
  readonly bundle: string
  readonly consoleSocket: string | undefined
  readonly pidFile: string | undefined
  readonly pidfdSocket?: string | undefined
  readonly cgroups: DriverName
  readonly preserve: number
  /** The program's besides those of the configuration. */
  readonly env: readonly string[]
  /** The caller's NOTIFY_SOCKET. */
  readonly notify: string | undefined
  readonly keepKeyring: boolean
  /** False: the old root is left without pivot_root(2), which cannot leave an initramfs. */
  readonly pivot?: boolean
  /** The caller stays until the container ends, with its own stdio as the container's. */
  readonly foreground: boolean
  /** restore: its process is one that CRIU makes, in place of one that waits for its start. */
  readonly making?: (spec: Spec, plan: ContainerPlan) => Making & Disposable
  readonly warn: (message: string) => void
}

/** What berth-launch does, if not a creation. */
export type Making = Pick<LaunchRequest, 'plan' | 'place' | 'criu'>

export interface Created {
  readonly place: Place
  readonly record: OciRecord & { readonly pid: number }
  readonly launch: Launch
}

/** Makes a container up to the point before its program. On failure nothing of it is left. */
export async function createContainer(request: CreateRequest): Promise<Created> {
  const { caller, root, id, warn } = request
  const place = placeOf(root, id)
  const bundle = realpathSync(request.bundle)
  const spec = readSpec(bundle)
  checkConsole(spec.process, request)
  const rootfs = rootOf(spec, bundle)
  const group = cgroupOf(request.cgroups, spec, id)
  const plan = await planOf(request, spec, { rootfs, bundle, cgroup: group.directory })
  await using undo = new Undo((message, error) =>
    warn(`${message}: ${error instanceof Error ? error.message : error}`),
  )
  using _lock = await claim(root, place)
  undo.push('the state', () => removePlace(root, place))
  writeFileAtomic(place.config, documentText(spec))
  if (request.notify !== undefined) makeNotifyDirectory(place)
  if (plan.rootPlace !== undefined) mkdirSync(plan.rootPlace, { mode: 0o700 })
  let begun: OciRecord = {
    id,
    ociVersion: spec.ociVersion,
    bundle,
    rootfs,
    created: new Date().toISOString(),
    annotations: spec.annotations ?? {},
    cgroup: plan.cgroup,
  }
  // First, so that whoever cleans up after us knows of the cgroup from its first moment on.
  writeRecord(place, begun)
  using directory = new Fd(openSync(place.directory, O_RDONLY | O_DIRECTORY))
  using making = request.making?.(spec, plan)
  const begin = (): Launch =>
    new Launch({
      caller,
      mode: making ? 'criu' : 'create',
      what: `${making ? 'restore' : 'create'} container ${id}`,
      ...(making ?? { plan: encodeContainer(plan), place: directory }),
      foreground: request.foreground,
      scope: group.scope,
      consoleSocket: request.consoleSocket,
      pidfdSocket: request.pidfdSocket,
      preserve: request.preserve,
    })
  const inScope = group.scope && (await launchInScope(begin, group.scope))
  if (inScope) undo.push('the scope', () => inScope.close())
  // Also where the making fails half way: as long as no inode is known only an empty one goes.
  undo.push('the cgroup', () => destroyCgroup(begun))
  begun = { ...begun, cgroupInode: await makeCgroup(group, spec, warn) }
  writeRecord(place, begun)
  inScope?.goOn()
  const launch = inScope ?? begin()
  undo.push('the process', () => launch.abandon())
  const pid = await untilReady(request.caller, launch, spec, begun, !making)
  const record = {
    ...begun,
    pid,
    startTime: processTimes(pid)?.startTime ?? '',
    ...(isPlain(spec, request.notify) ? { plain: true as const } : {}),
  }
  writeRecord(place, record)
  if (request.pidFile !== undefined) {
    writeFileAtomic(request.pidFile, String(pid), { mode: 0o644 & ~caller.umask })
  }
  undo.keep()
  return { place, record, launch }
}

async function untilReady(
  caller: Caller,
  launch: Launch,
  spec: Spec,
  record: OciRecord,
  isNew: boolean,
): Promise<number> {
  const devices = isNew ? planNetDevices(spec.linux) : []
  for (;;) {
    const report = await launch.next()
    // As soon as its namespaces are there.
    for (const { name, newName } of devices.splice(0)) {
      await moveNetDevice(name, newName, `/proc/${report.pid ?? report.hooks}/ns/net`)
    }
    if (report.pid !== undefined) return report.pid
    if (report.hooks === undefined)
      throw new Fault('INTERNAL', 'berth-launch said something unknown')
    const state = stateOf(record, 'creating', report.hooks)
    const { prestart, createRuntime } = planHooks(spec.hooks)
    // The deprecated kind is from when there was one state before running, and its hooks know no other.
    const old = stateOf(record, 'created', report.hooks)
    await runHooks(caller, 'prestart', prestart, { state: old, bundle: record.bundle })
    await runHooks(caller, 'createRuntime', createRuntime, { state, bundle: record.bundle })
    launch.proceed(JSON.stringify(state))
  }
}

export function readSpec(bundle: string): Spec {
  const path = join(bundle, 'config.json')
  return asSpec(path, readDocument(path))
}

/** A terminal needs somebody who holds it: us, or who listens at the socket. */
export function checkConsole(
  process: Process | undefined,
  { foreground, consoleSocket }: { foreground: boolean; consoleSocket: string | undefined },
): void {
  const terminal = process?.terminal ?? false
  if (terminal && !foreground && consoleSocket === undefined) {
    throw new Fault(
      'INVALID_ARGUMENT',
      'process.terminal: cannot allocate a terminal for a process that is detached without --console-socket',
    )
  }
  if (consoleSocket !== undefined && (!terminal || foreground)) {
    throw new Fault(
      'INVALID_ARGUMENT',
      '--console-socket needs process.terminal and a process that is detached',
    )
  }
}

function rootOf(spec: Spec, bundle: string): string {
  const path = spec.root?.path
  if (typeof path !== 'string' || path === '') {
    throw new Fault('INVALID_ARGUMENT', 'root.path is missing')
  }
  if (path.includes('\0')) throw new Fault('INVALID_ARGUMENT', 'root.path: holds a NUL byte')
  const rootfs = resolve(bundle, path)
  try {
    const isDirectory = statSync(rootfs, { throwIfNoEntry: false })?.isDirectory() ?? false
    if (isDirectory) return realpathSync(rootfs)
  } catch (cause) {
    // A path or a name in it is too long, or links lead in a circle.
    throw new Fault('INVALID_ARGUMENT', `root.path: ${show(path)} cannot be followed`, { cause })
  }
  throw new Fault('NOT_FOUND', `root.path: ${rootfs} is no directory`)
}

async function planOf(
  request: CreateRequest,
  spec: Spec,
  place: { readonly rootfs: string; readonly bundle: string; readonly cgroup: string },
): Promise<ContainerPlan> {
  const { rootfs, bundle, cgroup } = place
  const { id, warn } = request
  const seccomp = await compiledSeccomp(spec.linux?.seccomp, programsOf(request.root), warn)
  using directory = new Fd(openSync(rootfs, O_PATH | O_DIRECTORY))
  // Not in the configuration that is kept: a further process may have another user, and another HOME.
  const process = spec.process && withHome(spec.process, directory)
  const notify = request.notify === undefined ? undefined : notifyParts(placeOf(request.root, id))
  const env = [...(process?.env ?? []), ...request.env, ...(notify ? [notify.env] : [])]
  const mounts = [...(spec.mounts ?? []), ...(notify ? [notify.mount] : [])]
  const whole = process ? { ...spec, process: { ...process, env }, mounts } : spec
  const { plan } = planContainer(whole, hostFacts(request.caller.pid), {
    id,
    cgroup,
    root: { kind: 'directory', path: rootfs },
    io: { stdin: false, stdinOnce: false, log: 'none', logPath: '' },
    exit: { recordPath: '', command: [] },
    bundle,
    createCwd: true,
    hookDirectory: bundle,
    rootPlace: placeOf(request.root, id).root,
    hostNamespaces: namespacesOfHost(spec),
    keepKeyring: request.keepKeyring,
    labelsWhereEnabled: true,
    warn,
    ...(seccomp ? { seccomp } : {}),
  })
  return request.pivot === false ? withoutPivot(plan) : plan
}

/** The root of a user namespace could take the container's root off the host's again, for it has CAP_SYS_ADMIN in the mount namespace. */
function withoutPivot(plan: ContainerPlan): ContainerPlan {
  const has = (wanted: string, isOwn: boolean): boolean =>
    plan.namespaces.some(({ type, path }) => type === wanted && (!isOwn || path === undefined))
  if (has('user', false)) {
    throw new Fault(
      'UNIMPLEMENTED',
      '--no-pivot is not supported with a user namespace: the host would stay reachable',
    )
  }
  // In one that is joined nothing is pivoted.
  return has('mount', true) ? { ...plan, noPivot: true } : plan
}

/** Where compiled filters are kept. No id begins with a dot. */
export function programsOf(root: string): string {
  return join(root, '.seccomp')
}

/** HOME of the root's own passwd where the configuration has none, or an empty one: engines leave that to the runtime. */
export function withHome(process: Process, root: Fd): Process {
  const env = process.env ?? []
  const last = env.findLast((entry) => String(entry).startsWith('HOME='))
  if (last !== undefined && last !== 'HOME=') return process
  const others = env.filter((entry) => !String(entry).startsWith('HOME='))
  return { ...process, env: [...others, `HOME=${homeOf(process.user?.uid ?? 0, root)}`] }
}

function homeOf(uid: unknown, root: Fd): string {
  if (typeof uid !== 'number' || !Number.isInteger(uid) || uid < 0) return '/'
  try {
    const passwd = readFileInside(root.number, '/etc/passwd', ACCOUNT_FILE_BYTES_MAX)
    return resolveUser(String(uid), passwd?.toString() ?? '', '').home
  } catch (error) {
    // A hostile file is not looked at; the program runs without.
    if (error instanceof Fault || isErrno(error)) return '/'
    throw error
  }
}
