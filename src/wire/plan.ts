import {
  type ContainerPlan,
  type DevicePlan,
  type HookPlan,
  type IdMap,
  type IdMappings,
  type MountPlan,
  NAMESPACE_FLAGS,
  type NamespacesPlan,
  type ProcessPlan,
  type RootPlan,
} from '../spec/plan.ts'
import { Message } from './message.ts'
import { LOG_KIND, MOUNT_KIND, RESTART_POLICY, TAG } from './tags.ts'

/** The bytes of a plan file: what a monitor reads to create a container, and again to restart it. */
export function encodeContainer(plan: ContainerPlan): Buffer {
  const m = new Message()
  m.text(TAG.containerId, plan.id).text(TAG.containerCgroup, plan.cgroup)
  encodeNamespaces(m, plan)
  const { monotonicOffset, boottimeOffset } = plan
  if (monotonicOffset) {
    m.number(TAG.containerMonotonicSeconds, monotonicOffset.seconds)
    m.number(TAG.containerMonotonicNanoseconds, monotonicOffset.nanoseconds)
  }
  if (boottimeOffset) {
    m.number(TAG.containerBoottimeSeconds, boottimeOffset.seconds)
    m.number(TAG.containerBoottimeNanoseconds, boottimeOffset.nanoseconds)
  }
  m.group(TAG.containerRoot, (g) => root(g, plan.root))
  m.flag(TAG.containerRootReadonly, plan.rootReadonly).flag(TAG.containerNoPivot, plan.noPivot)
  if (plan.rootPlace !== undefined) m.text(TAG.containerRootPlace, plan.rootPlace)
  m.number(TAG.containerRootPropagation, plan.rootPropagation)
  for (const mount of plan.mounts) m.group(TAG.containerMount, (g) => mountFields(g, mount))
  for (const device of plan.devices) m.group(TAG.containerDevice, (g) => deviceFields(g, device))
  for (const link of plan.links) {
    m.group(TAG.containerLink, (g) => g.text(TAG.linkTarget, link.target).text(TAG.linkTo, link.to))
  }
  m.texts(TAG.containerMasked, plan.maskedPaths)
  m.texts(TAG.containerReadonly, plan.readonlyPaths)
  m.flag(TAG.containerReaper, plan.reaper)
  m.group(TAG.containerProcess, (g) => encodeProcess(g, plan.process))
  m.flag(TAG.containerStdin, plan.io.stdin).flag(TAG.containerStdinOnce, plan.io.stdinOnce)
  m.number(TAG.containerLogKind, LOG_KIND[plan.io.log]).text(TAG.containerLogPath, plan.io.logPath)
  m.text(TAG.containerExitRecord, plan.exit.recordPath)
  m.texts(TAG.containerExitCommand, plan.exit.command)
  m.number(TAG.containerRestartPolicy, RESTART_POLICY[plan.restart.policy])
  m.number(TAG.containerRestartMaximum, plan.restart.maximumRetries)
  if (plan.notifySocket) m.text(TAG.containerNotifySocket, plan.notifySocket)
  if (plan.hooks) {
    m.flag(TAG.containerAwaitsHooks, true).text(TAG.containerHookDirectory, plan.hooks.directory)
    for (const hook of plan.hooks.createContainer) {
      m.group(TAG.containerCreateHook, (g) => hookFields(g, hook))
    }
    for (const hook of plan.hooks.startContainer) {
      m.group(TAG.containerStartHook, (g) => hookFields(g, hook))
    }
  }
  return m.encode()
}

/** The plan file of a further process, in the container's cgroup: what berth-launch takes. */
export function encodeExecFile(cgroup: string, process: ProcessPlan): Buffer {
  const m = new Message().text(TAG.containerCgroup, cgroup)
  m.group(TAG.containerRoot, (g) => root(g, { kind: 'directory', path: '/' }))
  return m.group(TAG.containerProcess, (g) => encodeProcess(g, process)).encode()
}

function hookFields(m: Message, hook: HookPlan): Message {
  m.text(TAG.hookPath, hook.path).texts(TAG.hookArg, hook.args).texts(TAG.hookEnv, hook.env)
  return m.number(TAG.hookTimeoutMs, hook.timeoutMs)
}

/** What namespaces are, and say about themselves. */
export function encodeNamespaces(m: Message, plan: NamespacesPlan): Message {
  for (const ns of plan.namespaces) {
    m.group(TAG.containerNamespace, (g) => {
      g.number(TAG.namespaceFlag, NAMESPACE_FLAGS[ns.type])
      if (ns.path !== undefined) g.text(TAG.namespacePath, ns.path)
    })
  }
  const { idMappings } = plan
  if (idMappings) m.group(TAG.containerIdMappings, (g) => mappings(g, idMappings))
  if (plan.hostname !== undefined) m.text(TAG.containerHostname, plan.hostname)
  if (plan.domainname !== undefined) m.text(TAG.containerDomainname, plan.domainname)
  for (const [name, value] of plan.sysctls) {
    m.group(TAG.containerSysctl, (g) => g.text(TAG.sysctlName, name).text(TAG.sysctlValue, value))
  }
  return m.flag(TAG.containerLoopback, plan.loopback)
}

export function encodeProcess(m: Message, process: ProcessPlan): Message {
  m.texts(TAG.processArg, process.args).texts(TAG.processEnv, process.env)
  m.text(TAG.processCwd, process.cwd).flag(TAG.processCreateCwd, process.createCwd)
  m.number(TAG.processUid, process.uid).number(TAG.processGid, process.gid)
  for (const group of process.groups) m.number(TAG.processGroup, group)
  m.number(TAG.processUmask, process.umask)
  m.flag(TAG.processTerminal, process.terminal)
  m.number(TAG.processRows, process.rows).number(TAG.processColumns, process.columns)
  const caps = process.capabilities
  m.number(TAG.processCapBounding, caps.bounding)
  m.number(TAG.processCapEffective, caps.effective)
  m.number(TAG.processCapPermitted, caps.permitted)
  m.number(TAG.processCapInheritable, caps.inheritable)
  m.number(TAG.processCapAmbient, caps.ambient)
  m.flag(TAG.processNoNewPrivileges, process.noNewPrivileges)
  for (const limit of process.rlimits) {
    m.group(TAG.processRlimit, (g) =>
      g
        .number(TAG.rlimitResource, limit.resource)
        .number(TAG.rlimitSoft, limit.soft)
        .number(TAG.rlimitHard, limit.hard),
    )
  }
  if (process.seccomp) {
    m.bytes(TAG.processSeccompProgram, process.seccomp.program)
    m.number(TAG.processSeccompFlags, process.seccomp.flags)
  }
  if (process.oomScoreAdj !== undefined) m.number(TAG.processOomScoreAdj, process.oomScoreAdj)
  if (process.apparmor !== undefined) m.text(TAG.processApparmor, process.apparmor)
  if (process.selinux !== undefined) m.text(TAG.processSelinux, process.selinux)
  if (process.scheduler) m.bytes(TAG.processScheduler, process.scheduler)
  if (process.ioPriority !== undefined) m.number(TAG.processIoPriority, process.ioPriority)
  if (process.personality !== undefined) m.number(TAG.processPersonality, process.personality)
  if (process.memoryPolicy) {
    m.number(TAG.processMemoryPolicy, process.memoryPolicy.mode)
    m.bytes(TAG.processMemoryNodes, process.memoryPolicy.nodes)
  }
  if (process.initialCpus) m.bytes(TAG.processInitialCpus, process.initialCpus)
  if (process.finalCpus) m.bytes(TAG.processFinalCpus, process.finalCpus)
  return m.flag(TAG.processKeepKeyring, process.keepKeyring).flag(TAG.processInRoot, process.inRoot)
}

/** uid_map and gid_map of a user namespace, as a message. */
export function mappings(m: Message, ids: IdMappings): Message {
  for (const map of ids.uids) m.group(TAG.idUid, (g) => range(g, map))
  for (const map of ids.gids) m.group(TAG.idGid, (g) => range(g, map))
  return m
}

function range(m: Message, map: IdMap): Message {
  return m
    .number(TAG.idInside, map.inside)
    .number(TAG.idOutside, map.outside)
    .number(TAG.idSize, map.size)
}

function root(m: Message, plan: RootPlan): Message {
  if (plan.kind === 'directory') return m.text(TAG.rootDirectory, plan.path)
  m.flag(TAG.rootOverlay, true).texts(TAG.rootLower, plan.lower)
  if (plan.upper !== undefined) m.text(TAG.rootUpper, plan.upper)
  if (plan.work !== undefined) m.text(TAG.rootWork, plan.work)
  return m.texts(TAG.rootOption, plan.options)
}

function mountFields(m: Message, mount: MountPlan): Message {
  m.number(TAG.mountKind, MOUNT_KIND[mount.kind])
  m.text(TAG.mountSource, mount.source).text(TAG.mountTarget, mount.target)
  if (mount.sourceNamespace !== undefined) {
    m.text(TAG.mountSourceNamespace, mount.sourceNamespace)
  }
  if (mount.lower !== undefined) m.texts(TAG.mountLower, mount.lower)
  m.text(TAG.mountType, mount.type).texts(TAG.mountOption, mount.options)
  m.number(TAG.mountSetAttributes, mount.setAttributes)
  m.number(TAG.mountClearAttributes, mount.clearAttributes)
  m.number(TAG.mountSetAttributesRecursive, mount.setAttributesRecursive)
  m.number(TAG.mountClearAttributesRecursive, mount.clearAttributesRecursive)
  m.number(TAG.mountPropagation, mount.propagation)
  m.flag(TAG.mountRecursive, mount.recursive)
  const { idmap } = mount
  if (idmap === 'container') m.flag(TAG.mountIdmapContainer, true)
  else if (idmap !== undefined) m.group(TAG.mountIdmap, (g) => mappings(g, idmap))
  return m.flag(TAG.mountCopyUp, mount.copyUp).flag(TAG.mountOptional, mount.optional)
}

function deviceFields(m: Message, device: DevicePlan): Message {
  return m
    .text(TAG.deviceTarget, device.target)
    .number(TAG.deviceType, device.type.charCodeAt(0))
    .number(TAG.deviceMajor, device.major)
    .number(TAG.deviceMinor, device.minor)
    .number(TAG.deviceMode, device.mode)
    .number(TAG.deviceUid, device.uid)
    .number(TAG.deviceGid, device.gid)
}
