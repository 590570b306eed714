/**
 * Names, images and options into containers, as a docker user knows them. There is no daemon behind it: every function works on the
 * records below `root` and `state` and on the monitors it finds there, and may be called by any number of processes at once.
 * Operations on one container are serialised by its lock; nothing is locked globally.
 *
 * A container is made whole by `createContainer` (its record comes last), started under a monitor of its own by `startContainer`, and its state
 * is derived (status.ts): the living monitor's word, else the exit record, else, where a start is marked, it was lost. Whoever takes a
 * container's lock next, or looks at a lost container, cleans up what a killed command or monitor left (recover.ts).
 *
 * A command of the command line imports the file it calls, not this one: most of what a short command costs is what it loads.
 */
export { cleanupContainer } from './cleanup.ts'
export { copyFromContainer, copyToContainer, statInContainer } from './copy.ts'
export { createContainer } from './create.ts'
export { diffContainer } from './diff.ts'
export { emit, engineEvents } from './events.ts'
export { attachContainer, execContainer } from './exec.ts'
export { findContainer, listContainers } from './find.ts'
export { removeImage } from './images.ts'
export { engineInfo } from './info.ts'
export { inspectContainer } from './inspect.ts'
export { containerLog } from './log.ts'
export { type Engine, openEngine } from './open.ts'
export type * from './options.ts'
export { pauseContainer, unpauseContainer } from './pause.ts'
export { containerProcesses } from './processes.ts'
export { pruneEngine } from './prune.ts'
export { removeContainer } from './remove.ts'
export { renameContainer } from './rename.ts'
export { startContainer } from './start.ts'
export { containerStats } from './stats.ts'
export { killContainer, restartContainer, stopContainer, waitContainer } from './stop.ts'
export type * from './types.ts'
export { updateContainer } from './update.ts'
export { createVolume, listVolumes, removeVolume } from './volume.ts'
