/**
 * OCI resources into a cgroup v2 group, and what the group tells back.
 *
 * `limits.ts` (pure) judges resources and turns them into writes; `devices.ts` turns device rules into a BPF program; `group.ts` makes,
 * updates, freezes, kills and removes groups; `driver.ts` says who makes them and where. A *limit* is enforced or refused by name, a
 * *share* (weights, protections) is left out with a warning where the host lacks the controller. Nothing here touches cgroup v1. Groups
 * belong to whoever made them: a function is given a directory and keeps no state.
 */
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
} from './driver.ts'
export { type MemoryEvents, readMemoryEvents } from './events.ts'
export {
  createGroup,
  DEFAULT_PARENT,
  freezeGroup,
  type Group,
  type GroupRequest,
  groupProcesses,
  isFrozen,
  killGroup,
  removeGroup,
  removeParentIfEmpty,
  thawGroup,
  updateGroup,
  waitEmpty,
} from './group.ts'
export { type CgroupHost, cgroupHost } from './host.ts'
export { type LimitWrite, limitWrites } from './limits.ts'
export {
  type CgroupStats,
  type CpuStats,
  groupStats,
  type IoStats,
  type MemoryStats,
  type Pressure,
} from './stats.ts'
