import { cgroupHost } from '../../cgroup/index.ts'
import { hostFacts } from '../../plan/index.ts'
import { DEFAULT_HANDLER, isMemoryWatched } from '../../pod/index.ts'
import type * as cri from '../../spec/cri.ts'
import type { Daemon } from '../daemon.ts'
import type { Reply } from '../wire.ts'

export async function status(
  daemon: Daemon,
  { verbose }: cri.StatusRequest,
): Promise<Reply<cri.StatusResponse>> {
  const { node } = daemon
  const network = await node.networks.ready()
  const features = {
    recursiveReadOnlyMounts: true,
    userNamespaces: hostFacts().namespaces.has('user'),
  }
  // The default one under both of its names; sorted, for the kubelet compares lists.
  const handlers = ['', DEFAULT_HANDLER, ...node.settings.handlers.keys()].sort()
  return {
    status: {
      conditions: [
        condition('RuntimeReady', ''),
        condition('NetworkReady', network.ready ? '' : network.message, network.reason),
        // Not one that the kubelet waits for: for people who look with crictl.
        condition('BerthHasNoDamage', node.damage.join('; '), 'DamagedRecords'),
      ],
    },
    runtimeHandlers: handlers.map((name) => ({ name, features })),
    features: {
      supplementalGroupsPolicy: true,
      userNamespacesHostNetwork: true,
      mountOptions: true,
    },
    info: verbose ? information(daemon) : {},
  }
}

function condition(type: string, message: string, reason = ''): Reply<cri.RuntimeCondition> {
  return message === ''
    ? { type, status: true, reason: '', message: '' }
    : { type, status: false, reason, message }
}

function information(daemon: Daemon): Record<string, string> {
  const { node } = daemon
  return {
    config: JSON.stringify(daemon.configuration()),
    roots: JSON.stringify({ root: node.engine.root, state: node.engine.state }),
    podCidr: JSON.stringify(node.networks.podCidrs),
    controllers: JSON.stringify(controllers(node)),
  }
}

/** Those that limits need, and what becomes of a limit whose controller this host lacks. */
function controllers(node: Daemon['node']): unknown {
  const { controllers: has } = cgroupHost()
  return {
    has,
    missing: NEEDED.filter((name) => !has.includes(name)),
    limitsOfMissingOnes: node.settings.missingControllers === 'warn' ? 'not in force' : 'refused',
    ...(isMemoryWatched(node) ? { memory: 'watched by berth, once a second' } : {}),
  }
}

const NEEDED = ['cpu', 'cpuset', 'hugetlb', 'io', 'memory', 'pids']
