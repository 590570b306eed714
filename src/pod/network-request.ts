import { isIP } from 'node:net'
import { Fault } from '../base/fault.ts'
import type { Attachment, CapabilityArgs, NetworkConf } from '../network/index.ts'
import type { PodSandboxConfig, PortMapping } from '../spec/cri.ts'
import { podBandwidth } from './network-bandwidth.ts'

/** The interface of a pod in its network: what the kubelet and everything around it expects. */
export const POD_INTERFACE = 'eth0'

const PORT_MAPPINGS_MAX = 4096
const ARG_LENGTH_MAX = 1024
const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'

/**
 * What a network is asked for a pod. `undeclared` says what the pod wants and no plugin declares. That is no error as it is on the command line:
 * there are networks (Cilium) whose agent serves host ports and bandwidth from the API server's pod, past the plugins.
 */
export function podRequest(
  conf: NetworkConf,
  pod: { readonly id: string; readonly config: PodSandboxConfig },
  options: { readonly netns: string; readonly podCidrs: readonly string[] },
): { readonly attachment: Attachment; readonly undeclared: readonly string[] } {
  const wanted = capabilities(pod.config, options.podCidrs)
  const declared = Object.fromEntries(
    Object.entries(wanted).filter(([name]) =>
      conf.plugins.some((plugin) => plugin.capabilities?.[name] === true),
    ),
  )
  const told: Readonly<Record<string, string>> = {
    portMappings: 'its host ports',
    bandwidth: 'its limits of bandwidth',
  }
  return {
    attachment: {
      containerId: pod.id,
      netns: options.netns,
      ifname: POD_INTERFACE,
      args: cniArgs(pod),
      capabilities: declared,
    },
    undeclared: Object.keys(wanted).flatMap((name) => (name in declared ? [] : (told[name] ?? []))),
  }
}

/** The keys by which plugins know a pod. */
function cniArgs(pod: { readonly id: string; readonly config: PodSandboxConfig }): string[] {
  const { metadata } = pod.config
  const args = {
    IgnoreUnknown: '1',
    K8S_POD_NAMESPACE: metadata?.namespace ?? '',
    K8S_POD_NAME: metadata?.name ?? '',
    K8S_POD_INFRA_CONTAINER_ID: pod.id,
    K8S_POD_UID: metadata?.uid ?? '',
  }
  return Object.entries(args).map(([key, value]) => {
    // CNI_ARGS knows no quoting: a semicolon in a name would be another argument.
    if (/[;=\s\p{Cc}]/u.test(value) || value.length > ARG_LENGTH_MAX) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `pod ${pod.id}: ${JSON.stringify(value.slice(0, 100))} cannot be given to CNI plugins as ${key}`,
      )
    }
    return `${key}=${value}`
  })
}

/** Everything that a plugin may declare: those that containerd and CRI-O know, and the node's range of addresses. */
function capabilities(config: PodSandboxConfig, podCidrs: readonly string[]): CapabilityArgs {
  const portMappings = hostPorts(config.portMappings)
  const bandwidth = podBandwidth(config.annotations)
  const { dnsConfig } = config
  const cgroupPath = config.linux?.cgroupParent ?? ''
  return {
    ...(portMappings.length > 0 ? { portMappings } : {}),
    ...(bandwidth ? { bandwidth } : {}),
    ...(dnsConfig
      ? {
          dns: {
            servers: dnsConfig.servers,
            searches: dnsConfig.searches,
            options: dnsConfig.options,
          },
        }
      : {}),
    ...(podCidrs.length > 0 ? { ipRanges: podCidrs.map((subnet) => [{ subnet }]) } : {}),
    ...(cgroupPath === '' ? {} : { cgroupPath }),
    [ANNOTATIONS]: config.annotations,
  }
}

/** The mappings with a host port: the kubelet sends one for each port of a container, most without. */
function hostPorts(
  mappings: readonly PortMapping[],
): NonNullable<CapabilityArgs['portMappings']>[number][] {
  const wanted = mappings.filter((mapping) => mapping.hostPort > 0)
  if (wanted.length > PORT_MAPPINGS_MAX) {
    throw new Fault('INVALID_ARGUMENT', `more than ${PORT_MAPPINGS_MAX} host ports in one pod`)
  }
  return wanted.map(({ protocol, containerPort, hostPort, hostIp }) => {
    const bad = (reason: string): Fault =>
      new Fault('INVALID_ARGUMENT', `host port ${hostPort} for port ${containerPort}: ${reason}`)
    if (hostPort > 65535) throw bad(`${hostPort} is no port`)
    if (containerPort < 1 || containerPort > 65535) throw bad(`${containerPort} is no port`)
    const name = PROTOCOLS[protocol]
    // The wire lets numbers through that the interface does not know.
    if (name === undefined) throw bad(`${protocol} is no protocol`)
    if (hostIp !== '' && isIP(hostIp) === 0) throw bad(`"${hostIp}" is no IP address`)
    return {
      hostPort,
      containerPort,
      protocol: name,
      ...(hostIp === '' ? {} : { hostIP: hostIp }),
    }
  })
}

const PROTOCOLS: Readonly<Record<string, 'tcp' | 'udp' | 'sctp'>> = {
  TCP: 'tcp',
  UDP: 'udp',
  SCTP: 'sctp',
}
