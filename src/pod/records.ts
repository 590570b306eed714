import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { Fault, isErrno } from '../base/fault.ts'
import { readJsonIfAny } from '../base/file.ts'
import { cgroupHost } from '../cgroup/index.ts'
import type { ContainerExit, MonitorStatus } from '../container/monitor.ts'
import type { Spec } from '../spec/runtime.ts'
import { containersParent } from './cgroup.ts'
import type { Pod } from './model.ts'
import type { Node } from './node.ts'
import type { ContainerRecord, PodRecord } from './types.ts'

/** A record holds a request of a client, in JSON; what is larger was never written by us, and would cost the daemon its memory. */
export const RECORD_BYTES_MAX = 64 * 1024 * 1024

/** That a container was started, in which boot and into which cgroup. */
export interface RunMark {
  readonly bootId: string
  readonly cgroup: string
  readonly startNs: string
}

type Check = (value: unknown) => boolean

const isText: Check = (value) => typeof value === 'string'
const isFlag: Check = (value) => typeof value === 'boolean'
const isNumber: Check = (value) => Number.isSafeInteger(value)
const isTime: Check = (value) => typeof value === 'string' && /^\d{1,19}$/.test(value)
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check)
const isTexts: Check = (value) => isObject(value) && Object.values(value).every(isText)
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value)
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value)
const shape =
  (fields: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isObject(value) && Object.entries(fields).every(([name, check]) => check(value[name]))

/** All that answers are made of: one that passes breaks no list. */
const POD_RECORD = shape({
  createdNs: isTime,
  config: shape({
    metadata: shape({ name: isText, uid: isText, namespace: isText, attempt: isNumber }),
    hostname: isText,
    logDirectory: isText,
    portMappings: listOf(isObject),
    labels: isTexts,
    annotations: isTexts,
    linux: orNull(isObject),
  }),
  runtimeHandler: isText,
  cgroupParent: isText,
  ownsParent: isFlag,
  hostname: isText,
  scope: optional(isText),
  mappings: optional(shape({ uidMappings: listOf(isObject), gidMappings: listOf(isObject) })),
})

const CONTAINER_RECORD = shape({
  podId: isText,
  createdNs: isTime,
  config: shape({
    metadata: shape({ name: isText, attempt: isNumber }),
    image: orNull(isObject),
    mounts: listOf(isObject),
    envs: listOf(shape({ key: isText, value: isText })),
    labels: isTexts,
    annotations: isTexts,
    logPath: isText,
    linux: orNull(isObject),
  }),
  imageId: isText,
  imageRef: isText,
  imageDigestRef: isText,
  lower: listOf(isText),
  user: shape({ uid: isNumber, gid: isNumber, groups: listOf(isNumber) }),
  stopSignal: isNumber,
  logPath: isText,
  resources: isObject,
  isUpdating: optional(isFlag),
  sharedMemory: isText,
  imageMounts: listOf(
    shape({
      index: isNumber,
      imageId: isText,
      lower: listOf(isText),
      path: isText,
      isDirectory: isFlag,
    }),
  ),
})

const EXIT = shape({
  id: isText,
  code: isNumber,
  oomKilled: isFlag,
  startedNs: isTime,
  finishedNs: isTime,
  error: isText,
})

const RUN_MARK = shape({ bootId: isText, cgroup: isText, startNs: isTime })

const STATUS = shape({
  monitor: isNumber,
  namespaces: isTexts,
  containers: (value) =>
    isObject(value) &&
    Object.values(value).every(shape({ pid: isNumber, state: isText, startedNs: isTime })),
})

/** Who knows where the files are. */
type Placed = Pick<Node, 'at'>

export function readPodRecord(node: Placed, id: string): PodRecord | undefined {
  return read<PodRecord>(node.at.podRecord(id), withId(POD_RECORD, id))
}

export function readContainerRecord(
  node: Placed,
  pod: string,
  id: string,
): ContainerRecord | undefined {
  return read<ContainerRecord>(node.at.record(pod, id), withId(CONTAINER_RECORD, id))
}

const withId =
  (check: Check, id: string): Check =>
  (value) =>
    check(value) && (value as { id?: unknown }).id === id

/** What a pod that is being made, or was when the daemon was killed, may have left in the cgroup hierarchy. */
export interface Making {
  /** The pod's scope of systemd, where that is the driver. */
  readonly scope?: string
  readonly cgroupParent: string
  readonly ownsParent: boolean
}

export function readMaking(node: Node, id: string): Making | undefined {
  return soft(() =>
    read<Making>(
      node.at.making(id),
      shape({ cgroupParent: isText, ownsParent: isFlag, scope: optional(isText) }),
    ),
  )
}

/** Undefined where there is none; a damaged one is as good as none. */
export function readExit(path: string): ContainerExit | undefined {
  return soft(() => mustReadExit(path))
}

/** The same, but DATA_LOSS where it is damaged. */
export function mustReadExit(path: string): ContainerExit | undefined {
  return read<ContainerExit>(path, EXIT)
}

/** A container's OCI configuration, as it was made at the creation; DATA_LOSS where it is damaged. */
export function readSpec(node: Node, pod: string, id: string): Spec | undefined {
  return read<Spec>(
    node.at.config(pod, id),
    shape({ process: shape({ args: listOf(isText) }), root: isObject, linux: isObject }),
  )
}

/** What a monitor wrote last; a damaged one is as good as none. */
export function readStatus(directory: string): MonitorStatus | undefined {
  return soft(() => read<MonitorStatus>(join(directory, 'status.json'), STATUS))
}

/** Undefined where the container was never started. Of a damaged one what counts is known without it: where the cgroup is. */
export function readRunMark(
  node: Placed,
  { pod, id }: { readonly pod: Pick<Pod, 'id' | 'record'>; readonly id: string },
): RunMark | undefined {
  try {
    return mustReadRunMark(node, pod.id, id)
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'DATA_LOSS') throw error
    return {
      bootId: '',
      cgroup: cgroupOf(containersParent(pod.record), id),
      startNs: String(nowNs()),
    }
  }
}

/** The same, but DATA_LOSS where it is damaged: a path that is no cgroup of the container would be somebody else's. */
export const mustReadRunMark = (node: Placed, pod: string, id: string): RunMark | undefined =>
  mustReadMark(node.at.run(pod, id), id)

/** Also of a container whose start nobody has asked for. */
export const mustReadAnyMark = (node: Placed, pod: string, id: string): RunMark | undefined =>
  mustReadRunMark(node, pod, id) ?? mustReadMark(node.at.ahead(pod, id), id)

/** Whether a first process was made of whose start nobody has asked: it is created, whatever has become of that. */
export const isOnlyAhead = ({ at }: Placed, pod: string, id: string): boolean =>
  existsSync(at.ahead(pod, id)) && !existsSync(at.run(pod, id))

function mustReadMark(path: string, id: string): RunMark | undefined {
  const { root } = cgroupHost()
  return read<RunMark>(path, (value) => {
    if (!RUN_MARK(value)) return false
    const { cgroup } = value as RunMark
    return cgroup.startsWith(`${root}/`) && cgroup.endsWith(`/${id}`) && !/\/\.\.?\//.test(cgroup)
  })
}

/** A container's directory in the cgroup hierarchy, or that of a pod's own first process. */
export const cgroupOf = (parent: string, id: string): string => join(cgroupHost().root, parent, id)

function read<T>(path: string, check: Check): T | undefined {
  try {
    const { size } = statSync(path)
    if (size > RECORD_BYTES_MAX)
      throw new Fault('DATA_LOSS', `${path} is damaged: it has ${size} bytes`)
    const value = readJsonIfAny(path)
    if (value === undefined) return
    if (check(value)) return value as T
    throw new Fault('DATA_LOSS', `${path} is damaged: what it holds was not written by berth`)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return
    if (isErrno(error, 'EISDIR', 'EIO', 'EUCLEAN', 'ELOOP'))
      throw new Fault('DATA_LOSS', `${path} cannot be read`, { cause: error })
    throw error
  }
}

function soft<T>(act: () => T | undefined): T | undefined {
  try {
    return act()
  } catch (error) {
    if (error instanceof Fault && error.code === 'DATA_LOSS') return
    throw error
  }
}
