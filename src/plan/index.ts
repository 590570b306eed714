/**
 * Turns an OCI configuration, facts about the host and the places the caller has chosen into what the native side is to do.
 *
 * `planContainer` and `planProcess` are pure: same values in, same plan or Fault out, no kernel call. Everything that can be refused
 * is refused here, by the name of its field in config.json, before anything has been made. What the specification lets a runtime
 * leave out (a capability that cannot be granted) is left out with a warning. `hostFacts` alone looks at the machine.
 */
export { type Place, planContainer, planExec } from './container.ts'
export { type HostFacts, hostFacts, namespacesOfHost } from './facts.ts'
export { HOOK_KINDS, type HookKind, planHooks } from './hooks.ts'
export { MOUNT_OPTIONS } from './mounts.ts'
export { type NetDevicePlan, planNetDevices } from './net-devices.ts'
export { type ProcessPlace, planProcess } from './process.ts'
export { MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES } from './scheduling.ts'
