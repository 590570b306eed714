import type { Account } from '../engine/users.ts'
import { absolute, list } from '../plan/check.ts'
import { mayRaise } from '../plan/identity.ts'
import type { HostFacts } from '../plan/index.ts'
import { parseUlimit } from '../plan/ulimit.ts'
import type { PodSandboxConfig } from '../spec/cri.ts'
import type { ImageConfig } from '../spec/image.ts'
import { RLIMITS } from '../spec/linux.ts'
import type { Linux, Process, Spec } from '../spec/runtime.ts'
import { containerDevices } from './devices.ts'
import type { ContainerMounts } from './mounts.ts'
import type { ContainerNamespaces } from './namespaces.ts'
import type { HandlerSettings } from './node.ts'
import { commandOf, environmentOf, workingDirectory } from './process.ts'
import { ociResources } from './resources.ts'
import { apparmorOf, capabilitySets, checkPrivileged, checkSelinux, seccompOf } from './security.ts'
import type { ContainerRecord, Mappings, StoredConfig } from './types.ts'

const PATHS_MAX = 1024

export interface ContainerSpecInput {
  readonly pod: {
    readonly id: string
    readonly config: PodSandboxConfig
    readonly hostname: string
    readonly mappings: Mappings | undefined
  }
  readonly config: StoredConfig
  readonly image: ImageConfig['config']
  /** A name of the image for people. */
  readonly imageRef: string
  readonly account: Pick<Account, 'uid' | 'gid' | 'groups' | 'home'>
  readonly resources: ContainerRecord['resources']
  readonly namespaces: ContainerNamespaces['namespaces']
  readonly mounts: ContainerMounts
  readonly facts: Pick<
    HostFacts,
    'apparmor' | 'selinux' | 'hardLimits' | 'oomScoreAdj' | 'capabilities'
  >
  /** Of the host's cgroup v2 hierarchy. */
  readonly controllers: readonly string[]
  readonly handler: HandlerSettings
  readonly rootPath: string
  readonly cgroupsPath: string
  /** Told once each (`onceEach`): what the host lacks is so for every container. */
  readonly warn: (message: string) => void
}

/** The OCI configuration of a pod's container. Refuses what the CRI does not allow or berth cannot do, by the name of the CRI's field. */
export function containerSpec(input: ContainerSpecInput): Spec {
  const { pod, config, facts, warn } = input
  const context = config.linux?.securityContext ?? null
  const privileged = checkPrivileged(context, pod.config.linux?.securityContext ?? null)
  checkSelinux(context, facts, warn)
  const { devices, rules } = containerDevices(config, {
    privileged,
    allOfHost: !input.handler.privilegedWithoutHostDevices,
  })
  const process = processOf(input)
  const seccomp = seccompOf(
    context,
    process.capabilities?.bounding ?? [],
    input.handler.seccompProfile,
  )
  const linux: Linux = {
    namespaces: input.namespaces,
    cgroupsPath: input.cgroupsPath,
    resources: {
      ...ociResources('linux.resources', input.resources, input.controllers),
      devices: rules,
    },
    devices,
    maskedPaths: privileged ? [] : paths('masked_paths', context?.maskedPaths),
    readonlyPaths: privileged ? [] : paths('readonly_paths', context?.readonlyPaths),
    ...(seccomp ? { seccomp } : {}),
    ...(input.mounts.rootfsPropagation
      ? { rootfsPropagation: input.mounts.rootfsPropagation }
      : {}),
  }
  // Of a joined namespace they say what it maps: owners are set from outside.
  if (pod.mappings) {
    linux.uidMappings = [...pod.mappings.uidMappings]
    linux.gidMappings = [...pod.mappings.gidMappings]
  }
  return {
    ociVersion: '1.3.0',
    process,
    root: { path: input.rootPath, readonly: context?.readonlyRootfs ?? false },
    mounts: input.mounts.mounts,
    annotations: markers(input),
    linux,
  }
}

/** As given, also where none are: that is how the kubelet asks for an unmasked /proc. */
function paths(name: string, given: readonly string[] | undefined): string[] {
  const field = `linux.security_context.${name}`
  return list(field, given, PATHS_MAX).map((path, i) => absolute(`${field}[${i}]`, path))
}

function processOf({
  config,
  image,
  account,
  pod,
  resources,
  facts,
  handler,
  warn,
}: ContainerSpecInput): Process {
  const context = config.linux?.securityContext ?? null
  const { uid, gid, groups, home } = account
  const apparmorProfile = apparmorOf(context, facts, warn)
  return {
    terminal: config.tty,
    user: { uid, gid, additionalGids: [...groups] },
    args: commandOf(config, image),
    env: environmentOf({ config, image, hostname: pod.hostname, home }),
    cwd: workingDirectory(config, image),
    capabilities: capabilitySets(context, handler.capabilities),
    noNewPrivileges: context?.noNewPrivs ?? false,
    rlimits: rlimits(handler, facts),
    // Also 0: a daemon's own, often far below, is not for its containers.
    oomScoreAdj: oomScore(Number(resources.oomScoreAdj), { handler, facts, warn }),
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
  }
}

/** The kubelet gives Guaranteed pods -997, which a daemon without CAP_SYS_RESOURCE cannot grant; planContainer refuses it unless this was allowed. */
function oomScore(
  value: number,
  { handler, facts, warn }: Pick<ContainerSpecInput, 'handler' | 'facts' | 'warn'>,
): number {
  const own = facts.oomScoreAdj
  if (!handler.restrictOomScoreAdj || value >= own || mayRaise(facts)) return value
  warn(`oom_score_adj below ${own}, berth's own, is not in force: ${own} is, as configured`)
  return own
}

/** systemd's and containerd's soft limit of open files: programs that close all that they could have open take long with more (Node raises its own). */
const OPEN_FILES_SOFT = 1024n

/** As configured; without a word about open files the daemon's hard limit, and a soft one that programs expect. */
function rlimits(
  { ulimits }: HandlerSettings,
  { hardLimits }: Pick<HostFacts, 'hardLimits'>,
): NonNullable<Process['rlimits']> {
  const limits = ulimits.map((each) => {
    const { name, soft, hard } = parseUlimit(each)
    return { type: `RLIMIT_${name.toUpperCase()}`, soft, hard }
  })
  const hard = hardLimits.get(RLIMITS.RLIMIT_NOFILE)
  if (hard === undefined || limits.some(({ type }) => type === 'RLIMIT_NOFILE')) return limits
  const soft = hard < OPEN_FILES_SOFT ? hard : OPEN_FILES_SOFT
  return [...limits, { type: 'RLIMIT_NOFILE', soft: Number(soft), hard: Number(hard) }]
}

/** The names that containerd gave these, which tools read. Nothing of the image's labels gets in here (CVE-2026-53488). */
function markers({ pod, config, imageRef }: ContainerSpecInput): Record<string, string> {
  const { metadata } = pod.config
  return {
    'io.kubernetes.cri.container-type': 'container',
    'io.kubernetes.cri.sandbox-id': pod.id,
    'io.kubernetes.cri.sandbox-name': metadata?.name ?? '',
    'io.kubernetes.cri.sandbox-namespace': metadata?.namespace ?? '',
    'io.kubernetes.cri.sandbox-uid': metadata?.uid ?? '',
    'io.kubernetes.cri.container-name': config.metadata?.name ?? '',
    'io.kubernetes.cri.image-name': imageRef,
  }
}
