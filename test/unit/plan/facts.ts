import type { HostFacts, Place } from '../../../src/plan/index.ts'
import { defaultMounts } from '../../../src/spec/defaults.ts'
import type { Spec } from '../../../src/spec/runtime.ts'

/** A host with everything. */
export const FACTS: HostFacts = {
  capabilities: (1n << 41n) - 1n,
  lastCapability: 40,
  kernel: '6.12.0',
  architecture: 'x64',
  apparmor: false,
  selinux: false,
  cgroup2: { path: '/sys/fs/cgroup', options: ['nsdelegate', 'memory_recursiveprot'] },
  namespaces: new Set(['time', 'mount', 'cgroup', 'uts', 'ipc', 'user', 'pid', 'network']),
  hardLimits: new Map([[7, 524288n]]),
  oomScoreAdj: 0,
  kcore: true,
}

export const PLACE: Place = {
  id: 'c1',
  cgroup: '/sys/fs/cgroup/berth/c1',
  root: { kind: 'directory', path: '/bundle/rootfs' },
  io: { stdin: false, stdinOnce: false, log: 'none', logPath: '' },
  exit: { recordPath: '/run/berth/c1/exit', command: [] },
}

/** A small good configuration with changes on top. */
export function spec(change: Partial<Spec> = {}): Spec {
  return {
    ociVersion: '1.3.0',
    process: { user: { uid: 0, gid: 0 }, args: ['true'], cwd: '/', env: ['PATH=/bin'] },
    root: { path: 'rootfs' },
    mounts: defaultMounts(),
    linux: { namespaces: namespaces('pid', 'network', 'ipc', 'uts', 'mount', 'cgroup') },
    ...change,
  }
}

export function namespaces(...types: string[]): { type: string; path?: string }[] {
  return types.map((type) => ({ type }))
}
