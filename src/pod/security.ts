import { readFileIfAny } from '../base/file.ts'
import { seccompSection } from '../container/index.ts'
import { capabilities, readProfile } from '../engine/spec.ts'
import { absolute, impossible, invalid, list, show, text, unsupported } from '../plan/check.ts'
import type {
  LinuxContainerSecurityContext,
  LinuxSandboxSecurityContext,
  SecurityProfile,
} from '../spec/cri.ts'
import type { Capabilities, Seccomp } from '../spec/runtime.ts'
import { within } from './check.ts'

const SECURITY = 'linux.security_context'
const CAPABILITIES_MAX = 256
/** A profile's name: the kernel takes a page for all of a label. */
const PROFILE_BYTES_MAX = 1024

/** A container can be privileged only in a pod that is: what else its pod asks for was judged with that in view. */
export function checkPrivileged(
  container: LinuxContainerSecurityContext | null,
  pod: LinuxSandboxSecurityContext | null,
): boolean {
  if (!container?.privileged) return false
  if (!pod?.privileged) throw invalid(`${SECURITY}.privileged`, 'the pod is not privileged')
  return true
}

/**
 * The five sets. Without a word `defaults`; ALL first, then single ones, a drop winning. Nothing is inheritable (CVE-2022-24769) but what is asked for as
 * ambient, which the kernel lets be so only with the other sets. Privileged is all of them, whatever else is said (the CRI's rule).
 */
export function capabilitySets(
  context: LinuxContainerSecurityContext | null,
  defaults: readonly string[],
): Capabilities {
  const { addCapabilities, dropCapabilities, addAmbientCapabilities } = context?.capabilities ?? {
    addCapabilities: [],
    dropCapabilities: [],
    addAmbientCapabilities: [],
  }
  const field = `${SECURITY}.capabilities`
  const add = list(`${field}.add_capabilities`, addCapabilities, CAPABILITIES_MAX)
  const drop = list(`${field}.drop_capabilities`, dropCapabilities, CAPABILITIES_MAX)
  const ambient = list(`${field}.add_ambient_capabilities`, addAmbientCapabilities, 256)
  const chosen = (privileged: boolean, capAdd: readonly string[], capDrop: readonly string[]) =>
    within(field, () =>
      capabilities({ privileged, capAdd: [...capAdd], capDrop: [...capDrop] }, defaults),
    )
  const names = context?.privileged
    ? chosen(true, [], [])
    : chosen(false, [...add, ...ambient], drop)
  const sets: Capabilities = { bounding: names, effective: names, permitted: names }
  if (ambient.length === 0) return sets
  const isAll = ambient.some((name) => /^(CAP_)?ALL$/i.test(name))
  const asked = isAll ? names : chosen(false, ambient, ['ALL'])
  const only = asked.filter((name) => names.includes(name))
  return { ...sets, inheritable: only, ambient: only }
}

/** A deprecated field's text as a profile: `runtime/default`, `unconfined`, `localhost/REF`; undefined for ''. */
function oldProfile(field: string, value: string): SecurityProfile | undefined {
  if (value === '') return undefined
  if (value === 'runtime/default' || value === 'docker/default') {
    return { profileType: 'RuntimeDefault', localhostRef: '' }
  }
  if (value === 'unconfined') return { profileType: 'Unconfined', localhostRef: '' }
  if (value.startsWith('localhost/')) {
    return { profileType: 'Localhost', localhostRef: value.slice('localhost/'.length) }
  }
  throw invalid(field, `${show(value)} is none of runtime/default, unconfined and localhost/…`)
}

/**
 * linux.seccomp for a container with these capabilities; undefined for no filter, which is what a client gets that says nothing (CRI). `defaultProfile` is a
 * file in place of the built-in profile for RuntimeDefault; '' for that one.
 */
export function seccompOf(
  context: LinuxContainerSecurityContext | null,
  bounding: readonly string[],
  defaultProfile: string,
): Seccomp | undefined {
  if (!context || context.privileged) return undefined
  const isNew = context.seccomp !== null
  const field = `${SECURITY}.${isNew ? 'seccomp' : 'seccomp_profile_path'}`
  const profile = context.seccomp ?? oldProfile(field, context.seccompProfilePath)
  if (!profile) return undefined
  switch (profile.profileType) {
    case 'Unconfined':
      return undefined
    case 'RuntimeDefault':
      return within('the default seccomp profile', () =>
        seccompSection(defaultProfile === '' ? undefined : readProfile(defaultProfile), bounding),
      )
    case 'Localhost': {
      const path = absolute(`${field}${isNew ? '.localhost_ref' : ''}`, profile.localhostRef)
      return within(field, () => seccompSection(readProfile(path), bounding))
    }
    default:
      throw unsupported(field, `there is no type ${show(profile.profileType)}`)
  }
}

export interface LabelFacts {
  readonly apparmor: boolean
  readonly selinux: boolean
}

/** Names of loaded profiles, one a line with its mode; readable by root only. */
const APPARMOR_PROFILES = '/sys/kernel/security/apparmor/profiles'

/**
 * The AppArmor profile of a container's program; undefined for none. berth has no default profile of its own, and a kernel without AppArmor confines nothing: that
 * is told. A profile of the node's that cannot be applied is refused.
 */
export function apparmorOf(
  context: LinuxContainerSecurityContext | null,
  facts: LabelFacts,
  warn: (message: string) => void,
): string | undefined {
  if (!context || context.privileged) return undefined
  const field = `${SECURITY}.${context.apparmor ? 'apparmor' : 'apparmor_profile'}`
  const profile = context.apparmor ?? oldProfile(field, context.apparmorProfile)
  if (!profile) return undefined
  switch (profile.profileType) {
    case 'Unconfined':
      return undefined
    case 'RuntimeDefault':
      warn(
        facts.apparmor
          ? `${field}: RuntimeDefault applies nothing: berth has no AppArmor profile of its own`
          : `${field}: RuntimeDefault applies nothing: this host has not enabled AppArmor`,
      )
      return undefined
    case 'Localhost': {
      const name = text(field, profile.localhostRef, PROFILE_BYTES_MAX).replace(/^localhost\//, '')
      if (name === '' || /[\r\n]/.test(name)) throw invalid(field, `${show(name)} is no profile`)
      if (!facts.apparmor) {
        throw impossible(field, `${show(name)} needs AppArmor, which this host has not enabled`)
      }
      checkLoaded(field, name)
      return name
    }
    default:
      throw unsupported(field, `there is no type ${show(profile.profileType)}`)
  }
}

function checkLoaded(field: string, name: string): void {
  const loaded = readFileIfAny(APPARMOR_PROFILES)
  // Where securityfs is not mounted the kernel answers at the start.
  if (loaded === undefined) return
  if (!loaded.split('\n').some((line) => line.replace(/ \([a-z]+\)$/, '') === name)) {
    throw impossible(field, `the profile ${show(name)} is not loaded`)
  }
}

/** berth gives no SELinux labels: where the kernel would enforce them they are refused, where it has no SELinux nothing is missed. */
export function checkSelinux(
  context: Pick<LinuxContainerSecurityContext, 'selinuxOptions' | 'privileged'> | null,
  facts: LabelFacts,
  warn: (message: string) => void,
): void {
  const options = context?.selinuxOptions
  if (!options || context.privileged) return
  if (!options.user && !options.role && !options.type && !options.level) return
  const field = `${SECURITY}.selinux_options`
  if (facts.selinux) throw unsupported(field, 'berth labels no processes and files yet')
  warn(`${field} has no effect: this host has not enabled SELinux`)
}
