import { packageVersion } from '../../engine/version.ts'
import type * as cri from '../../spec/cri.ts'
import type { Reply } from '../wire.ts'

/** The kubelet takes no other (its kubeRuntimeAPIVersion). */
const KUBE_RUNTIME_API = '0.1.0'

export async function version(): Promise<Reply<cri.VersionResponse>> {
  return {
    version: KUBE_RUNTIME_API,
    runtimeName: 'berth',
    runtimeVersion: packageVersion(),
    runtimeApiVersion: 'v1',
  }
}
