import type { Container, Pod } from '../pod/index.ts'
import { DEFAULT_HANDLER } from '../pod/index.ts'
import { statusMounts } from '../pod/mounts.ts'
import { signalOf } from '../pod/signals.ts'
import type * as cri from '../spec/cri.ts'
import type { Reply } from './wire.ts'

/** The node's words into the CRI's. */

const sandboxes = new WeakMap<
  Pod,
  { readonly isReady: boolean; readonly item: Reply<cri.PodSandbox> }
>()

/** The same object as long as it says the same: lists keep its bytes by it. */
export function podSandbox(pod: Pod): Reply<cri.PodSandbox> {
  const { isReady } = pod
  const known = sandboxes.get(pod)
  if (known?.isReady === isReady) return known.item
  const item = makeSandbox(pod)
  sandboxes.set(pod, { isReady, item })
  return item
}

function makeSandbox({ record, isReady }: Pod): Reply<cri.PodSandbox> {
  const { config } = record
  return {
    id: record.id,
    metadata: config.metadata,
    state: isReady ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY',
    createdAt: record.createdNs,
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: record.runtimeHandler,
  }
}

export function podSandboxStatus(pod: Pod): Reply<cri.PodSandboxStatus> {
  const options = pod.record.config.linux?.securityContext?.namespaceOptions
  const [ip = '', ...additional] = pod.addresses
  return {
    ...podSandbox(pod),
    network: { ip, additionalIps: additional.map((each) => ({ ip: each })) },
    linux: {
      namespaces: {
        options: options ?? {
          network: 'POD',
          pid: 'POD',
          ipc: 'POD',
          targetId: '',
          usernsOptions: null,
        },
      },
    },
  }
}

export const STATES = {
  created: 'CONTAINER_CREATED',
  running: 'CONTAINER_RUNNING',
  exited: 'CONTAINER_EXITED',
} as const

const containers = new WeakMap<
  Container,
  {
    readonly record: Container['record']
    readonly state: Container['status']['state']
    readonly item: Reply<cri.Container>
  }
>()

/** As podSandbox: the same object as long as it says the same. A changed container has another record. */
export function container(of: Container): Reply<cri.Container> {
  const { record, status } = of
  const known = containers.get(of)
  if (known?.record === record && known.state === status.state) return known.item
  const item = makeContainer(of)
  containers.set(of, { record, state: status.state, item })
  return item
}

function makeContainer({ record, status }: Container): Reply<cri.Container> {
  const { config } = record
  return {
    id: record.id,
    podSandboxId: record.podId,
    metadata: config.metadata,
    image: config.image,
    imageRef: record.imageId,
    imageId: record.imageId,
    state: STATES[status.state],
    createdAt: record.createdNs,
    labels: config.labels,
    annotations: config.annotations,
  }
}

/**
 * Of a pod's containers, the newest first: with EventedPLEG the kubelet takes the first of a name for the one that counts (kuberuntime
 * GetPodStatus), and would ask for the next attempt by the number of the oldest.
 */
export function containerStatuses(pod: Pod): Reply<cri.ContainerStatus>[] {
  return [...pod.containers.values()]
    .sort((a, b) => Number(BigInt(b.record.createdNs) - BigInt(a.record.createdNs)))
    .map(containerStatus)
}

export function containerStatus(of: Container): Reply<cri.ContainerStatus> {
  const { record, status } = of
  const { user, config } = record
  return {
    id: record.id,
    metadata: config.metadata,
    state: STATES[status.state],
    createdAt: record.createdNs,
    startedAt: status.startedNs,
    finishedAt: status.finishedNs,
    exitCode: status.exitCode,
    image: {
      ...config.image,
      image: record.imageRef,
      userSpecifiedImage: config.image?.userSpecifiedImage ?? '',
    },
    imageRef: record.imageDigestRef,
    imageId: record.imageId,
    reason: status.reason,
    message: status.message,
    labels: config.labels,
    annotations: config.annotations,
    mounts: statusMounts(config.mounts, record.imageMounts),
    logPath: record.logPath,
    resources: { linux: record.resources },
    user: {
      linux: {
        uid: String(user.uid),
        gid: String(user.gid),
        supplementalGroups: user.groups.map(String),
      },
    },
    stopSignal: signalOf(record.stopSignal),
  }
}

export const handlerName = (pod: Pod): string => pod.record.runtimeHandler || DEFAULT_HANDLER
