import { join } from 'node:path'
import { Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import {
  cgroupHost,
  createGroup,
  DEFAULT_PARENT,
  killGroup,
  removeGroup,
  removeParentIfEmpty,
} from '../cgroup/index.ts'
import { hostFacts, namespacesOfHost, type Place, planContainer } from '../plan/index.ts'
import type { Spec } from '../spec/runtime.ts'
import { encodeContainer } from '../wire/plan.ts'
import type { Monitor } from './monitor.ts'
import { compiledSeccomp } from './seccomp.ts'

export interface CreateRequest {
  readonly monitor: Monitor
  readonly id: string
  readonly spec: Spec
  readonly root: Place['root']
  /** Where the plan is written for the monitor, and left for its restarts of the container. */
  readonly planPath: string
  readonly cgroupParent: string | undefined
  readonly io: Place['io']
  readonly exit: Place['exit']
  readonly restart: NonNullable<Place['restart']>
  readonly reaper: boolean
  readonly warn: (message: string) => void
  /** Called when all is judged and made but the process: with the cgroup's directory. */
  readonly beforeCreate: (cgroup: string) => void
}

/**
 * Makes a container's first process, up to the point before its program: judges the whole configuration, makes the cgroup with its limits, has the
 * monitor create. `undo` takes away what was made here.
 */
export async function createProcess(
  request: CreateRequest,
): Promise<{ pid: number; undo: () => Promise<void> }> {
  const { monitor, id, spec, warn } = request
  const host = cgroupHost()
  const parent = request.cgroupParent ?? DEFAULT_PARENT
  const cgroup = join(host.root, parent, id)
  const seccomp = compiledSeccomp(spec.linux?.seccomp, warn)
  const { plan } = planContainer(spec, hostFacts(), {
    id,
    cgroup,
    root: request.root,
    io: request.io,
    exit: request.exit,
    restart: request.restart,
    reaper: request.reaper,
    createCwd: true,
    hostNamespaces: namespacesOfHost(spec),
    warn,
    ...(seccomp ? { seccomp } : {}),
  })
  writeFileAtomic(request.planPath, encodeContainer(plan))
  const group = await createGroup(host, {
    parent,
    name: id,
    resources: spec.linux?.resources ?? {},
  })
  if (group.directory !== cgroup)
    throw new Fault('INTERNAL', `the cgroup is ${group.directory}, not ${cgroup}`)
  for (const warning of group.warnings) warn(warning)
  try {
    request.beforeCreate(cgroup)
    const { pid } = await monitor.create(request.planPath)
    return { pid, undo: () => destroyCgroup(cgroup) }
  } catch (error) {
    await destroyCgroup(cgroup).catch((failure: Error) => warn(failure.message))
    throw error
  }
}

/** Kills what runs in a cgroup, removes it and, where it was the last there, its parent. Gone already is success. */
export async function destroyCgroup(cgroup: string): Promise<void> {
  killGroup(cgroup)
  await removeGroup(cgroup)
  const parent = join(cgroup, '..')
  if (parent !== cgroupHost().root && parent.startsWith(`${cgroupHost().root}/`))
    removeParentIfEmpty(parent)
}
