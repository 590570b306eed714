import { constants, existsSync, mkdirSync } from 'node:fs'
import { isErrno } from '../base/fault.ts'
import { preparedPath } from '../base/file.ts'
import { binding } from '../kernel/binding.ts'
import type { PodPaths } from './paths.ts'

const { S_IFDIR, S_IFREG } = constants

/**
 * Makes what a pod and its first container need on the disk: directories, and files for their records. A file system may look through all that was removed
 * lately before it gives a number to something new, which makes this half of a start's work there.
 */
export function prepareFiles(at: PodPaths, pod: string, container: string): Promise<void> {
  const files = [at.config, at.record, at.ahead].map((path) => path(pod, container))
  const nodes: readonly Node[] = [
    ...podDirectories(at, pod),
    ...containerDirectories(at, pod, container),
    ...[at.making(pod), ...files].map((path): Node => [preparedPath(path), S_IFREG | 0o600]),
  ]
  return binding.makeNodes(
    nodes.map(([path]) => path),
    nodes.map(([, mode]) => mode),
  )
}

/** Those that are not there already. */
export function makePodDirectories(at: PodPaths, pod: string): void {
  for (const node of podDirectories(at, pod)) makeDirectory(node)
}

/** Those that are not there already. */
export function makeContainerDirectories(at: PodPaths, pod: string, container: string): void {
  for (const node of containerDirectories(at, pod, container)) makeDirectory(node)
}

/** A path, and mode with type. */
type Node = readonly [string, number]

function podDirectories(at: PodPaths, pod: string): Node[] {
  return [at.pod(pod), at.containers(pod)].map((path) => [path, S_IFDIR | 0o700])
}

function containerDirectories(at: PodPaths, pod: string, container: string): Node[] {
  return [
    [at.container(pod, container), S_IFDIR | 0o700],
    [at.upper(pod, container), S_IFDIR | 0o777],
    [at.work(pod, container), S_IFDIR | 0o777],
  ]
}

function makeDirectory([path, mode]: Node): void {
  // Most often it is: an exception costs as much as twenty of these.
  if (existsSync(path)) return
  try {
    mkdirSync(path, mode & ~S_IFDIR)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}
