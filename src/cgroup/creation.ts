import { mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { readFileIfAny } from '../base/file.ts'
import { writeFileOnce } from './file.ts'
import { type CgroupHost, words } from './host.ts'

/** Controllers that a container gets where the host has them, asked or not: for its limits, its statistics and its OOM events. */
const CONTROLLERS = ['cpu', 'cpuset', 'io', 'memory', 'pids', 'hugetlb', 'rdma', 'misc']

/** A parent that others remove while it is being made is made again this often. */
const CREATE_ATTEMPTS_MAX = 50

/** Makes all groups of the path, the last of them new. Others may make or remove the same parents at any moment. */
export function makeDirectory(host: CgroupHost, path: string, needed: readonly string[]): void {
  const directory = join(host.root, path)
  for (let attempt = 1; ; attempt++) {
    try {
      mkdirSync(dirname(directory), { recursive: true })
      enableControllers(host, dirname(path), needed)
      mkdirSync(directory)
      return
    } catch (error) {
      if (isErrno(error, 'EEXIST')) {
        throw new Fault('ALREADY_EXISTS', `there is a cgroup ${directory} already`, {
          cause: error,
        })
      }
      // ENODEV: a file of a group that was removed between open and write.
      if (isErrno(error, 'ENOENT', 'ENODEV') && attempt < CREATE_ATTEMPTS_MAX) continue
      throw error
    }
  }
}

/** Switches controllers on in every group from the root down to `parent`, for the groups below it. */
function enableControllers(host: CgroupHost, parent: string, needed: readonly string[]): void {
  let directory = host.root
  for (const part of ['', ...parent.split('/').filter((name) => name !== '')]) {
    directory = join(directory, part)
    const file = join(directory, 'cgroup.subtree_control')
    const on = words(readFileSync(file, 'utf8'))
    const has = words(readFileSync(join(directory, 'cgroup.controllers'), 'utf8'))
    const missing = CONTROLLERS.filter((name) => has.includes(name) && !on.includes(name))
    if (missing.length === 0) continue
    if (isInhabited(directory)) {
      const wanted = missing.find((name) => needed.includes(name))
      if (wanted === undefined) continue
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot switch the controller "${wanted}" on in ${directory}: processes live in that group itself`,
      )
    }
    try {
      writeFileOnce(file, missing.map((name) => `+${name}`).join(' '))
    } catch {
      // One that cannot be had spoils them all: one by one.
      for (const name of missing) enableController(file, name, needed.includes(name))
    }
  }
}

function enableController(file: string, name: string, isNeeded: boolean): void {
  try {
    writeFileOnce(file, `+${name}`)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) throw error
    if (!isNeeded) return
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot switch the controller "${name}" on in ${dirname(file)}`,
      { cause: error },
    )
  }
}

/**
 * Whether processes live in the group itself. cgroups(7), "no internal processes": such a group, other than the root, hands no
 * controllers down, and trying it with a threaded one (cpu, pids) would turn it and all below it into threaded groups.
 */
function isInhabited(directory: string): boolean {
  // The root has no type.
  if (readFileIfAny(join(directory, 'cgroup.type')) === undefined) return false
  return readFileSync(join(directory, 'cgroup.procs'), 'utf8') !== ''
}
