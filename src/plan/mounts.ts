import { join } from 'node:path'
import { MOUNT_ATTR, MS } from '../spec/linux.ts'
import type { MountPlan } from '../spec/plan.ts'
import type { Mount } from '../spec/runtime.ts'
import {
  absolute,
  clean,
  impossible,
  invalid,
  list,
  PATH_BYTES_MAX,
  show,
  text,
  unsupported,
} from './check.ts'
import type { HostFacts } from './facts.ts'
import { idMaps, type Namespaces } from './namespaces.ts'

const MOUNTS_MAX = 4096
const OPTIONS_MAX = 512

/** Attribute options: what is set (true) or cleared (false). With an `r` in front they hold for the whole tree. */
const ATTRIBUTES: Record<string, readonly [attribute: number, set: boolean]> = {
  ro: [MOUNT_ATTR.RDONLY, true],
  rw: [MOUNT_ATTR.RDONLY, false],
  nosuid: [MOUNT_ATTR.NOSUID, true],
  suid: [MOUNT_ATTR.NOSUID, false],
  nodev: [MOUNT_ATTR.NODEV, true],
  dev: [MOUNT_ATTR.NODEV, false],
  noexec: [MOUNT_ATTR.NOEXEC, true],
  exec: [MOUNT_ATTR.NOEXEC, false],
  nodiratime: [MOUNT_ATTR.NODIRATIME, true],
  diratime: [MOUNT_ATTR.NODIRATIME, false],
  nosymfollow: [MOUNT_ATTR.NOSYMFOLLOW, true],
  symfollow: [MOUNT_ATTR.NOSYMFOLLOW, false],
}

const ATIME = new Set([
  'relatime',
  'norelatime',
  'noatime',
  'atime',
  'strictatime',
  'nostrictatime',
])

/** The specification's words for propagation, of a mount and of the root. */
export const PROPAGATION: Record<string, number> = {
  private: MS.PRIVATE,
  rprivate: MS.PRIVATE | MS.REC,
  slave: MS.SLAVE,
  rslave: MS.SLAVE | MS.REC,
  shared: MS.SHARED,
  rshared: MS.SHARED | MS.REC,
  unbindable: MS.UNBINDABLE,
  runbindable: MS.UNBINDABLE | MS.REC,
}

/** Of a whole file system, not of one mount: fsconfig(2) takes them by these names. A bind mount cannot change them. */
const SUPERBLOCK_ON = new Set(['sync', 'dirsync', 'lazytime', 'mand'])
const SUPERBLOCK_OFF = new Set(['async', 'nolazytime', 'nomand'])

/** These say what is so anyway: the default, or how much the kernel logs (which it no longer varies). */
const NOTHING = new Set(['defaults', 'loud', 'silent', 'noiversion'])

const KINDS = new Set(['bind', 'rbind', 'remount', 'idmap', 'ridmap', 'tmpcopyup'])

/** Every mount option that is not a file system's own, as `features` lists them. */
export const MOUNT_OPTIONS: readonly string[] = [
  ...Object.keys(ATTRIBUTES),
  ...Object.keys(ATTRIBUTES).map((name) => `r${name}`),
  ...ATIME,
  ...[...ATIME].map((name) => `r${name}`),
  ...Object.keys(PROPAGATION),
  ...SUPERBLOCK_ON,
  ...SUPERBLOCK_OFF,
  ...NOTHING,
  ...KINDS,
  'iversion',
].sort()

/**
 * File systems without a device behind them. `ro` makes only the mount read-only there: their superblock may be shared with the host, and
 * a new tmpfs is still to be filled.
 */
const PSEUDO = new Set([
  'proc',
  'sysfs',
  'tmpfs',
  'ramfs',
  'devpts',
  'mqueue',
  'cgroup2',
  'bpf',
  'debugfs',
  'tracefs',
  'securityfs',
  'fusectl',
  'hugetlbfs',
  'binfmt_misc',
])

/** What may be mounted below /proc: files that lxcfs and the like replace. Anything else there could hide from us what we write to /proc. */
const PROC_FILES = new Set(
  [
    'cpuinfo',
    'diskstats',
    'loadavg',
    'meminfo',
    'slabinfo',
    'stat',
    'swaps',
    'uptime',
    'net/dev',
    'sys/kernel/ns_last_pid',
  ].map((name) => `/proc/${name}`),
)

export interface MountContext {
  readonly namespaces: Namespaces
  readonly facts: Pick<HostFacts, 'cgroup2'>
  /** What relative sources of bind mounts are below; an OCI bundle. */
  readonly bundle: string | undefined
  readonly warn: (text: string) => void
}

/** The mounts in the order of the configuration (runtime-spec, "Mounts": the runtime MUST mount entries in the listed order). */
export function planMounts(
  mounts: readonly Mount[] | undefined,
  context: MountContext,
): MountPlan[] {
  return list('mounts', mounts, MOUNTS_MAX).map((mount, i) =>
    planMount(`mounts[${i}]`, mount, context),
  )
}

function planMount(field: string, mount: Mount, context: MountContext): MountPlan {
  const target = targetOf(field, mount)
  const options = parseOptions(`${field}.options`, mount.options)
  const type = mount.type === 'cgroup' ? 'cgroup2' : (mount.type ?? '')
  const kind = kindOf(field, type, options)
  checkTarget(field, target, kind, type, mount.source ?? '')

  const plan: MountPlan = {
    kind,
    source: '',
    target,
    type: '',
    options: [],
    setAttributes: options.set,
    clearAttributes: options.clear,
    setAttributesRecursive: options.setRecursive,
    clearAttributesRecursive: options.clearRecursive,
    propagation: options.propagation,
    recursive: options.recursive,
    copyUp: options.copyUp,
    optional: false,
  }
  const idmap = idmapOf(field, mount, options, context)
  if (idmap !== undefined && kind !== 'bind')
    throw unsupported(`${field}: idmap of other than a bind mount`)
  if (options.copyUp && (kind !== 'new' || type !== 'tmpfs')) {
    throw invalid(`${field}.options`, 'tmpcopyup is for a tmpfs')
  }
  switch (kind) {
    case 'bind':
      warnOfData(field, 'bind mount', options, context)
      return {
        ...plan,
        source: sourceOf(field, mount, context),
        // A clone of a shared mount is its peer: without a choice, mounts made inside would appear on the host.
        propagation: options.propagation || MS.PRIVATE | MS.REC,
        ...(idmap === undefined ? {} : { idmap }),
      }
    case 'remount':
      warnOfData(field, 'remount', options, context)
      return plan
    case 'new':
      if (type === 'overlay' && options.data.some((option) => option.startsWith(LAYER))) {
        return layersMount(field, plan, options)
      }
      return {
        ...plan,
        type,
        source: text(`${field}.source`, mount.source ?? type, PATH_BYTES_MAX),
        options: fileSystemOptions(field, type, options, context),
        // A kernel may be built without POSIX message queues; nobody has asked for them by name.
        optional: type === 'mqueue',
      }
  }
}

/** overlayfs's own option for one layer, and ours for a path inside all of them. */
const LAYER = 'lowerdir+='
const LAYERS_PATH = 'berth.path='
/** overlayfs refuses more (OVL_MAX_STACK). */
const LAYERS_MAX = 500

/**
 * Layers without an upper directory: a view of them that is made on the host, since a user namespace may not reach them, and bound; as long a list as the
 * root's may be, on every kernel.
 */
function layersMount(field: string, plan: MountPlan, options: Options): MountPlan {
  const lower: string[] = []
  let source = '/'
  for (const [i, option] of options.data.entries()) {
    const at = `${field}.options[${i}]`
    if (option.startsWith(LAYER)) lower.push(absolute(at, option.slice(LAYER.length)))
    else if (option.startsWith(LAYERS_PATH)) source = absolute(at, option.slice(LAYERS_PATH.length))
    else throw unsupported(`${at} ${show(option)}`, `goes not with ${LAYER}`)
  }
  return {
    ...plan,
    kind: 'bind',
    source,
    lower: list(`${field}.options`, lower, LAYERS_MAX),
    setAttributes: plan.setAttributes | MOUNT_ATTR.RDONLY,
    clearAttributes: plan.clearAttributes & ~MOUNT_ATTR.RDONLY,
    propagation: plan.propagation || MS.PRIVATE,
  }
}

function targetOf(field: string, mount: Mount): string {
  const path = text(`${field}.destination`, mount.destination, PATH_BYTES_MAX)
  if (path === '') throw invalid(`${field}.destination`, 'is empty')
  // runtime-spec: a relative destination is deprecated and means one below "/".
  return clean(`/${path}`).replace(/^\/+/, '/')
}

/** Whether `target` and `source` keep /proc what the rest of the setup takes it for (CVE-2019-16884). */
function checkTarget(
  field: string,
  target: string,
  kind: MountPlan['kind'],
  type: string,
  source: string,
): void {
  if (target === '/' && kind !== 'remount') {
    throw invalid(`${field}.destination`, 'a mount at / would hide the root file system')
  }
  if (kind === 'remount') return
  if (target === '/proc') {
    if (kind === 'new' ? type === 'proc' : clean(source) === '/proc') return
    throw invalid(field, 'only a proc file system can be at /proc')
  }
  if (target.startsWith('/proc/') && !PROC_FILES.has(target)) {
    throw invalid(field, `cannot mount at ${target}: it is inside /proc`)
  }
}

function kindOf(field: string, type: string, options: Options): MountPlan['kind'] {
  if (options.remount) return 'remount'
  if (options.bind || type === 'bind' || type === 'rbind') return 'bind'
  if (type !== '' && type !== 'none') {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(type)) {
      throw invalid(`${field}.type`, `${show(type)} is no name of a file system`)
    }
    return 'new'
  }
  // As mount(2) does it: propagation alone is a change of what is there.
  if (options.propagation !== 0 && options.data.length === 0) return 'remount'
  throw invalid(field, 'has neither a type nor the option bind or rbind')
}

function sourceOf(field: string, mount: Mount, { bundle }: MountContext): string {
  const source = text(`${field}.source`, mount.source ?? '', PATH_BYTES_MAX)
  if (source === '') throw invalid(`${field}.source`, 'a bind mount needs one')
  if (source.startsWith('/')) return absolute(`${field}.source`, source)
  if (bundle === undefined)
    throw invalid(`${field}.source`, `${show(source)} is not an absolute path`)
  return join(bundle, source)
}

function idmapOf(
  field: string,
  mount: Mount,
  options: Options,
  { namespaces }: MountContext,
): MountPlan['idmap'] {
  const uids = idMaps(`${field}.uidMappings`, mount.uidMappings)
  const gids = idMaps(`${field}.gidMappings`, mount.gidMappings)
  if (uids.length > 0 !== gids.length > 0) {
    throw invalid(field, 'uidMappings and gidMappings must be given together')
  }
  if (uids.length > 0) return { uids, gids }
  if (!options.idmap) return undefined
  if (namespaces.isOwn('user')) return 'container'
  throw invalid(field, 'idmap needs uidMappings and gidMappings, or a user namespace')
}

/** mount(2) takes no notice of them: a bind mount is another view of a file system that has its options already. */
function warnOfData(field: string, what: string, options: Options, { warn }: MountContext): void {
  const changing = options.superblock.filter((name) => !SUPERBLOCK_OFF.has(name))
  for (const name of [...changing, ...options.data]) {
    warn(
      `${field}.options: ${show(name)} has no effect on a ${what}: it belongs to the file system`,
    )
  }
}

function fileSystemOptions(
  field: string,
  type: string,
  options: Options,
  { namespaces, facts, warn }: MountContext,
): string[] {
  const given = [...options.superblock.filter((name) => name !== 'iversion'), ...options.data]
  if (options.superblock.includes('iversion')) {
    warn(`${field}.options: iversion has no effect: file systems that count versions always do`)
  }
  // The kernel answers EPERM for both and names no reason (fs/sysfs, fs/proc: only with a view of one's own).
  if (namespaces.isOwn('user')) {
    if (type === 'sysfs' && !namespaces.isOwn('network')) {
      throw impossible(
        field,
        "sysfs in a user namespace needs a network namespace too; bind-mount the host's /sys instead",
      )
    }
    if (type === 'proc' && !namespaces.isOwn('pid')) {
      throw impossible(
        field,
        "proc in a user namespace needs a pid namespace too; bind-mount the host's /proc instead",
      )
    }
  }
  if (type === 'cgroup2') {
    if (facts.cgroup2 === undefined) throw impossible(field, 'this host has no cgroup v2')
    // Outside a cgroup namespace a mount without the host's options would take them away from the host.
    if (!namespaces.isOwn('cgroup')) {
      return [...new Set([...given, ...facts.cgroup2.options])]
    }
  }
  const readOnly = (options.set & MOUNT_ATTR.RDONLY) !== 0
  return readOnly && !PSEUDO.has(type) ? ['ro', ...given] : given
}

interface Options {
  set: number
  clear: number
  setRecursive: number
  clearRecursive: number
  propagation: number
  bind: boolean
  recursive: boolean
  remount: boolean
  idmap: boolean
  copyUp: boolean
  /** Names of SUPERBLOCK_ON and SUPERBLOCK_OFF, and iversion. */
  superblock: string[]
  /** What only the file system can know. */
  data: string[]
}

/** Options in their order, a later one winning over an earlier opposite, as mount(8) has it. */
function parseOptions(field: string, given: readonly string[] | undefined): Options {
  const options: Options = {
    set: 0,
    clear: 0,
    setRecursive: 0,
    clearRecursive: 0,
    propagation: 0,
    bind: false,
    recursive: false,
    remount: false,
    idmap: false,
    copyUp: false,
    superblock: [],
    data: [],
  }
  let atime: number | undefined
  let atimeRecursive: number | undefined
  for (const [i, value] of list(field, given, OPTIONS_MAX).entries()) {
    const option = text(`${field}[${i}]`, value, PATH_BYTES_MAX)
    const plain = Object.hasOwn(ATTRIBUTES, option) ? ATTRIBUTES[option] : undefined
    const whole = option.startsWith('r') ? option.slice(1) : ''
    const recursive = Object.hasOwn(ATTRIBUTES, whole) ? ATTRIBUTES[whole] : undefined
    if (plain) {
      const [attribute, on] = plain
      options.set = on ? options.set | attribute : options.set & ~attribute
      options.clear = on ? options.clear & ~attribute : options.clear | attribute
    } else if (recursive) {
      const [attribute, on] = recursive
      options.setRecursive = on
        ? options.setRecursive | attribute
        : options.setRecursive & ~attribute
      options.clearRecursive = on
        ? options.clearRecursive & ~attribute
        : options.clearRecursive | attribute
    } else if (ATIME.has(option)) atime = atimeAfter(atime, option)
    else if (ATIME.has(whole)) atimeRecursive = atimeAfter(atimeRecursive, whole)
    else if (Object.hasOwn(PROPAGATION, option)) {
      const propagation = PROPAGATION[option] ?? 0
      if (options.propagation !== 0 && options.propagation !== propagation) {
        throw invalid(field, `${option} contradicts an earlier choice of propagation`)
      }
      options.propagation = propagation
    } else if (option === 'bind') options.bind = true
    else if (option === 'rbind') options.bind = options.recursive = true
    else if (option === 'remount') options.remount = true
    // Of a tree, all mounts are mapped or none: an inner mount with the host's ids is of no use to anyone.
    else if (option === 'idmap' || option === 'ridmap') options.idmap = true
    else if (option === 'tmpcopyup') options.copyUp = true
    else if (SUPERBLOCK_ON.has(option) || SUPERBLOCK_OFF.has(option) || option === 'iversion') {
      options.superblock.push(option)
    } else if (NOTHING.has(option) || option === '') continue
    else options.data.push(option)
  }
  if (atime !== undefined) {
    options.clear |= MOUNT_ATTR.ATIME
    options.set |= atime
  }
  if (atimeRecursive !== undefined) {
    options.clearRecursive |= MOUNT_ATTR.ATIME
    options.setRecursive |= atimeRecursive
  }
  return options
}

/**
 * The MOUNT_ATTR_ATIME field after one more option. mount(2) knows three bits and gives noatime precedence; with none of them, or an
 * option taken back, relatime is the kernel's default.
 */
function atimeAfter(mode: number | undefined, option: string): number {
  switch (option) {
    case 'noatime':
      return MOUNT_ATTR.NOATIME
    case 'strictatime':
      return MOUNT_ATTR.STRICTATIME
    case 'atime':
      return mode === MOUNT_ATTR.STRICTATIME ? mode : MOUNT_ATTR.RELATIME
    case 'nostrictatime':
      return mode === MOUNT_ATTR.NOATIME ? mode : MOUNT_ATTR.RELATIME
    case 'norelatime':
      return mode ?? MOUNT_ATTR.RELATIME
    default:
      return MOUNT_ATTR.RELATIME
  }
}
