import { mkdirSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { prepareFile } from '../base/file.ts'
import type { PodPaths } from './paths.ts'

/**
 * Makes what a pod and its first container need on the disk: directories, and files for their records. A file system may look through all that was removed
 * lately before it gives a number to something new, which makes this half of a start's work there.
 */
export function prepareFiles(at: PodPaths, pod: string, container: string): void {
  makePodDirectories(at, pod)
  prepareFile(at.making(pod))
  makeContainerDirectories(at, pod, container)
  for (const path of [at.config, at.record, at.run]) prepareFile(path(pod, container))
}

/** Those that are not there already. */
export function makePodDirectories(at: PodPaths, pod: string): void {
  for (const path of [at.pod(pod), at.containers(pod)]) makeDirectory(path, 0o700)
}

/** Those that are not there already. */
export function makeContainerDirectories(at: PodPaths, pod: string, container: string): void {
  makeDirectory(at.container(pod, container), 0o700)
  for (const path of [at.upper, at.work]) makeDirectory(path(pod, container), 0o777)
}

function makeDirectory(path: string, mode: number): void {
  try {
    mkdirSync(path, mode)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}
