import { mkdtempSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import * as assert from 'uvu/assert'
import { DEFAULT_PARENT } from '../../src/cgroup/index.ts'
import { eventually } from './eventually.ts'
import { cgroupRoot } from './needs.ts'

/**
 * What a test can leave behind on the machine, each thing one line. With `roots` (the private directories of a test's berth), processes and
 * populated cgroups that have nothing to do with these directories belong to someone else and are not looked at.
 */
export function machineTraces(roots: readonly string[] = []): string[] {
  const found = [
    ...lines('/proc/self/mountinfo')
      .filter((line) => roots.length === 0 || !isOthers(line, roots))
      .map((line) => `mount ${line.split(' ').slice(3, 6).join(' ')}`),
    ...cgroups(cgroupRoot(), roots),
    ...names('/run/netns').map((name) => `network namespace ${name}`),
    ...names('/sys/class/net').map((name) => `interface ${name}`),
    ...processes(roots),
    ...ownFds(),
  ]
  if (roots.length === 0) {
    found.push(...['/run/berth', '/var/lib/berth'].flatMap((path) => tree(path, 3)))
  }
  return found.sort()
}

/**
 * Remembers the machine as it is; the returned function fails unless it is the same again within `withinMs`. Use it as a file's last claim:
 * `test('nothing is left behind', clean)`.
 */
export function traces(options: { roots?: string[]; withinMs?: number } = {}): () => Promise<void> {
  const before = machineTraces(options.roots)
  return async () => {
    const more: string[] = []
    const fewer: string[] = []
    try {
      await eventually(
        'the machine is as it was',
        () => {
          more.splice(0, more.length, ...minus(machineTraces(options.roots), before))
          fewer.splice(0, fewer.length, ...minus(before, machineTraces(options.roots)))
          // Something of the machine's own that ended meanwhile is no trace, but a mount of it is.
          return more.length === 0 && !fewer.some((line) => /^(mount|interface|network)/.test(line))
        },
        { withinMs: options.withinMs ?? 5000, everyMs: 20 },
      )
    } catch {
      assert.unreachable(
        [
          'left behind:',
          ...more.map((l) => `+ ${l}${ownerOf(l)}`),
          ...fewer.map((l) => `- ${l}`),
        ].join('\n'),
      )
    }
  }
}

/**
 * A directory for what a test makes, below the one for temporary files or `base`, named after the test's file: whatever a file that crashed has left can be
 * told apart by it.
 */
export function testDirectory(base = tmpdir()): string {
  return mkdtempSync(join(base, `berth-${basename(process.argv[1] ?? 'test').split('.')[0]}-`))
}

const TEST_DIRECTORY = /\/(berth-[a-z0-9-]+-[A-Za-z0-9]{6})\//

/** Whose a trace is, for the reader: ` of berth-life-Xy12ab`. */
function ownerOf(trace: string): string {
  const [kind, what = ''] = trace.split(' ')
  const pids =
    kind === 'process' ? [what] : kind === 'cgroup' ? lines(join(what, 'cgroup.procs')) : []
  const owner = pids.map(directoryOf).find(Boolean) ?? directoryWith(basename(what))
  return owner === undefined ? '' : ` of ${owner}`
}

/** The test directory that a process has something to do with. */
function directoryOf(pid: string): string | undefined {
  const at = `/proc/${pid}`
  const places = [
    readText(`${at}/cmdline`),
    ...names(`${at}/fd`).map((fd) => link(`${at}/fd/${fd}`)),
    readText(`${at}/mountinfo`),
  ]
  return TEST_DIRECTORY.exec(places.join('\n'))?.[1]
}

/** The test directory in which a container or pod of that id is. */
function directoryWith(id: string): string | undefined {
  const holds = (directory: string): boolean =>
    names(directory).includes(id) ||
    names(directory).some((pod) => names(join(directory, pod, 'containers')).includes(id))
  return names(tmpdir()).find((name) =>
    ['root/containers', 'root/pods'].some((below) => holds(join(tmpdir(), name, below))),
  )
}

/** The pids, other than this one, that have something to do with one of the directories. */
export function processesOf(roots: readonly string[]): number[] {
  return names('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => belongs(pid, roots))
}

function processes(roots: readonly string[]): string[] {
  if (roots.length > 0) {
    return processesOf(roots).map((pid) => `process ${pid} ${lines(`/proc/${pid}/comm`)[0] ?? ''}`)
  }
  return names('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const comm = lines(`/proc/${pid}/comm`)[0] ?? ''
      return comm.startsWith('berth') ? [`process ${pid} ${comm}`] : []
    })
}

/** By its mounts (a container's overlay names its layers), its open files (a monitor's lock), its arguments or its directory. */
function belongs(pid: number, roots: readonly string[]): boolean {
  const says = (text: string) => roots.some((root) => text.includes(root))
  const at = `/proc/${pid}`
  if (says(readText(`${at}/cmdline`)) || says(link(`${at}/cwd`))) return true
  if (names(`${at}/fd`).some((fd) => says(link(`${at}/fd/${fd}`)))) return true
  // A mount that a test has left in the host's own mount namespace is in everybody's list.
  return link(`${at}/ns/mnt`) !== link('/proc/self/ns/mnt') && says(readText(`${at}/mountinfo`))
}

function cgroups(directory: string, roots: readonly string[]): string[] {
  const found: string[] = []
  for (const name of names(directory)) {
    const path = join(directory, name)
    if (!isDirectory(path)) continue
    const pids = lines(join(path, 'cgroup.procs')).map(Number)
    const foreign = roots.length > 0 && pids.length > 0 && !pids.some((p) => belongs(p, roots))
    const below = cgroups(path, roots)
    // Every berth makes it, and whoever finds it empty removes it: none of the files that run side by side can tell whose it is. The runner looks
    // at it when all of them have ended.
    const isShared = roots.length > 0 && name === SHARED_PARENT
    // A group that only holds other people's groups is theirs too, and an empty one without a name of berth's is nobody's.
    const holdsForeign =
      roots.length > 0 &&
      pids.length === 0 &&
      (hasForeign(path, roots) || !OWN_GROUP.test(name) || isOfOthers(name, roots))
    if (!foreign && !holdsForeign && !isShared) found.push(`cgroup ${path}`)
    found.push(...below)
  }
  return found
}

/** Before its first process and after its last a group tells nothing but a container's or pod's name. */
function isOfOthers(id: string, roots: readonly string[]): boolean {
  const owner = directoryWith(id)
  return owner !== undefined && !roots.some((root) => root.includes(owner))
}

/** A mount below the directory for temporary files that names none of ours: of a test that runs beside. */
function isOthers(line: string, roots: readonly string[]): boolean {
  const at = line.split(' ')[4] ?? ''
  return at.startsWith(`${tmpdir()}/`) && !roots.some((root) => line.includes(root))
}

/** Named by a path from the hierarchy's root, without the slash. */
const SHARED_PARENT = DEFAULT_PARENT.slice(1)

/** What is called after a container or pod. */
const OWN_GROUP = /^[0-9a-f]{64}$/

/** Whether berth's parent of groups is there though nothing is in it. */
export function isSharedParentLeft(): boolean {
  const path = join(cgroupRoot(), SHARED_PARENT)
  return exists(path) && !names(path).some((name) => isDirectory(join(path, name)))
}

function hasForeign(directory: string, roots: readonly string[]): boolean {
  return names(directory).some((name) => {
    const path = join(directory, name)
    if (!isDirectory(path)) return false
    const pids = lines(join(path, 'cgroup.procs')).map(Number)
    const isForeign =
      pids.length > 0 ? !pids.some((p) => belongs(p, roots)) : isOfOthers(name, roots)
    return isForeign || hasForeign(path, roots)
  })
}

/** Files by their path; sockets, pipes and the like by their kind, since their numbers differ each time. */
function ownFds(): string[] {
  return names('/proc/self/fd').flatMap((fd) => {
    const to = link(`/proc/self/fd/${fd}`)
    // Node opens and closes epoll, eventfd and io_uring fds as it likes; the directory that is being read is not ours.
    if (to === '' || to.startsWith('anon_inode:') || to.startsWith('/proc/')) return []
    // libuv's spare, opened with the first stream and kept.
    if (to === '/dev/null') return []
    return [`open fd of the test ${to.replace(/:\[\d+\]$/, '')}`]
  })
}

function tree(path: string, depth: number): string[] {
  if (!exists(path)) return []
  const below = depth > 0 ? names(path).flatMap((name) => tree(join(path, name), depth - 1)) : []
  return [`file ${path}`, ...below]
}

function minus(left: readonly string[], right: readonly string[]): string[] {
  const rest = [...right]
  return left.filter((line) => {
    const at = rest.indexOf(line)
    if (at >= 0) rest.splice(at, 1)
    return at < 0
  })
}

// Whatever is read here may be gone the moment after: that is the same as not being there.

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function lines(path: string): string[] {
  return readText(path)
    .split('\n')
    .filter((line) => line !== '')
}

function names(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}
