import { arch, cpus, hostname, release, totalmem } from 'node:os'
import { Fault } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { hostFacts } from '../plan/index.ts'
import { listContainers } from './find.ts'
import { openImages } from './images.ts'
import type { Engine } from './open.ts'

/** What this berth is and what its host can do: the first thing to read when something does not work. */
export async function engineInfo(engine: Engine): Promise<Record<string, unknown>> {
  const containers = await listContainers(engine, { all: true })
  const count = (state: string): number =>
    containers.filter(({ status }) => status.state === state).length
  const facts = hostFacts()
  return {
    root: engine.root,
    state: engine.state,
    containers: containers.length,
    containersRunning: count('running'),
    containersPaused: count('paused'),
    containersStopped: count('stopped') + count('created'),
    images: openImages(engine).catalog.list((fault) => engine.warn(fault.message)).length,
    hostname: hostname(),
    kernel: release(),
    operatingSystem: operatingSystem(),
    architecture: arch(),
    node: process.version,
    cpus: cpus().length,
    memoryBytes: totalmem(),
    cgroupVersion: '2',
    cgroupDriver: 'cgroupfs',
    ...cgroupFacts(),
    namespaces: [...facts.namespaces],
    apparmor: facts.apparmor,
    selinux: facts.selinux,
    seccompActions:
      readFileIfAny('/proc/sys/kernel/seccomp/actions_avail')?.trim().split(' ') ?? [],
    storage: 'overlay',
  }
}

function cgroupFacts(): Record<string, unknown> {
  try {
    const host = cgroupHost()
    return { cgroupRoot: host.root, cgroupControllers: host.controllers, cgroupHybrid: host.hybrid }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { cgroupRoot: '', cgroupControllers: [], cgroupProblem: error.message }
  }
}

function operatingSystem(): string {
  const text = readFileIfAny('/etc/os-release') ?? ''
  return /^PRETTY_NAME="?(.*?)"?$/m.exec(text)?.[1] ?? 'Linux'
}
