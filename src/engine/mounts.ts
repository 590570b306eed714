import { existsSync, mkdirSync } from 'node:fs'
import { posix } from 'node:path'
import { Fault } from '../base/fault.ts'
import { defaultMounts } from '../spec/defaults.ts'
import type { IdMapping, Mount } from '../spec/runtime.ts'
import type { MountOption, RunOptions } from './options.ts'
import type { SpecInput } from './spec.ts'

/** A volume and where it goes; the directory is made and filled before the container is. */
export interface VolumeMount {
  readonly name: string
  readonly anonymous: boolean
  readonly target: string
  readonly path: string
  readonly option: MountOption
}

/**
 * The mounts of a container in the order they are made: the defaults, our files in /etc, then what was asked for, outer before inner. A mount that is
 * asked for at the place of a default takes that place.
 */
export function mountList(input: SpecInput): Mount[] {
  const { options, mappings } = input
  const idmap = mappings !== undefined
  const asked = [
    ...input.volumes.map((volume) => bindMount(volume.option, volume.path, idmap)),
    ...options.mounts.filter((m) => m.kind !== 'volume').map((m) => askedMount(m, idmap)),
  ]
  const taken = new Set<string>()
  for (const mount of asked) {
    if (taken.has(mount.destination)) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `two mounts at ${mount.destination}: only one can be there`,
      )
    }
    taken.add(mount.destination)
  }
  const standard = uncovered([...standardMounts(options, mappings), ...etcFiles(input)], taken)
  return [...standard, ...outerFirst(asked)]
}

const DIRECTORIES = new Set(['/dev', '/sys', '/proc'])

/** Of the mounts that every container has, those that no mount at `taken` takes the place of. */
export function uncovered(mounts: readonly Mount[], taken: ReadonlySet<string>): Mount[] {
  return mounts.filter(
    ({ destination }) =>
      !taken.has(destination) &&
      // A mount of one's own on /dev or /sys hides what would be below it.
      ![...taken].some((t) => destination.startsWith(`${t}/`) && DIRECTORIES.has(t)),
  )
}

/** A mount made before one that it holds; of equal depth in the order given. */
export function outerFirst(mounts: readonly Mount[]): Mount[] {
  const depth = (mount: Mount): number => mount.destination.split('/').filter(Boolean).length
  return [...mounts].sort((a, b) => depth(a) - depth(b))
}

/** The group tty of the terminals (runtime-spec's example, docker's default). */
const TTY_GID = 5

/** The mounts that every container has, as its privileges and ids allow. */
export function standardMounts(
  options: Pick<RunOptions, 'shmSize' | 'privileged' | 'ipc'>,
  mappings: { readonly gidMappings: readonly IdMapping[] } | undefined,
): Mount[] {
  const hasTty = mappings?.gidMappings.every(({ size }) => size > TTY_GID) ?? true
  const mounts = defaultMounts({ shmSize: options.shmSize })
  return mounts.flatMap((mount) => {
    const writable = options.privileged && ['sysfs', 'cgroup', 'cgroup2'].includes(mount.type ?? '')
    const opts = mount.options
      ?.map((o) => (writable && o === 'ro' ? 'rw' : o))
      // A group without a number inside cannot own them.
      .filter((o) => hasTty || o !== `gid=${TTY_GID}`)
    const changed: Mount = opts ? { ...mount, options: opts } : mount
    if (mount.destination === '/dev/shm' && options.ipc === 'none') return []
    if (options.ipc === 'host' && ['/dev/shm', '/dev/mqueue'].includes(mount.destination)) {
      return existsSync(mount.destination) ? [ofHost(mount.destination)] : []
    }
    return [changed]
  })
}

const ofHost = (path: string): Mount => ({
  destination: path,
  type: 'bind',
  source: path,
  options: ['rbind', 'nosuid', 'noexec', 'nodev'],
})

function etcFiles({ etc }: SpecInput): Mount[] {
  const options = ['rbind', 'rprivate']
  return [
    { destination: '/etc/resolv.conf', type: 'bind', source: etc.resolv, options },
    { destination: '/etc/hostname', type: 'bind', source: etc.hostname, options },
    { destination: '/etc/hosts', type: 'bind', source: etc.hosts, options },
  ]
}

function askedMount(mount: MountOption, idmap: boolean): Mount {
  const destination = targetOf(mount)
  if (mount.kind === 'tmpfs') {
    const set = new Set(mount.options)
    // docker's defaults for a tmpfs; an option of the user's takes the place of its opposite.
    for (const [name, opposite] of [
      ['nosuid', 'suid'],
      ['nodev', 'dev'],
      ['noexec', 'exec'],
    ] as const) {
      if (!set.has(opposite)) set.add(name)
    }
    if (mount.readOnly) set.add('ro')
    if (!mount.noCopy) set.add('tmpcopyup')
    return { destination, type: 'tmpfs', source: 'tmpfs', options: [...set] }
  }
  if (!mount.source.startsWith('/')) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `the source "${mount.source}" of the mount at ${destination} is not absolute`,
    )
  }
  if (!existsSync(mount.source)) {
    if (!mount.createSource) {
      throw new Fault(
        'NOT_FOUND',
        `no ${mount.source} on this host to mount at ${destination}; -v makes a missing source, --mount does not`,
      )
    }
    mkdirSync(mount.source, { recursive: true })
  }
  return bindMount(mount, mount.source, idmap && mount.idmap)
}

function bindMount(mount: MountOption, source: string, idmap: boolean): Mount {
  const options = [
    mount.nonRecursive ? 'bind' : 'rbind',
    mount.propagation || 'rprivate',
    ...mount.options,
  ]
  if (mount.recursiveReadOnly) options.push('rro')
  else if (mount.readOnly) options.push('ro')
  if (idmap) options.push(mount.nonRecursive ? 'idmap' : 'ridmap')
  return { destination: targetOf(mount), type: 'bind', source, options }
}

function targetOf(mount: MountOption): string {
  if (!mount.target.startsWith('/')) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `the mount's target "${mount.target}" is not an absolute path of the container`,
    )
  }
  const target = posix.normalize(mount.target).replace(/(.)\/$/, '$1')
  if (target === '/') {
    throw new Fault('INVALID_ARGUMENT', 'a mount at / would hide the image: give another target')
  }
  return target
}
