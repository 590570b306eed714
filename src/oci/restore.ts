import { openSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs'
import { Fault, isErrno } from '../base/fault.ts'
import { cgroupHost } from '../cgroup/index.ts'
import { CallerGone } from '../kernel/caller.ts'
import { O_DIRECTORY, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { readFileInside } from '../kernel/inside.ts'
import type { ContainerPlan, MountPlan } from '../spec/plan.ts'
import type { Spec } from '../spec/runtime.ts'
import { type CreateRequest, createContainer, type Making } from './create.ts'
import {
  type CriuOptions,
  cgroupMode,
  commonRequest,
  DESCRIPTORS,
  EXTERNAL_NAMESPACES,
  environmentOf,
  FIRST_FD,
  FIRST_INHERITED_FD,
  findCriu,
  forgetOutput,
  hostMounts,
  joined,
  placeInRoot,
  REQUEST,
  requireMountNamespace,
  withLog,
} from './criu.ts'
import { deleteContainer } from './delete.ts'
import { exitOf, passSignals } from './run.ts'

const LOG = 'restore.log'
/** What CRIU writes in the directory that it works in, besides. */
const STATISTICS = 'stats-restore'
/** CRIU joins these itself; that of a cgroup it cannot. */
const JOINED = { ipc: 'ipc', uts: 'uts', user: 'user', time: 'time', mount: 'mnt' } as const

export interface RestoreOptions extends CriuOptions {
  readonly lsmProfile?: string
  readonly lsmMountContext?: string
  readonly images: string
  readonly work: string | undefined
}

/** Makes a container whose processes are those of a checkpoint's images; in the foreground also the end, whose code it gives, and the removal. */
export async function restoreContainer(
  request: CreateRequest,
  options: RestoreOptions,
): Promise<number> {
  const { caller, root, warn, foreground } = request
  using images = openDirectory('--image-path', options.images)
  using work = options.work === undefined ? undefined : openDirectory('--work-path', options.work)
  const criu = findCriu(caller)
  const output = options.work ?? options.images
  let hasBegun = false
  const making = (spec: Spec, plan: ContainerPlan): Making & Disposable => {
    requireMountNamespace(spec)
    const namespaces = openNamespaces(spec)
    const { words, bytes } = restoreRequest(spec, plan, namespaces, options, {
      images,
      hasWork: work !== undefined,
    })
    forgetOutput(output, LOG, STATISTICS)
    hasBegun = true
    return {
      plan: bytes,
      place: images,
      criu: {
        words: [`--preserve=${namespaces.length}`, ...words, criu],
        env: environmentOf(caller),
        fds: [...namespaces.map(({ fd }) => fd), ...(work ? [work] : [])],
      },
      [Symbol.dispose]: () => {
        for (const { fd } of namespaces) fd.close()
      },
    }
  }
  const { place, record, launch } = await createContainer({ ...request, making }).catch((error) => {
    throw hasBegun ? withLog(error, output, LOG) : error
  })
  const passing = foreground ? await passSignals(caller, record.pid) : undefined
  try {
    if (!foreground) return 0
    const code = await exitOf(launch)
    await deleteContainer(caller, root, place, { force: true, warn })
    return code
  } catch (error) {
    if (error instanceof CallerGone) throw error
    await launch.abandon()
    await deleteContainer(caller, root, place, { force: true, warn })
    throw error
  } finally {
    passing?.()
    await launch.close()
  }
}

function restoreRequest(
  spec: Spec,
  plan: ContainerPlan,
  namespaces: readonly Inherited[],
  options: RestoreOptions,
  { images, hasWork }: { readonly images: Fd; readonly hasWork: boolean },
): { words: string[]; bytes: Uint8Array } {
  const { root } = plan
  if (root.kind !== 'directory') throw new TypeError(`a root of kind ${root.kind}`)
  const request = commonRequest(options, LOG, spec)
    .text('root', root.path)
    .flag('evasiveDevices', true)
    .flag('sibling', true)
    .number(
      'manageCgroupsMode',
      cgroupMode(options.manageCgroupsMode, hasGroups(options.images, images)),
    )
    .text('lsmProfile', options.lsmProfile || undefined)
    .text('lsmMountContext', options.lsmMountContext || undefined)
    .number('workDirFd', hasWork ? FIRST_FD + namespaces.length : undefined)
  for (const { at, from } of hostMounts(plan, root.path)) request.row('externalMount', at, from)
  if (plan.maskedPaths.length > 0) request.row('externalMount', '/dev/null', '/dev/null')
  for (const { controllers, path } of cgroups(plan.cgroup)) {
    request.row('cgroupRoot', controllers, path)
  }
  for (const [type, name] of Object.entries(JOINED)) {
    const path = joined(spec, type)
    if (path) request.row('joinNamespace', name, path)
  }
  if (joined(spec, 'cgroup')) {
    throw new Fault(
      'UNIMPLEMENTED',
      'restore into a joined cgroup namespace is not supported: CRIU cannot',
    )
  }
  for (const [i, { key }] of namespaces.entries()) {
    request.row('inheritFd', key, FIRST_INHERITED_FD + i)
  }
  for (const [fd, name] of descriptorsOf(options.images, images).entries()) {
    if (name.startsWith('pipe:')) request.row('inheritFd', name, fd)
  }
  const words = [
    `--root=${root.path}`,
    ...(hasWork ? ['--work'] : []),
    `--cgroup=${plan.cgroup}`,
    ...targets(plan, root.path),
  ]
  return { words, bytes: request.encode(REQUEST.restore) }
}

interface Inherited {
  readonly key: string
  readonly fd: Fd
}

function openNamespaces(spec: Spec): Inherited[] {
  return EXTERNAL_NAMESPACES.flatMap(({ type, key }) => {
    const path = joined(spec, type)
    return path ? [{ key, fd: new Fd(openSync(path, O_RDONLY)) }] : []
  })
}

/** What is mounted on, where a root that comes from elsewhere may lack it. In a tmpfs CRIU has it. */
function targets({ mounts, rootReadonly }: ContainerPlan, rootfs: string): string[] {
  const hidden = mounts.filter(({ type }) => type === 'tmpfs').map(({ target }) => `${target}/`)
  const isMade = ({ kind, type, target }: MountPlan): boolean =>
    kind !== 'remount' && type !== 'cgroup2' && !hidden.some((above) => target.startsWith(above))
  const made = mounts.filter(isMade).flatMap(({ kind, source, target }) => {
    const isBind = kind === 'bind'
    const isDirectory = !isBind || statSync(source).isDirectory()
    const at = placeInRoot(rootfs, target)
    return [
      ...(isBind ? [`--bind=${source}`] : []),
      `--${isDirectory ? 'directory' : 'file'}=${at}`,
    ]
  })
  // For CRIU's pivot_root(2); in a root that can be written to it makes a directory of its own.
  return [...(rootReadonly ? ['--directory=/tmp'] : []), ...made]
}

/** The groups that stand for the container's old ones: those that we are in, and in the unified hierarchy its own. */
function cgroups(own: string): { controllers: string; path: string }[] {
  const { root } = cgroupHost()
  return readFileSync('/proc/self/cgroup', 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const [, controllers = '', path = '/'] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
      return { controllers, path: controllers === '' ? own.slice(root.length) : path }
    })
}

/** Whether the container had groups below its own. The file begins with two magic numbers and a size. */
function hasGroups(path: string, images: Fd): boolean {
  const groups = readFileInside(images.number, CGROUPS, CGROUPS_BYTES_MAX)
  if (!groups) return false
  try {
    return hasSecond(groups.subarray(CGROUPS_AT), GROUP_DEPTH)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${join(path, CGROUPS)} is not what CRIU writes`, {
      cause: error,
    })
  }
}

/** CRIU's cgroup.proto: the second field of the whole are hierarchies, of these directories, of these directories below. */
function hasSecond(message: Uint8Array, depth: number): boolean {
  const reader = protobuf.Reader.create(message)
  while (reader.pos < reader.len) {
    const tag = reader.uint32()
    if (tag !== SECOND) reader.skipType(tag & 7)
    else if (depth === 1 || hasSecond(reader.bytes(), depth - 1)) return true
  }
  return false
}

const GROUP_DEPTH = 3
const SECOND = (2 << 3) | 2
const CGROUPS = 'cgroup.img'
const CGROUPS_AT = 12
/** Of each group there is some 1 KiB. */
const CGROUPS_BYTES_MAX = 16 * 1024 * 1024
const DESCRIPTORS_MAX = 3
/** Three paths of the kernel's greatest length, and more. */
const DESCRIPTORS_BYTES_MAX = 64 * 1024

function descriptorsOf(directory: string, images: Fd): string[] {
  const path = join(directory, DESCRIPTORS)
  const text = readFileInside(images.number, DESCRIPTORS, DESCRIPTORS_BYTES_MAX)?.toString()
  if (text === undefined)
    throw new Fault('NOT_FOUND', `there is no checkpoint in ${directory}: ${path} is missing`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${path} is no JSON`, { cause: error })
  }
  const names: unknown[] = Array.isArray(value) ? value : []
  if (names.length > 0 && names.length <= DESCRIPTORS_MAX && names.every(isText)) return names
  throw new Fault('INVALID_ARGUMENT', `${path} is no list of at most ${DESCRIPTORS_MAX} texts`)
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function openDirectory(option: string, path: string): Fd {
  try {
    return new Fd(openSync(path, O_RDONLY | O_DIRECTORY))
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Fault('NOT_FOUND', `${option} ${path} is no directory`, { cause: error })
  }
}
