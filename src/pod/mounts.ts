import { outerFirst, standardMounts, uncovered } from '../engine/mounts.ts'
import { absolute, invalid, list, PATH_BYTES_MAX, show, text, unsupported } from '../plan/check.ts'
import { idMaps } from '../plan/namespaces.ts'
import type { Mount as CriMount, IDMapping, MountPropagation } from '../spec/cri.ts'
import type { Mount } from '../spec/runtime.ts'
import { idMapping } from './check.ts'
import { checkPropagation, hostSource } from './mount-source.ts'
import type { ContainerNamespaces } from './namespaces.ts'
import type { ImageMount, Mappings, StoredConfig } from './types.ts'

const MOUNTS_MAX = 2048
const OPTIONS_MAX = 32

export interface MountInput {
  readonly config: Pick<StoredConfig, 'mounts'>
  readonly privileged: boolean
  readonly readonlyRootfs: boolean
  readonly namespaces: Pick<ContainerNamespaces, 'network' | 'sharedMemory'>
  /** Of the pod's user namespace. */
  readonly mappings: Mappings | undefined
  /** The pod's own files, by where they go (/etc/hosts, /etc/hostname, /etc/resolv.conf). */
  readonly files: Readonly<Record<string, string>>
  /** Layers of the images to be mounted: absolute paths, topmost first. */
  readonly images: readonly Pick<ImageMount, 'index' | 'lower'>[]
  /** The directories of `imageVolumes`. */
  readonly volumes: readonly { readonly target: string; readonly path: string }[]
  /** Text of /proc/self/mountinfo. */
  readonly mountinfo: string
  readonly selinux: boolean
  readonly warn: (message: string) => void
}

export interface ContainerMounts {
  /** In the order in which they are made. /dev/shm is a tmpfs of its own here: the caller puts the pod's in its place where it is the pod's. */
  readonly mounts: Mount[]
  /** linux.rootfsPropagation, where a mount of the client's needs one. */
  readonly rootfsPropagation: 'rshared' | 'rslave' | undefined
}

/**
 * A container's mounts: those every container has, but for what the client puts at their place; then the pod's files, the image's volumes and the client's, outer before inner. All is
 * judged before a missing `host_path` is made.
 */
export function containerMounts(input: MountInput): ContainerMounts {
  const asked = list('mounts', input.config.mounts, MOUNTS_MAX).map((mount, i) =>
    judged(`mounts[${i}]`, mount, i, input),
  )
  const taken = new Set(asked.map(({ target }) => target))
  const standard = standardMounts(
    {
      privileged: input.privileged,
      ipc: input.namespaces.sharedMemory === 'node' ? 'host' : undefined,
    },
    input.mappings,
  ).map((mount) => sysOfHost(mount, input))
  const own = [...podFiles(input), ...volumeMounts(input)].filter(
    ({ destination }) => !taken.has(destination),
  )
  const mounts = [
    ...uncovered(standard, taken),
    ...outerFirst([...own, ...asked.map(({ make }) => make())]),
  ]
  return { mounts, rootfsPropagation: rootPropagation(input.config.mounts) }
}

function rootPropagation(mounts: readonly CriMount[]): ContainerMounts['rootfsPropagation'] {
  const has = (wanted: MountPropagation): boolean =>
    mounts.some(({ propagation }) => propagation === wanted)
  if (has('PROPAGATION_BIDIRECTIONAL')) return 'rshared'
  return has('PROPAGATION_HOST_TO_CONTAINER') ? 'rslave' : undefined
}

/** The kernel mounts no sysfs of a network namespace for a user namespace that does not own it. */
function sysOfHost(mount: Mount, { mappings, namespaces }: MountInput): Mount {
  if (mount.type !== 'sysfs' || mappings === undefined || namespaces.network !== 'node') {
    return mount
  }
  return {
    destination: mount.destination,
    type: 'bind',
    source: '/sys',
    options: ['rbind', 'rprivate', 'rro', 'nosuid', 'noexec', 'nodev'],
  }
}

/** As containerd and CRI-O do, writable where the root is. */
function podFiles({ files, readonlyRootfs }: MountInput): Mount[] {
  return Object.entries(files).map(([destination, source]) => ({
    destination,
    type: 'bind',
    source,
    options: ['rbind', 'rprivate', ...(readonlyRootfs ? ['ro'] : [])],
  }))
}

function volumeMounts({ volumes, mappings }: MountInput): Mount[] {
  return volumes.map(({ target, path }) => ({
    destination: target,
    type: 'bind',
    source: path,
    options: ['rbind', 'rprivate', ...(mappings ? ['ridmap'] : [])],
  }))
}

interface Judged {
  readonly target: string
  /** Looks at the host, and makes what is missing there. */
  readonly make: () => Mount
}

function judged(field: string, mount: CriMount, index: number, input: MountInput): Judged {
  const target = absolute(`${field}.container_path`, mount.containerPath)
  if (target === '/') throw invalid(`${field}.container_path`, 'a mount at / would hide the image')
  const options = [
    ...readOnlyOptions(field, mount),
    ...mountOptions(`${field}.mount_options`, mount.mountOptions),
  ]
  if (mount.selinuxRelabel && input.selinux) {
    input.warn('mounts.selinux_relabel has no effect: berth gives no SELinux labels')
  }
  if (mount.image !== null) return imageMount(field, mount, { index, target, options, input })
  // Without an image its sub-path has no meaning: the kubelet gives each volume's to all mounts of a pod that has an image volume.
  const host = text(`${field}.host_path`, mount.hostPath, PATH_BYTES_MAX)
  if (!host.startsWith('/')) {
    throw invalid(`${field}.host_path`, `${show(host)} is not an absolute path`)
  }
  const propagation = propagationOption(`${field}.propagation`, mount.propagation)
  const ids = idMappings(field, mount, input.mappings)
  return {
    target,
    make: () => {
      const source = hostSource(`${field}.host_path`, host)
      if (mount.propagation !== 'PROPAGATION_PRIVATE')
        checkPropagation(`${field}.propagation`, mount.propagation, source, input.mountinfo)
      return {
        destination: target,
        type: 'bind',
        source,
        options: ['rbind', propagation, ...options, ...ids.options],
        ...ids.mappings,
      }
    },
  }
}

function readOnlyOptions(field: string, mount: CriMount): string[] {
  if (!mount.recursiveReadOnly) return mount.readonly ? ['ro'] : []
  const conflict = !mount.readonly
    ? 'needs readonly'
    : mount.propagation !== 'PROPAGATION_PRIVATE'
      ? 'needs the propagation PROPAGATION_PRIVATE'
      : undefined
  // The kubelet looks for this first word.
  if (conflict) throw invalid(`RROUnsupported: ${field}.recursive_read_only`, conflict)
  return ['rro']
}

/** What only takes rights away, or says how times are kept. */
const ALLOWED_OPTIONS = new Set([
  'noexec',
  'nodev',
  'nosuid',
  'nosymfollow',
  'noatime',
  'nodiratime',
  'relatime',
  'strictatime',
])

function mountOptions(field: string, given: readonly string[]): string[] {
  return list(field, given, OPTIONS_MAX).map((option) => {
    if (ALLOWED_OPTIONS.has(option)) return option
    throw unsupported(`${field}: ${show(option)}`, `only ${[...ALLOWED_OPTIONS].join(', ')} are`)
  })
}

const PROPAGATION: Record<MountPropagation, string> = {
  PROPAGATION_PRIVATE: 'rprivate',
  PROPAGATION_HOST_TO_CONTAINER: 'rslave',
  PROPAGATION_BIDIRECTIONAL: 'rshared',
}

function propagationOption(field: string, propagation: MountPropagation): string {
  if (Object.hasOwn(PROPAGATION, propagation)) return PROPAGATION[propagation]
  throw unsupported(field, `there is no mode ${show(propagation)}`)
}

/** Ids of a mount: the pod's own, as the kubelet asks, go by the user namespace that is there; others need one of their own. */
function idMappings(
  field: string,
  { uidMappings, gidMappings }: CriMount,
  pod: Mappings | undefined,
): { options: string[]; mappings: Pick<Mount, 'uidMappings' | 'gidMappings'> } {
  const uids = given(`${field}.uidMappings`, uidMappings)
  const gids = given(`${field}.gidMappings`, gidMappings)
  if (uids.length > 0 !== gids.length > 0) {
    throw invalid(field, 'uidMappings and gidMappings must be given together')
  }
  if (uids.length === 0) return { options: [], mappings: {} }
  const asked = JSON.stringify({ uidMappings: uids, gidMappings: gids })
  if (pod && asked === JSON.stringify(pod)) return { options: ['ridmap'], mappings: {} }
  return { options: [], mappings: { uidMappings: uids, gidMappings: gids } }
}

function given(field: string, mappings: readonly IDMapping[]) {
  const ids = list(field, mappings, 340).map(idMapping)
  idMaps(field, ids)
  return ids
}

interface ImageContext {
  readonly index: number
  readonly target: string
  readonly options: readonly string[]
  readonly input: MountInput
}

/** An image's files, read-only: the overlay of its layers, or what is at a path inside it. */
function imageMount(
  field: string,
  mount: CriMount,
  { index, target, options, input }: ImageContext,
): Judged {
  if (mount.hostPath !== '') throw invalid(`${field}.host_path`, 'excludes image')
  if (!mount.readonly) throw invalid(`${field}.readonly`, 'an image can be mounted read-only only')
  if (mount.propagation !== 'PROPAGATION_PRIVATE') {
    throw invalid(`${field}.propagation`, 'an image holds no mounts to propagate')
  }
  const path = text(`${field}.image_sub_path`, mount.imageSubPath, PATH_BYTES_MAX)
  if (path.startsWith('/') || path.split('/').includes('..')) {
    throw invalid(`${field}.image_sub_path`, `${show(path)} is no path below the image's root`)
  }
  const lower = input.images.find((image) => image.index === index)?.lower ?? []
  if (lower.length === 0) throw invalid(`${field}.image`, 'has no layers')
  const layers = lower.map((layer) => `lowerdir+=${absolute(`${field}.image`, layer)}`)
  const inside = path === '' ? [] : [`berth.path=/${path}`]
  const mounted = {
    type: 'overlay',
    source: 'overlay',
    options: [...layers, ...inside, ...options],
  }
  return { target, make: () => ({ destination: target, ...mounted }) }
}

/** Mounts as ContainerStatus gives them back: the kubelet finds the termination message by them, and keeps the images that they name. */
export function statusMounts(
  mounts: readonly CriMount[],
  images: readonly Pick<ImageMount, 'index' | 'imageId'>[],
): CriMount[] {
  return mounts.map((mount, i) => {
    const imageId = images.find(({ index }) => index === i)?.imageId
    if (!mount.image || imageId === undefined) return mount
    return {
      ...mount,
      image: { ...mount.image, image: imageId, imageRef: mount.image.imageRef || imageId },
    }
  })
}
