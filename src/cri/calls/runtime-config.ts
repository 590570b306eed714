import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function runtimeConfig({ node }: Daemon): Promise<Reply<cri.RuntimeConfigResponse>> {
  const isSystemd = node.settings.cgroupDriver === 'systemd'
  return { linux: { cgroupDriver: isSystemd ? 'SYSTEMD' : 'CGROUPFS' } }
}

/** The address range that the cluster gives this node: for CNI plugins that declare that they take it. */
export async function updateRuntimeConfig(
  { node }: Daemon,
  { runtimeConfig: given }: cri.UpdateRuntimeConfigRequest,
): Promise<Reply<cri.UpdateRuntimeConfigResponse>> {
  node.networks.setPodCidr(given?.networkConfig?.podCidr ?? '')
  return {}
}
