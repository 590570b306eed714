import {
  accessSync,
  constants,
  fstatSync,
  openSync,
  readlinkSync,
  readSync,
  statSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'
import protobuf from 'protobufjs'
import { Fault, isErrno } from '../base/fault.ts'
import { removeFile } from '../base/file.ts'
import type { Caller } from '../kernel/caller.ts'
import { O_DIRECTORY, O_PATH, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { openInside } from '../kernel/inside.ts'
import { DEFAULT_PATH } from '../spec/defaults.ts'
import type { ContainerPlan } from '../spec/plan.ts'
import type { Spec } from '../spec/runtime.ts'
import { sharesMounts } from './plain.ts'

/** What `checkpoint` and `restore` have in common; each is an option of runc. */
export interface CriuOptions {
  readonly imagePath?: string
  readonly workPath?: string
  readonly tcpEstablished?: boolean
  readonly extUnixSk?: boolean
  readonly shellJob?: boolean
  readonly fileLocks?: boolean
  readonly autoDedup?: boolean
  readonly manageCgroupsMode?: string
  readonly emptyNs?: readonly string[]
}

/** Beside the images: what the first process had as its stdio, as runc and crun write it. */
export const DESCRIPTORS = 'descriptors.json'
/** Descriptors of berth-launch, of which CRIU has some by the same numbers less 6 (native/launch/criu.cc). */
export const IMAGES_FD = 6
export const FIRST_FD = 10
export const FIRST_INHERITED_FD = 4

/** criu_req_type and the fields of criu_opts in CRIU's rpc.proto. */
export const REQUEST = { dump: 1, restore: 2, preDump: 4 } as const
const OPTIONS = {
  imagesDirFd: 1,
  pid: 2,
  leaveRunning: 3,
  extUnixSk: 4,
  tcpEstablished: 5,
  evasiveDevices: 6,
  shellJob: 7,
  fileLocks: 8,
  logLevel: 9,
  logFile: 10,
  pageServer: 11,
  notifyScripts: 12,
  root: 13,
  parentImage: 14,
  trackMemory: 15,
  autoDedup: 16,
  workDirFd: 17,
  linkRemap: 18,
  externalMount: 23,
  cgroupRoot: 25,
  sibling: 26,
  inheritFd: 27,
  manageCgroupsMode: 34,
  external: 37,
  emptyNamespaces: 38,
  joinNamespace: 39,
  freezeCgroup: 44,
  tcpSkipInFlight: 46,
  orphanPtsMaster: 50,
  configFile: 51,
  lsmProfile: 53,
  lsmMountContext: 63,
} as const
type Option = keyof typeof OPTIONS

const CGROUP_MODES: Readonly<Record<string, number>> = { ignore: 0, soft: 3, full: 4, strict: 5 }
const LOG_LEVEL = 4
const LOG_LINES_MAX = 5
/** Of a log's end: a line is some 100 bytes, and what CRIU does after an error it tells, too. */
const LOG_BYTES_MAX = 1024 * 1024
/** CRIU's settings of the machine, where runc has it, for people have theirs there. */
const CONFIG_FILE = '/etc/criu/runc.conf'
const CLONE_NEWNET = 0x40000000

/** A request in the making. What is undefined or false is left out. */
export class CriuRequest {
  readonly #options = new protobuf.Writer()

  number(option: Option, value: number | undefined): this {
    if (value !== undefined) this.#options.uint32(OPTIONS[option] << 3).int32(value)
    return this
  }

  flag(option: Option, value: boolean | undefined): this {
    if (value) this.#options.uint32(OPTIONS[option] << 3).bool(true)
    return this
  }

  text(option: Option, value: string | undefined): this {
    if (value !== undefined) this.#options.uint32((OPTIONS[option] << 3) | 2).string(value)
    return this
  }

  /** A message whose fields are these, from 1 on. */
  row(option: Option, ...fields: readonly (string | number)[]): this {
    this.#options.uint32((OPTIONS[option] << 3) | 2).fork()
    fields.forEach((field, i) => {
      if (typeof field === 'string') this.#options.uint32(((i + 1) << 3) | 2).string(field)
      else this.#options.uint32((i + 1) << 3).int32(field)
    })
    this.#options.ldelim()
    return this
  }

  encode(type: number): Uint8Array {
    const whole = new protobuf.Writer().uint32(8).int32(type).uint32(18)
    return whole.bytes(this.#options.finish()).finish()
  }
}

/** CRIU would take the host's mounts for the container's. */
export function requireMountNamespace(spec: Spec): void {
  if (!sharesMounts(spec.linux)) return
  throw new Fault(
    'UNIMPLEMENTED',
    'linux.namespaces: checkpoint and restore of a container without a mount namespace are not supported',
  )
}

/** What both directions say. */
export function commonRequest(options: CriuOptions, logFile: string, spec: Spec): CriuRequest {
  const configFile = spec.annotations?.['org.criu.config'] ?? CONFIG_FILE
  return new CriuRequest()
    .number('imagesDirFd', IMAGES_FD)
    .number('logLevel', LOG_LEVEL)
    .text('logFile', logFile)
    .flag('notifyScripts', true)
    .flag('orphanPtsMaster', true)
    .flag('shellJob', options.shellJob)
    .flag('extUnixSk', options.extUnixSk)
    .flag('tcpEstablished', options.tcpEstablished)
    .flag('fileLocks', options.fileLocks)
    .flag('autoDedup', options.autoDedup)
    .number('emptyNamespaces', emptyNamespaces(options.emptyNs))
    .text('configFile', configFile === '' ? undefined : configFile)
}

/** The network's devices and addresses are the engine's to make again, never CRIU's. */
function emptyNamespaces(names: readonly string[] = []): number {
  const other = names.find((name) => name !== 'network')
  if (other === undefined) return CLONE_NEWNET
  throw new Fault('UNIMPLEMENTED', `--empty-ns ${other} is not supported: only network is`)
}

/**
 * Without a mode of its own a container whose processes are all in its one cgroup has that from us, and CRIU leaves cgroups alone: it would mount the host's
 * hierarchy anew, which changes that one's options (CRIU's issue 3029).
 */
export function cgroupMode(mode: string | undefined, hasGroups: boolean): number {
  if (!mode) return (hasGroups ? CGROUP_MODES['soft'] : CGROUP_MODES['ignore']) ?? 0
  const number = Object.hasOwn(CGROUP_MODES, mode) ? CGROUP_MODES[mode] : undefined
  if (number !== undefined) return number
  const known = Object.keys(CGROUP_MODES).join(', ')
  throw new Fault('INVALID_ARGUMENT', `--manage-cgroups-mode ${mode} is none of ${known}`)
}

/** CRIU's program, in the caller's PATH. */
export function findCriu({ env }: Caller): string {
  for (const directory of (env['PATH'] ?? DEFAULT_PATH).split(delimiter)) {
    const path = join(directory, 'criu')
    if (directory.startsWith('/') && isProgram(path)) return path
  }
  throw new Fault(
    'FAILED_PRECONDITION',
    'checkpoint and restore need CRIU: there is no program criu in PATH; install the package criu',
  )
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return false
    throw error
  }
}

/** Where a path of the configuration is in the root, its links followed; mounts that are not made yet do not count. */
export function placeInRoot(rootfs: string, path: string): string {
  using root = new Fd(openSync(rootfs, O_PATH | O_DIRECTORY))
  try {
    using file = openInside(root.number, path, O_PATH)
    const found = readlinkSync(`/proc/self/fd/${file.number}`)
    return found.startsWith(`${rootfs}/`) ? found.slice(rootfs.length) : path
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return path
    throw error
  }
}

/** Mounts that come from the host, by their places in the container. */
export function hostMounts(plan: ContainerPlan, rootfs: string): { at: string; from: string }[] {
  const binds = plan.mounts.filter(({ kind }) => kind === 'bind')
  return [
    ...binds.map(({ target, source }) => ({ at: placeInRoot(rootfs, target), from: source })),
    // Where mknod(2) is not allowed these are mounts.
    ...plan.devices.map(({ target }) => ({ at: target, from: target })),
  ]
}

/** A joined namespace of this type; CRIU knows it by the key. */
export function joined(spec: Spec, type: string): string | undefined {
  return spec.linux?.namespaces?.find((each) => each.type === type)?.path || undefined
}

export const EXTERNAL_NAMESPACES = [
  { type: 'network', name: 'net', key: 'extRootNetNS' },
  { type: 'pid', name: 'pid', key: 'extRootPidNS' },
] as const

/**
 * Before CRIU writes these: it follows links, and images may come from anywhere. And what an earlier call has left is not told as this one's.
 */
export function forgetOutput(directory: string, ...files: readonly string[]): void {
  for (const file of files) removeFile(join(directory, file))
}

/** The failure with what CRIU's log says about it; after forgetOutput. */
export function withLog(error: unknown, directory: string, file: string): unknown {
  if (!(error instanceof Fault)) return error
  const path = join(directory, file)
  const lines = endOf(path)
    .split('\n')
    .filter((line) => line.includes('Error'))
  if (lines.length === 0) return error
  const said = lines.slice(-LOG_LINES_MAX).join('; ')
  return new Fault(error.code, `${error.message}; ${path} says: ${said}`, { cause: error })
}

/** Of a file that CRIU has made. */
function endOf(path: string): string {
  try {
    using file = new Fd(openSync(path, O_RDONLY))
    const { size } = fstatSync(file.number)
    const text = Buffer.alloc(Math.min(size, LOG_BYTES_MAX))
    return text.toString('utf8', 0, readSync(file.number, text, 0, text.length, size - text.length))
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return ''
    throw error
  }
}

/** An environment for a child. */
export function environmentOf({ env }: Caller): string[] {
  return Object.entries(env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  )
}
