import { fstatSync, mkdirSync, openSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { isAbsolute, join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import type { Caller } from '../kernel/caller.ts'
import { O_DIRECTORY, O_PATH, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { openInside } from '../kernel/inside.ts'
import { hostFacts, namespacesOfHost, planContainer } from '../plan/index.ts'
import type { ContainerPlan } from '../spec/plan.ts'
import type { Spec } from '../spec/runtime.ts'
import {
  type CriuOptions,
  cgroupMode,
  commonRequest,
  DESCRIPTORS,
  EXTERNAL_NAMESPACES,
  environmentOf,
  FIRST_FD,
  findCriu,
  forgetOutput,
  hostMounts,
  joined,
  REQUEST,
  requireMountNamespace,
  withLog,
} from './criu.ts'
import { deleteContainer } from './delete.ts'
import { Launch } from './launch.ts'
import { lockContainer, type OciRecord, type Place, readKeptConfig, readRecord } from './record.ts'
import { statusOf } from './status.ts'

const LOG = 'dump.log'
/** What CRIU writes in the directory that it works in, besides. */
const STATISTICS = 'stats-dump'
const PORT_MAX = 65_535

export interface CheckpointOptions extends CriuOptions {
  readonly parentPath?: string
  readonly leaveRunning?: boolean
  readonly preDump?: boolean
  readonly linkRemap?: boolean
  readonly tcpSkipInFlight?: boolean
  readonly pageServer?: string
}

interface Directories {
  readonly images: string
  readonly work: string | undefined
}

/** Writes a running container's state into images; unless it shall go on, it is deleted afterwards. */
export async function checkpointContainer(
  caller: Caller,
  root: string,
  place: Place,
  options: CheckpointOptions & Directories,
  warn: (message: string) => void,
): Promise<void> {
  {
    using _lock = await lockContainer(place)
    const record = readRecord(place)
    const status = await statusOf(place, record)
    if (status !== 'running' && status !== 'paused') {
      throw new Fault(
        'FAILED_PRECONDITION',
        `cannot checkpoint container ${record.id}: it is ${status}, not running`,
      )
    }
    await dump(caller, record, readKeptConfig(place), options)
  }
  if (options.leaveRunning || options.preDump) return
  await deleteContainer(caller, root, place, { force: true, warn })
}

async function dump(
  caller: Caller,
  record: OciRecord,
  spec: Spec,
  options: CheckpointOptions & Directories,
): Promise<void> {
  requireMountNamespace(spec)
  const criu = findCriu(caller)
  using images = directoryOf(options.images)
  using work = options.work === undefined ? undefined : directoryOf(options.work)
  checkParent(images, options.parentPath)
  const request = dumpRequest(record, spec, options).number('workDirFd', work && FIRST_FD)
  if (!options.preDump) {
    writeFileAtomic(join(options.images, DESCRIPTORS), JSON.stringify(stdioOf(record)))
  }
  const output = options.work ?? options.images
  forgetOutput(output, LOG, STATISTICS)
  const launch = new Launch({
    caller,
    mode: 'criu',
    what: `checkpoint container ${record.id}`,
    plan: request.encode(options.preDump ? REQUEST.preDump : REQUEST.dump),
    place: images,
    foreground: false,
    consoleSocket: undefined,
    preserve: 0,
    criu: { words: [criu], env: environmentOf(caller), fds: work ? [work] : [] },
  })
  try {
    await launch.next()
  } catch (error) {
    throw withLog(error, output, LOG)
  } finally {
    await launch.close()
  }
}

function dumpRequest(record: OciRecord, spec: Spec, options: CheckpointOptions) {
  const isFinal = !options.preDump
  const request = commonRequest(options, LOG, spec)
    .text('root', record.rootfs)
    .number('pid', record.pid)
    .number('manageCgroupsMode', cgroupMode(options.manageCgroupsMode, hasGroups(record.cgroup)))
    .flag('leaveRunning', options.leaveRunning)
    .flag('tcpSkipInFlight', options.tcpSkipInFlight)
    .flag('linkRemap', options.linkRemap)
    .text('freezeCgroup', record.cgroup)
    .text('parentImage', options.parentPath || undefined)
    .flag('trackMemory', Boolean(options.parentPath) || options.preDump)
  if (options.pageServer) request.row('pageServer', ...pageServer(options.pageServer))
  for (const { type, name, key } of EXTERNAL_NAMESPACES) {
    const path = joined(spec, type)
    if (path) request.text('external', `${name}[${statSync(path).ino}]:${key}`)
  }
  if (!isFinal) return request
  const plan = planOf(record, spec)
  const places = [
    ...hostMounts(plan, record.rootfs).map(({ at }) => ({ at, from: at })),
    ...maskedFiles(record, plan).map((at) => ({ at, from: '/dev/null' })),
  ]
  for (const { at, from } of places) request.row('externalMount', at, from)
  return request
}

/** The configuration as it was judged at the creation. */
function planOf(record: OciRecord, spec: Spec): ContainerPlan {
  // The filter is the kernel's by now.
  const { seccomp: _, ...linux } = spec.linux ?? {}
  const unfiltered = { ...spec, linux }
  return planContainer(unfiltered, hostFacts(), {
    id: record.id,
    cgroup: record.cgroup,
    root: { kind: 'directory', path: record.rootfs },
    io: { stdin: false, stdinOnce: false, log: 'none', logPath: '' },
    exit: { recordPath: '', command: [] },
    bundle: record.bundle,
    hookDirectory: record.bundle,
    hostNamespaces: namespacesOfHost(spec),
    labelsWhereEnabled: true,
    warn: () => {},
  }).plan
}

/** Masked by the host's /dev/null. */
function maskedFiles({ pid }: OciRecord, plan: ContainerPlan): string[] {
  using root = new Fd(openSync(`/proc/${pid}/root`, O_PATH | O_DIRECTORY))
  return plan.maskedPaths.filter((path) => {
    try {
      using file = openInside(root.number, path, O_PATH)
      return !fstatSync(file.number).isDirectory()
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false
      throw error
    }
  })
}

function stdioOf({ pid }: OciRecord): string[] {
  return [0, 1, 2].map((fd) => readlinkIfAny(`/proc/${pid}/fd/${fd}`) ?? '/dev/null')
}

function readlinkIfAny(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

function hasGroups(cgroup: string): boolean {
  return readdirSync(cgroup, { withFileTypes: true }).some((entry) => entry.isDirectory())
}

function directoryOf(path: string): Fd {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  return new Fd(openSync(path, O_RDONLY | O_DIRECTORY))
}

/** Relative to the images, as CRIU makes a link of it. */
function checkParent(images: Fd, path: string | undefined): void {
  if (!path) return
  if (isAbsolute(path)) throw new Fault('INVALID_ARGUMENT', '--parent-path must be relative')
  const found = statSync(join(`/proc/self/fd/${images.number}`, path), { throwIfNoEntry: false })
  if (found?.isDirectory()) return
  throw new Fault(
    'INVALID_ARGUMENT',
    `invalid --parent-path: ${path} is no directory beside the images`,
  )
}

function pageServer(text: string): [string, number] {
  const [, plain, bracketed, port = ''] = /^(?:([^:[\]]+)|\[(.+)\]):(\d{1,5})$/.exec(text) ?? []
  const address = plain ?? bracketed
  const number = Number(port)
  if (
    address !== undefined &&
    (!bracketed || isIP(bracketed) === 6) &&
    number >= 1 &&
    number <= PORT_MAX
  ) {
    return [address, number]
  }
  throw new Fault('INVALID_ARGUMENT', `--page-server ${text}: must be ADDRESS:PORT`)
}
