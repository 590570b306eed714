/**
 * OCI resources into a cgroup v2 group, and what the group tells back.
 *
 * `limits.ts` (pure) judges resources and turns them into writes; `devices.ts` turns device rules into a BPF program; `group.ts` makes
 * and updates groups, `control.ts` freezes and kills, `removal.ts` removes; `driver.ts` says who makes them and where. A *limit* is enforced or refused by name, a
 * *share* (weights, protections) is left out with a warning where the host lacks the controller. Nothing here touches cgroup v1. Groups
 * belong to whoever made them: a function is given a directory and keeps no state.
 */

export {
  freezeGroup,
  groupProcesses,
  isFrozen,
  killGroup,
  thawGroup,
  waitEmpty,
} from './control.ts'
export {
  allowsAllDevices,
  applyDeviceRules,
  DEFAULT_DEVICE_RULES,
  deviceProgram,
} from './devices.ts'
export {
  type CgroupDriver,
  cgroupDriver,
  type DriverName,
  type GroupPlace,
  groupPlace,
  sliceOf,
} from './driver.ts'
export { type MemoryEvents, readMemoryEvents } from './events.ts'
export {
  createGroup,
  DEFAULT_PARENT,
  type Group,
  type GroupRequest,
  type MissingController,
  notInForce,
  requireControllers,
  updateGroup,
} from './group.ts'
export { type CgroupHost, cgroupHost } from './host.ts'
export { type LimitWrite, limitWrites } from './limits.ts'
export { checkPath } from './path.ts'
export { removeGroup, removeParentIfEmpty } from './removal.ts'
export {
  holdScope,
  isPassing,
  leaveScopeRoot,
  requireSystemd,
  type ScopeRequest,
  scopeCommand,
  scopeDirectory,
} from './scope.ts'
export {
  type CgroupStats,
  type CpuStats,
  groupStats,
  type IoStats,
  type MemoryStats,
  type Pressure,
} from './stats.ts'
