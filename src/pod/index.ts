/**
 * Sandboxes and containers of a node: what the CRI means, without its wire.
 *
 * `Node` is the state: an index over the records on the disk (types.ts) and over what the pods' monitors say. A file a verb works on it: run-pod.ts,
 * stop-pod.ts, create-container.ts … Whatever changes a pod or container takes its turn; creations of one name are joined. `recoverNode` makes the index
 * anew when a daemon starts: killed at any moment, the next one finds everything as it is.
 */
export { attachContainer } from './attach.ts'
export { createContainer } from './create-container.ts'
export type { PodEvent } from './events.ts'
export { execContainer, execSync, mustRun } from './exec.ts'
export { specOf } from './first-process.ts'
export { isMemoryWatched, watchMemory } from './memory-watch.ts'
export type { Container, Pod } from './model.ts'
export { Node, type NodeSettings } from './node.ts'
export { recoverNode } from './recover.ts'
export { removeContainer, removePod } from './remove.ts'
export { reopenLog } from './reopen-log.ts'
export { DEFAULT_HANDLER, runPod } from './run-pod.ts'
export { startContainer } from './start-container.ts'
export { stopContainer } from './stop-container.ts'
export { stopPod } from './stop-pod.ts'
export type { ContainerRecord, ContainerState, PodRecord } from './types.ts'
export { updateContainer } from './update-container.ts'
