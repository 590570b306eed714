import {
  HOOK_KINDS,
  MEMORY_POLICY_FLAGS,
  MEMORY_POLICY_MODES,
  MOUNT_OPTIONS,
} from '../plan/index.ts'
import {
  COMPARISONS,
  SECCOMP_ACTIONS,
  SECCOMP_ARCHITECTURES,
  SECCOMP_FLAGS,
} from '../seccomp/constants.ts'
import { CAPABILITIES } from '../spec/linux.ts'
import { NAMESPACE_FLAGS } from '../spec/plan.ts'
import { OCI_VERSION } from './version.ts'

/** runtime-spec, "Features Structure": what this program can do, on whatever host. */
export function features(): object {
  return {
    ociVersionMin: '1.0.0',
    ociVersionMax: OCI_VERSION,
    hooks: HOOK_KINDS,
    mountOptions: [...MOUNT_OPTIONS].sort(),
    linux: {
      namespaces: Object.keys(NAMESPACE_FLAGS).sort(),
      capabilities: CAPABILITIES,
      cgroup: { v1: false, v2: true, systemd: true, systemdUser: false, rdma: true },
      seccomp: {
        enabled: true,
        actions: [...SECCOMP_ACTIONS].sort(),
        operators: [...COMPARISONS].sort(),
        archs: [...SECCOMP_ARCHITECTURES].sort(),
        knownFlags: [...SECCOMP_FLAGS].sort(),
        supportedFlags: [...SECCOMP_FLAGS].sort(),
      },
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: false },
      memoryPolicy: { modes: MEMORY_POLICY_MODES, flags: MEMORY_POLICY_FLAGS },
      mountExtensions: { idmap: { enabled: true } },
      netDevices: { enabled: true },
    },
    annotations: {},
    potentiallyUnsafeConfigAnnotations: [],
  }
}
