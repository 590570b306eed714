import type { PodSandboxConfig } from '../../src/spec/cri.ts'

/** A pod's configuration as the kubelet sends it, but for what the test changes. */
export function podConfig(change: Partial<PodSandboxConfig> = {}): PodSandboxConfig {
  return {
    metadata: { name: 'web-0', namespace: 'shop', uid: 'u-1', attempt: 0 },
    hostname: 'web-0',
    logDirectory: '',
    dnsConfig: null,
    portMappings: [],
    labels: {},
    annotations: {},
    linux: null,
    ...change,
  }
}
