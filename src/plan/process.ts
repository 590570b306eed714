import type { ProcessPlan, SeccompPlan } from '../spec/plan.ts'
import type { Process, Spec } from '../spec/runtime.ts'
import {
  ARGUMENT_BYTES_MAX,
  absolute,
  impossible,
  integer,
  invalid,
  list,
  show,
  text,
} from './check.ts'
import type { HostFacts } from './facts.ts'
import { mayRaise, planCapabilities, planRlimits, planUser } from './identity.ts'
import { planAffinity, planScheduling } from './scheduling.ts'

/** Arguments and variables; the kernel bounds their bytes, this our work with them. */
const ARGUMENTS_MAX = 32768
/** Labels are one xattr or one line of /proc/self/attr. */
const LABEL_BYTES_MAX = 4096

export interface ProcessPlace {
  /** linux.seccomp, compiled: seccomp/ is plan's sibling, so the caller has both. */
  readonly seccomp?: SeccompPlan | undefined
  /** Makes a missing cwd (docker's and kubelet's habit); an OCI runtime does not. */
  readonly createCwd?: boolean | undefined
  /** Stays in the caller's session keyring. */
  readonly keepKeyring?: boolean | undefined
  /** Labels of a security module that this host has not enabled are left out with a warning: whoever wrote the configuration knows the host. */
  readonly labelsWhereEnabled?: boolean | undefined
  readonly warn?: ((text: string) => void) | undefined
  /** No first process: `exec`. */
  readonly isFurther?: boolean
}

/** A process of a container: its first, or a further one with the container's configuration as `spec`. */
export function planProcess(
  process: Process,
  spec: Spec,
  facts: HostFacts,
  place: ProcessPlace = {},
): ProcessPlan {
  const warn = place.warn ?? (() => undefined)
  const args = list('process.args', process.args, ARGUMENTS_MAX)
  if (args.length === 0) throw invalid('process.args', 'names no program')
  if (args[0] === '') throw invalid('process.args', 'the name of the program is empty')
  const inUserNamespace = (spec.linux?.namespaces ?? []).some((ns) => ns.type === 'user')
  const { oomScoreAdj, consoleSize } = process
  if (spec.linux?.seccomp && !place.seccomp) {
    // Better no container than one without its filter.
    throw new TypeError('linux.seccomp is given and was not compiled')
  }
  return {
    args: args.map((arg, i) => text(`process.args[${i}]`, arg, ARGUMENT_BYTES_MAX)),
    env: environment(process.env),
    cwd: absolute('process.cwd', process.cwd),
    createCwd: place.createCwd ?? false,
    ...planUser(process),
    terminal: process.terminal ?? false,
    rows: integer('process.consoleSize.height', consoleSize?.height ?? 0, 0, 0xffff),
    columns: integer('process.consoleSize.width', consoleSize?.width ?? 0, 0, 0xffff),
    capabilities: planCapabilities(process.capabilities, facts, inUserNamespace, warn),
    noNewPrivileges: process.noNewPrivileges ?? false,
    rlimits: planRlimits(process.rlimits, facts),
    ...(place.seccomp ? { seccomp: place.seccomp } : {}),
    ...(oomScoreAdj === undefined ? {} : { oomScoreAdj: checkOomScore(oomScoreAdj, facts) }),
    ...labels(process, facts, place.labelsWhereEnabled ? warn : undefined),
    ...planScheduling(process, spec.linux),
    ...planAffinity(process.execCPUAffinity, place.isFurther ?? false),
    ...(place.keepKeyring ? { keepKeyring: true } : {}),
  }
}

/** Of a name given twice the last value holds; getenv(3) would find the first. */
function environment(env: readonly string[] | undefined): string[] {
  const values = new Map<string, string>()
  for (const [i, value] of list('process.env', env, ARGUMENTS_MAX).entries()) {
    const field = `process.env[${i}]`
    const entry = text(field, value, ARGUMENT_BYTES_MAX)
    const at = entry.indexOf('=')
    if (at <= 0) throw invalid(field, `${show(entry)} is not of the form NAME=VALUE`)
    values.set(entry.slice(0, at), entry)
  }
  return [...values.values()]
}

function checkOomScore(value: number, facts: HostFacts): number {
  integer('process.oomScoreAdj', value, -1000, 1000)
  // The kernel's bound is the lowest that a privileged process has set, mostly 0, and cannot be read: a shim raises its own score above it.
  if (value < Math.min(facts.oomScoreAdj, 0) && !mayRaise(facts)) {
    throw impossible(
      'process.oomScoreAdj',
      `${value} is below berth's own ${facts.oomScoreAdj}, and berth lacks CAP_SYS_RESOURCE to lower it`,
    )
  }
  return value
}

function labels(
  process: Process,
  facts: HostFacts,
  leaveOut: ((text: string) => void) | undefined,
): { apparmor?: string; selinux?: string } {
  const profile = text('process.apparmorProfile', process.apparmorProfile ?? '', LABEL_BYTES_MAX)
  const selinux = text('process.selinuxLabel', process.selinuxLabel ?? '', LABEL_BYTES_MAX)
  // Without AppArmor everything is unconfined already.
  const apparmor = profile === 'unconfined' && !facts.apparmor ? '' : profile
  const isTaken = (field: string, label: string, module: string, isEnabled: boolean): boolean => {
    if (label === '' || isEnabled) return label !== ''
    const reason = `${show(label)} needs ${module}, which this host has not enabled`
    if (!leaveOut) throw impossible(field, reason)
    leaveOut(`${field}: ${reason}`)
    return false
  }
  return {
    ...(isTaken('process.apparmorProfile', apparmor, 'AppArmor', facts.apparmor)
      ? { apparmor }
      : {}),
    ...(isTaken('process.selinuxLabel', selinux, 'SELinux', facts.selinux) ? { selinux } : {}),
  }
}
