import * as assert from 'uvu/assert'
import { Fault, type FaultCode } from '../../../src/base/fault.ts'
import type { StoredConfig } from '../../../src/pod/types.ts'
import type {
  LinuxContainerSecurityContext,
  LinuxSandboxSecurityContext,
  Mount,
  NamespaceOption,
  PodSandboxConfig,
  UserNamespace,
} from '../../../src/spec/cri.ts'

/** Messages of the CRI as they come off the wire: every field is there, with the value that says nothing. */

export function security(
  change: Partial<LinuxContainerSecurityContext> = {},
): LinuxContainerSecurityContext {
  return {
    capabilities: null,
    privileged: false,
    namespaceOptions: null,
    selinuxOptions: null,
    runAsUser: null,
    runAsGroup: null,
    runAsUsername: '',
    readonlyRootfs: false,
    supplementalGroups: [],
    supplementalGroupsPolicy: 'Merge',
    noNewPrivs: false,
    maskedPaths: [],
    readonlyPaths: [],
    seccomp: null,
    apparmor: null,
    apparmorProfile: '',
    seccompProfilePath: '',
    ...change,
  }
}

export function podConfig(
  context: Partial<LinuxSandboxSecurityContext> = {},
  change: Partial<PodSandboxConfig> & { sysctls?: Record<string, string> } = {},
): PodSandboxConfig {
  const { sysctls = {}, ...rest } = change
  return {
    metadata: { name: 'pod', uid: 'u1', namespace: 'default', attempt: 0 },
    hostname: 'web-0',
    logDirectory: '',
    dnsConfig: null,
    portMappings: [],
    labels: {},
    annotations: {},
    linux: {
      cgroupParent: '',
      sysctls,
      overhead: null,
      resources: null,
      securityContext: {
        namespaceOptions: null,
        selinuxOptions: null,
        runAsUser: null,
        runAsGroup: null,
        readonlyRootfs: false,
        supplementalGroups: [],
        supplementalGroupsPolicy: 'Merge',
        privileged: false,
        seccomp: null,
        apparmor: null,
        seccompProfilePath: '',
        ...context,
      },
    },
    ...rest,
  }
}

/** As the kubelet sends for an ordinary pod. */
export function options(change: Partial<NamespaceOption> = {}): NamespaceOption {
  return {
    network: 'POD',
    pid: 'CONTAINER',
    ipc: 'POD',
    targetId: '',
    usernsOptions: { mode: 'NODE', uids: [], gids: [] },
    ...change,
  }
}

export function userns(change: Partial<UserNamespace> = {}): UserNamespace {
  const range = () => [{ hostId: 65536, containerId: 0, length: 65536 }]
  return { mode: 'POD', uids: range(), gids: range(), ...change }
}

export const MAPPINGS = {
  uidMappings: [{ containerID: 0, hostID: 65536, size: 65536 }],
  gidMappings: [{ containerID: 0, hostID: 65536, size: 65536 }],
}

export function containerConfig(
  change: Partial<StoredConfig> = {},
  context: LinuxContainerSecurityContext = security(),
): StoredConfig {
  return {
    metadata: { name: 'main', attempt: 0 },
    image: null,
    command: ['/bin/true'],
    args: [],
    workingDir: '',
    envs: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    logPath: '',
    stdin: false,
    stdinOnce: false,
    tty: false,
    linux: { resources: null, securityContext: context },
    CDIDevices: [],
    stopSignal: 'SIGNAL_RUNTIME_DEFAULT',
    ...change,
  }
}

export function mount(change: Partial<Mount> = {}): Mount {
  return {
    containerPath: '/data',
    hostPath: '/tmp',
    readonly: false,
    selinuxRelabel: false,
    propagation: 'PROPAGATION_PRIVATE',
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: false,
    image: null,
    imageSubPath: '',
    mountOptions: [],
    ...change,
  }
}

/** That `act` is refused, with this code and a message that names this. */
export function refused(act: () => unknown, code: FaultCode, message: RegExp): void {
  try {
    act()
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    assert.is(error.code, code)
    assert.match(error.message, message)
    return
  }
  assert.unreachable(`not refused: ${message}`)
}

export const never = (message: string): void => assert.unreachable(`warned: ${message}`)
