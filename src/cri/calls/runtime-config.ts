import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function runtimeConfig(): Promise<Reply<cri.RuntimeConfigResponse>> {
  return { linux: { cgroupDriver: 'CGROUPFS' } }
}

/** The address range is for CNI configurations that want it; a network's own configuration decides. */
export async function updateRuntimeConfig(
  daemon: Daemon,
  { runtimeConfig: given }: cri.UpdateRuntimeConfigRequest,
): Promise<Reply<cri.UpdateRuntimeConfigResponse>> {
  daemon.podCidr = given?.networkConfig?.podCidr ?? daemon.podCidr
  return {}
}
