/**
 * An OCI configuration with a root into a process under a monitor: the OCI runtime of berth, without names, images or networks.
 *
 * `createProcess` judges (plan/), limits (cgroup/) and has a monitor (monitor.ts) make the first process, which waits before its program until
 * `Monitor.start`. The monitor outlives the caller; `connectMonitor` finds it again by its directory. What is alive is asked of the monitor, what
 * has ended is in the exit record.
 */
export {
  type Created,
  type CreateRequest,
  createProcess,
  destroyCgroup,
  judgeProcess,
} from './create.ts'
export { freezeCgroup, thawCgroup, updateCgroup } from './limits.ts'
export { connectMonitor, isMonitorAlive, Monitor, startMonitor } from './monitor.ts'
export { compiledSeccomp, seccompSection } from './seccomp.ts'
