import { CAPABILITIES, RLIM_INFINITY, RLIMITS } from '../spec/linux.ts'
import type { CapabilitiesPlan, RlimitPlan } from '../spec/plan.ts'
import type { Capabilities, Process, Rlimit } from '../spec/runtime.ts'
import { ID_MAX, impossible, integer, invalid, list, show, unfit } from './check.ts'
import type { HostFacts } from './facts.ts'

/** NGROUPS_MAX of the kernel. */
const GROUPS_MAX = 65536
const CAP_SYS_RESOURCE = 1n << BigInt(CAPABILITIES.indexOf('CAP_SYS_RESOURCE'))
const NUMBERS: ReadonlyMap<string, number> = new Map(CAPABILITIES.map((name, i) => [name, i]))

/** Whether we may raise limits: asked of the host's own user namespace, whichever the container has. */
export function mayRaise(facts: Pick<HostFacts, 'capabilities'>): boolean {
  return (facts.capabilities & CAP_SYS_RESOURCE) !== 0n
}

/**
 * The five sets as masks. Unknown names are refused; what cannot be granted is left out with a warning (runtime-spec, "Linux Process": a runtime SHOULD NOT
 * fail for it). `inUserNamespace`: a process in another user namespace than ours has all capabilities there.
 */
export function planCapabilities(
  given: Capabilities | undefined,
  facts: Pick<HostFacts, 'capabilities' | 'lastCapability'>,
  inUserNamespace: boolean,
  warn: (text: string) => void,
): CapabilitiesPlan {
  const all = (1n << BigInt(facts.lastCapability + 1)) - 1n
  const grantable = inUserNamespace ? all : facts.capabilities & all
  const set = (name: keyof Capabilities): bigint =>
    capabilityMask(`process.capabilities.${name}`, given?.[name])
  const missing = new Set<number>()
  const granted = (mask: bigint, within: bigint): bigint => {
    for (const bit of bits(mask & ~within)) missing.add(bit)
    return mask & within
  }
  const bounding = granted(set('bounding'), grantable)
  const permitted = granted(set('permitted'), grantable)
  // capset(2) and PR_CAP_AMBIENT_RAISE refuse a process that asks for more than these.
  const effective = granted(set('effective'), permitted)
  const inheritable = granted(set('inheritable'), bounding | permitted)
  const ambient = granted(set('ambient'), permitted & inheritable)
  if (missing.size > 0) {
    const names = [...missing].sort((a, b) => a - b).map((bit) => CAPABILITIES[bit] ?? String(bit))
    warn(`process.capabilities: ${names.join(', ')} cannot be granted in every set asked for`)
  }
  return { bounding, permitted, effective, inheritable, ambient }
}

/** The mask of names with or without `CAP_`, in any case of letters. */
export function capabilityMask(field: string, names: readonly string[] | undefined): bigint {
  let mask = 0n
  for (const name of list(field, names, 256)) {
    const upper = String(name).toUpperCase()
    const number = NUMBERS.get(upper) ?? NUMBERS.get(`CAP_${upper}`)
    if (number === undefined) throw invalid(field, `there is no capability ${show(name)}`)
    mask |= 1n << BigInt(number)
  }
  return mask
}

function bits(mask: bigint): number[] {
  return CAPABILITIES.flatMap((_, i) => ((mask >> BigInt(i)) & 1n ? [i] : []))
}

export function planUser(process: Process): {
  uid: number
  gid: number
  groups: number[]
  umask: number
} {
  // The specification knows `username` for Windows only; who uses it here has looked it up already.
  const { uid = 0, gid = 0, umask = 0o022, additionalGids } = process.user ?? {}
  return {
    uid: integer('process.user.uid', uid, 0, ID_MAX),
    gid: integer('process.user.gid', gid, 0, ID_MAX),
    groups: list('process.user.additionalGids', additionalGids, GROUPS_MAX).map((group, i) =>
      integer(`process.user.additionalGids[${i}]`, group, 0, ID_MAX),
    ),
    umask: integer('process.user.umask', umask, 0, 0o777),
  }
}

/** runtime-spec: an entry given twice is an error. A hard limit that we could not set is refused here, by name. */
export function planRlimits(
  rlimits: readonly Rlimit[] | undefined,
  facts: Pick<HostFacts, 'capabilities' | 'hardLimits'>,
): RlimitPlan[] {
  const plans: RlimitPlan[] = []
  for (const [i, rlimit] of list('process.rlimits', rlimits, 64).entries()) {
    const field = `process.rlimits[${i}]`
    const { type } = rlimit
    if (!Object.hasOwn(RLIMITS, type)) throw unfit(`${field}.type`, type, 'is no limit')
    const resource = RLIMITS[type as keyof typeof RLIMITS]
    if (plans.some((plan) => plan.resource === resource))
      throw invalid(field, `${type} is given twice`)
    const soft = limitValue(`${field}.soft`, rlimit.soft)
    const hard = limitValue(`${field}.hard`, rlimit.hard)
    if (soft > hard) throw invalid(field, `the soft limit of ${type} is above the hard one`)
    const own = facts.hardLimits.get(resource)
    if (own !== undefined && hard > own && !mayRaise(facts)) {
      throw impossible(
        field,
        `${type} of ${hard} is above this host's hard limit of ${own}, and berth lacks CAP_SYS_RESOURCE to raise it`,
      )
    }
    plans.push({ resource, soft, hard })
  }
  return plans
}

/** Unsigned 64 bits; JSON's doubles round the largest ones up, and -1 is what people write for no limit. */
function limitValue(field: string, value: unknown): bigint {
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value))) {
    const whole = BigInt(value)
    if (whole === -1n || whole >= RLIM_INFINITY) return RLIM_INFINITY
    if (whole >= 0n) return whole
  }
  throw unfit(field, value, 'is no limit')
}
