import { chmodSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { ensureDirectory } from '../base/file.ts'
import { type Caller, ownCaller } from '../kernel/caller.ts'
import { requireKernel } from '../kernel/release.ts'
import { claimRoot } from './root-state.ts'
import type { Roots } from './types.ts'

/** A berth at its roots. `warn` receives sentences for the user (a limit skipped, a network missing). */
export interface Engine extends Roots {
  readonly warn: (message: string) => void
  /** Whose environment counts, and whose children monitors are. */
  readonly caller: Caller
  /** Every path below the roots that berth writes is made here; docs/state.md lists them. */
  readonly at: ReturnType<typeof paths>
}

function paths({ root, state }: Roots) {
  return {
    containers: join(root, 'containers'),
    names: join(root, 'names'),
    volumes: join(root, 'volumes'),
    idRanges: join(root, 'id-ranges'),
    /** What CNI was asked and has answered, a file an attachment. */
    networks: join(root, 'networks'),
    layers: join(root, 'layers'),
    /** Steps of builds and the layers they made. */
    buildCache: join(root, 'build-cache'),
    events: join(state, 'events'),
    locks: join(state, 'locks'),
    /** Compiled seccomp programs. */
    programs: join(state, 'seccomp'),
    /** What survives a reboot of one container: an OCI bundle with our record beside. */
    container: (id: string) => join(root, 'containers', id),
    record: (id: string) => join(root, 'containers', id, 'record.json'),
    config: (id: string) => join(root, 'containers', id, 'config.json'),
    exit: (id: string) => join(root, 'containers', id, 'exit.json'),
    log: (id: string) => join(root, 'containers', id, 'container.log'),
    upper: (id: string) => join(root, 'containers', id, 'upper'),
    work: (id: string) => join(root, 'containers', id, 'work'),
    /** Files berth makes for the container's /etc. */
    etc: (id: string, file: string) => join(root, 'containers', id, file),
    name: (name: string) => join(root, 'names', name),
    /** What does not survive: the monitor's directory and the plan. */
    live: (id: string) => join(state, 'containers', id),
    plan: (id: string) => join(state, 'containers', id, 'plan'),
    /** There while berth has frozen the container for a while, as for a commit. */
    frozen: (id: string) => join(state, 'containers', id, 'frozen'),
    lock: (id: string) => join(state, 'locks', id),
  }
}

/**
 * Opens the roots, making what is missing. All of it is for root alone (0700): images hold setuid programs that no host user may reach
 * (CVE-2021-41103, CVE-2024-25621).
 */
export function openEngine(
  options: Roots & { warn: (message: string) => void; caller?: Caller },
): Engine {
  requireKernel(release())
  const at = paths(options)
  try {
    for (const path of [options.root, options.state]) {
      ensureDirectory(path)
      chmodSync(path, 0o700)
    }
    for (const path of [at.containers, at.names, at.volumes, at.layers, at.locks]) {
      ensureDirectory(path)
    }
    ensureDirectory(join(options.state, 'containers'))
    claimRoot(options)
  } catch (error) {
    if (isErrno(error, 'EACCES', 'EPERM', 'EROFS')) {
      throw new Fault(
        'PERMISSION_DENIED',
        `cannot write below ${options.root} and ${options.state}: berth runs as root (try sudo), or give it other places with --root and --state`,
        { cause: error },
      )
    }
    if (isErrno(error, 'EEXIST', 'ENOTDIR')) {
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot write below ${options.root} and ${options.state}: something on the way there is no directory`,
        { cause: error },
      )
    }
    throw error
  }
  const { root, state, warn, caller = ownCaller() } = options
  return { root, state, warn, caller, at }
}
