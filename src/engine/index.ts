/**
 * Names, images and options into containers, as a docker user knows them. There is no daemon behind it: every function works on the
 * records below `root` and `state` and on the monitors it finds there, and may be called by any number of processes at once.
 * Operations on one container are serialised by its lock; nothing is locked globally.
 *
 * A container is made whole by `createContainer` (its record comes last), started under a monitor of its own by `startContainer`, and its state
 * is derived (status.ts): the living monitor's word, else the exit record, else, where a start is marked, it was lost. Whoever takes a
 * container's lock next cleans up what a killed command or monitor left (recover.ts).
 *
 * Each function loads its own file when it is first called: most of what a short command costs is what it loads.
 */
export { emit, engineEvents } from './events.ts'
export { type Engine, openEngine } from './open.ts'
export type * from './options.ts'
export type * from './types.ts'

/** The function, from a module that is loaded at the first call. */
const lazily =
  <Args extends unknown[], Result>(load: () => Promise<(...args: Args) => Promise<Result>>) =>
  async (...args: Args): Promise<Result> =>
    (await load())(...args)

export const cleanupContainer = lazily(async () => (await import('./cleanup.ts')).cleanupContainer)
export const copyFromContainer = lazily(async () => (await import('./copy.ts')).copyFromContainer)
export const copyToContainer = lazily(async () => (await import('./copy.ts')).copyToContainer)
export const statInContainer = lazily(async () => (await import('./copy.ts')).statInContainer)
export const createContainer = lazily(async () => (await import('./create.ts')).createContainer)
export const diffContainer = lazily(async () => (await import('./diff.ts')).diffContainer)
export const attachContainer = lazily(async () => (await import('./exec.ts')).attachContainer)
export const execContainer = lazily(async () => (await import('./exec.ts')).execContainer)
export const findContainer = lazily(async () => (await import('./find.ts')).findContainer)
export const listContainers = lazily(async () => (await import('./find.ts')).listContainers)
export const removeImage = lazily(async () => (await import('./images.ts')).removeImage)
export const engineInfo = lazily(async () => (await import('./info.ts')).engineInfo)
export const inspectContainer = lazily(async () => (await import('./inspect.ts')).inspectContainer)
export const containerLog = lazily(async () => (await import('./log.ts')).containerLog)
export const pauseContainer = lazily(async () => (await import('./pause.ts')).pauseContainer)
export const unpauseContainer = lazily(async () => (await import('./pause.ts')).unpauseContainer)
export const containerProcesses = lazily(
  async () => (await import('./processes.ts')).containerProcesses,
)
export const pruneEngine = lazily(async () => (await import('./prune.ts')).pruneEngine)
export const removeContainer = lazily(async () => (await import('./remove.ts')).removeContainer)
export const renameContainer = lazily(async () => (await import('./rename.ts')).renameContainer)
export const startContainer = lazily(async () => (await import('./start.ts')).startContainer)
export const containerStats = lazily(async () => (await import('./stats.ts')).containerStats)
export const killContainer = lazily(async () => (await import('./stop.ts')).killContainer)
export const restartContainer = lazily(async () => (await import('./stop.ts')).restartContainer)
export const stopContainer = lazily(async () => (await import('./stop.ts')).stopContainer)
export const waitContainer = lazily(async () => (await import('./stop.ts')).waitContainer)
export const updateContainer = lazily(async () => (await import('./update.ts')).updateContainer)
export const createVolume = lazily(async () => (await import('./volume.ts')).createVolume)
export const listVolumes = lazily(async () => (await import('./volume.ts')).listVolumes)
export const removeVolume = lazily(async () => (await import('./volume.ts')).removeVolume)
