import { statSync } from 'node:fs'
import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import {
  cgroupHost,
  createGroup,
  DEFAULT_PARENT,
  killGroup,
  type MissingController,
  removeGroup,
  removeParentIfEmpty,
} from '../cgroup/index.ts'
import { hostFacts, namespacesOfHost, type Place, planContainer } from '../plan/index.ts'
import type { Spec } from '../spec/runtime.ts'
import { encodeContainer } from '../wire/plan.ts'
import type { ContainerExit, Monitor } from './monitor.ts'
import { MonitorFault } from './monitor-fault.ts'
import { compiledSeccomp } from './seccomp.ts'
import type { MonitorSession } from './session.ts'

/** For native/init, not for overlayfs: the fallback without idmapped mounts. */
const CHANGE_OWNERS = 'berth.chown'

export interface CreateRequest {
  /** One that is just starting is waited for when the plan is made. */
  readonly monitor: Monitor | Promise<Monitor>
  readonly id: string
  readonly spec: Spec
  readonly root: Place['root']
  /** Where the plan is written for the monitor, and left for its restarts of the container. */
  readonly planPath: string
  readonly cgroupParent: string | undefined
  readonly missingControllers?: MissingController
  /** As in plan/'s Place. */
  readonly sharedMemory?: string | undefined
  /** Where compiled seccomp programs are kept. */
  readonly programs: string
  /** Whose child the monitor is: his limits are its own. This process without. */
  readonly parent?: number | 'self'
  readonly io: Place['io']
  readonly exit: Place['exit']
  readonly restart: NonNullable<Place['restart']>
  readonly reaper: boolean
  readonly warn: (message: string) => void
  /** For what the host lacks, whatever the container; `warn` where it is missing. */
  readonly warnOfHost?: (message: string) => void
  /** The program runs without a word in between: `started` tells when. */
  readonly start?: boolean
  /** Its stdio is joined before the program runs. */
  readonly attach?: { readonly stdin: boolean } | undefined
  /** Called when all is judged and nothing is made: with the directory that the cgroup will have. */
  readonly beforeCreate: (cgroup: string) => void
  /** Called when the monitor is at work. */
  readonly afterAsked?: () => void
}

export interface Created {
  readonly pid: number
  /** Of a request with `start`: resolves when the program runs, rejects as Monitor.start does. */
  readonly started: Promise<void>
  /** Of a request with `attach`. */
  readonly session: MonitorSession<ContainerExit> | undefined
}

/**
 * Makes a container's first process, up to the point before its program: judges the whole configuration, makes the cgroup with its limits, has the
 * monitor create. `undo` takes away what was made here.
 */
export async function createProcess(
  request: CreateRequest,
): Promise<Created & { undo: () => Promise<void> }> {
  const { id, spec, warn } = request
  const host = cgroupHost()
  const parent = request.cgroupParent ?? DEFAULT_PARENT
  const cgroup = join(host.root, parent, id)
  const seccomp = await compiledSeccomp(spec.linux?.seccomp, request.programs, warn)
  const writePlan = (root: Place['root']): void => {
    const { plan } = planContainer(spec, hostFacts(request.parent), {
      id,
      cgroup,
      root,
      io: request.io,
      exit: request.exit,
      restart: request.restart,
      reaper: request.reaper,
      createCwd: true,
      hostNamespaces: namespacesOfHost(spec),
      sharedMemory: request.sharedMemory,
      warn,
      ...(seccomp ? { seccomp } : {}),
    })
    writeFileAtomic(request.planPath, encodeContainer(plan))
  }
  writePlan(request.root)
  const monitor = await request.monitor
  // First, so that whoever cleans up after us knows of the cgroup from its first moment on.
  request.beforeCreate(cgroup)
  const group = await createGroup(host, {
    parent,
    name: id,
    resources: spec.linux?.resources ?? {},
    ...(request.missingControllers ? { missing: request.missingControllers } : {}),
  })
  if (group.directory !== cgroup)
    throw new Fault('INTERNAL', `the cgroup is ${group.directory}, not ${cgroup}`)
  for (const warning of group.warnings) (request.warnOfHost ?? warn)(warning)
  try {
    const created = await createMapped(monitor, request, writePlan)
    return { ...created, undo: () => destroyCgroup(cgroup) }
  } catch (error) {
    await destroyCgroup(cgroup).catch((failure: Error) => warn(failure.message))
    throw error
  }
}

/**
 * Has the monitor create; where the kernel cannot map the ids of the layers' file system, once more with the owner of every file changed
 * through the overlay instead, which copies each into the container.
 */
async function createMapped(
  monitor: Monitor,
  request: CreateRequest,
  writePlan: (root: Place['root']) => void,
): Promise<Created> {
  const { root, warn } = request
  try {
    return await create(monitor, request)
  } catch (error) {
    if (!(error instanceof MonitorFault) || !isUnmappable(error)) throw error
    if (root.kind !== 'overlay' || root.upper === undefined) throw error
    warn(
      `${error.message}; so the whole image is copied into the container with its owners changed: slow, and it takes the image's size again`,
    )
    writePlan({ ...root, options: [...root.options, CHANGE_OWNERS] })
    return create(monitor, request)
  }
}

/** All requests at once: the monitor does them in order, and refuses to join or start what it could not create. */
async function create(
  monitor: Monitor,
  { id, planPath, start, attach, afterAsked }: CreateRequest,
): Promise<Created> {
  const creating = monitor.create(planPath)
  const attached = attach ? monitor.attach(id, attach) : Promise.resolve(undefined)
  const started = start ? monitor.start(id) : Promise.resolve()
  // Where the creation fails, that is what is told.
  for (const later of [attached, started]) later.catch(() => {})
  afterAsked?.()
  try {
    const { pid } = await creating
    return { pid, started, session: await attached }
  } catch (error) {
    // Before its answer another attempt could not attach.
    await Promise.allSettled([attached])
    throw error
  }
}

/** Whether the kernel says that it cannot, and not that something went wrong this time. */
function isUnmappable(error: MonitorFault): boolean {
  if (error.stage !== 'idmap') return false
  return ['INVALID_ARGUMENT', 'PERMISSION_DENIED', 'UNIMPLEMENTED'].includes(error.code)
}

/** Whether a configuration could be started, but for what only the kernel knows: a Fault names the field. Nothing is made. */
export async function judgeProcess(
  spec: Spec,
  place: Pick<CreateRequest, 'id' | 'root' | 'programs'>,
): Promise<void> {
  const seccomp = await compiledSeccomp(spec.linux?.seccomp, place.programs)
  planContainer(spec, hostFacts(), {
    id: place.id,
    cgroup: '',
    root: place.root,
    io: { stdin: false, stdinOnce: false, log: 'none', logPath: '' },
    exit: { recordPath: '/', command: [] },
    createCwd: true,
    hostNamespaces: namespacesOfHost(spec),
    ...(seccomp ? { seccomp } : {}),
  })
}

/** Kills what runs in a cgroup, removes it and, where it was the last there, berth's own parent. Gone already is success. */
export async function destroyCgroup(cgroup: string): Promise<void> {
  // Most often the monitor has removed it: an exception costs as much as twenty of these.
  if (statSync(cgroup, { throwIfNoEntry: false }) !== undefined) {
    killGroup(cgroup)
    await removeGroup(cgroup)
  }
  const parent = join(cgroup, '..')
  // A parent that the user has named stays: it may be his, with limits of its own.
  if (parent === join(cgroupHost().root, DEFAULT_PARENT)) removeParentIfEmpty(parent)
}
