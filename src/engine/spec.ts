import { readFileSync, statSync } from 'node:fs'
import { hostname as hostHostname } from 'node:os'
import { Fault, isErrno } from '../base/fault.ts'
import {
  ALL_CAPABILITIES,
  DEFAULT_CAPABILITIES,
  DEFAULT_PATH,
  MASKED_PATHS,
  READONLY_PATHS,
} from '../spec/defaults.ts'
import type { ImageConfig } from '../spec/image.ts'
import type { Linux, Process, Resources, Seccomp, Spec } from '../spec/runtime.ts'
import { deviceList, deviceRules } from './devices.ts'
import type { Mappings } from './idmap.ts'
import { mountList, type VolumeMount } from './mounts.ts'
import type { RunOptions } from './options.ts'
import { limitResources } from './resources.ts'

export interface SpecInput {
  readonly id: string
  readonly options: RunOptions
  /** The caller's. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly image: ImageConfig
  readonly mappings: Mappings | undefined
  readonly volumes: readonly VolumeMount[]
  /** Files of ours that become /etc/hosts, /etc/hostname and /etc/resolv.conf; written at every start. */
  readonly etc: { readonly hosts: string; readonly hostname: string; readonly resolv: string }
  readonly rootPath: string
  readonly seccomp: Seccomp | undefined
  /** Paths of the namespaces that are joined; filled at every start for container:ID. */
  readonly namespaces: { type: string; path?: string }[]
  readonly cgroupsPath: string
  readonly annotations: Readonly<Record<string, string>>
}

/**
 * The OCI configuration of a container, from its options and its image's configuration. Looks at the host's devices, and makes a missing source of -v.
 * The user is filled in at start, from the root's own account files.
 */
export function containerSpec(input: SpecInput): Spec {
  const { options, mappings } = input
  const linux: Linux = {
    namespaces: input.namespaces,
    cgroupsPath: input.cgroupsPath,
    resources: resources(options),
    devices: deviceList(options),
    sysctl: options.sysctls,
    ...paths(options),
  }
  if (mappings) Object.assign(linux, mappings)
  if (input.seccomp) linux.seccomp = input.seccomp
  const spec: Spec = {
    ociVersion: '1.3.0',
    process: processOf(input),
    root: { path: input.rootPath, readonly: options.readOnly },
    mounts: mountList(input),
    annotations: { ...input.annotations, ...options.annotations },
    linux,
  }
  if (hasOwn(input.namespaces, 'uts')) spec.hostname = hostnameOf(input)
  if (options.domainname !== undefined) spec.domainname = options.domainname
  return spec
}

const hasOwn = (namespaces: readonly { type: string; path?: string }[], type: string): boolean =>
  namespaces.some((ns) => ns.type === type && ns.path === undefined)

/** --hostname, or the host's with the host's network, or docker's twelve digits of the id. */
export function hostnameOf({ id, options }: Pick<SpecInput, 'id' | 'options'>): string {
  if (options.hostname !== undefined) return options.hostname
  return options.network === 'host' || options.uts === 'host' ? hostHostname() : id.slice(0, 12)
}

/**
 * The program and its arguments: --entrypoint or the image's entrypoint, then the command given or the image's. An entrypoint given drops the
 * image's command (docker's rule).
 */
export function commandOf(options: RunOptions, image: ImageConfig): string[] {
  const entrypoint = options.entrypoint ?? image.config?.Entrypoint ?? []
  const ownCommand = options.entrypoint === undefined ? (image.config?.Cmd ?? []) : []
  const command = [...entrypoint, ...(options.command.length > 0 ? options.command : ownCommand)]
  if (command.length === 0) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `no command to run: the image "${options.image}" names none, so give one after it`,
    )
  }
  return command
}

function processOf(input: SpecInput): Process {
  const { options, image } = input
  const cwd = options.workdir ?? (image.config?.WorkingDir || '/')
  if (!cwd.startsWith('/')) {
    throw new Fault('INVALID_ARGUMENT', `the working directory "${cwd}" is not absolute`)
  }
  const names = capabilities(options)
  const process: Process = {
    terminal: options.terminal,
    user: { uid: 0, gid: 0, username: options.user ?? image.config?.User ?? '' },
    args: commandOf(options, image),
    env: environment(input),
    cwd,
    // Never inheritable or ambient (CVE-2022-24769).
    capabilities: { bounding: names, effective: names, permitted: names },
    noNewPrivileges: options.noNewPrivileges,
    rlimits: options.ulimits.map(({ name, soft, hard }) => ({
      type: `RLIMIT_${name.toUpperCase()}`,
      soft,
      hard,
    })),
  }
  if (options.umask !== undefined) process.user.umask = options.umask
  if (options.oomScoreAdj !== undefined) process.oomScoreAdj = options.oomScoreAdj
  if (options.apparmor !== undefined && options.apparmor !== 'unconfined') {
    process.apparmorProfile = options.apparmor
  }
  return process
}

/** Later values win: our own, the image's, the options'. `K` alone takes the caller's value or none. */
function environment(input: SpecInput): string[] {
  const { options, image } = input
  const values = new Map<string, string>([['PATH', DEFAULT_PATH]])
  if (options.terminal) values.set('TERM', 'xterm')
  values.set('HOSTNAME', hostnameOf(input))
  for (const entry of image.config?.Env ?? []) set(entry, undefined)
  for (const entry of options.env) set(entry, input.env)
  function set(entry: string, caller: SpecInput['env'] | undefined): void {
    const at = entry.indexOf('=')
    const key = at < 0 ? entry : entry.slice(0, at)
    if (key === '') throw new Fault('INVALID_ARGUMENT', `the variable "${entry}" has no name`)
    const value = at < 0 ? caller?.[key] : entry.slice(at + 1)
    if (value === undefined) {
      if (caller) values.delete(key)
    } else values.set(key, value)
  }
  return [...values].map(([key, value]) => `${key}=${value}`)
}

/** --privileged or the default set, all taken or dropped with ALL, then single ones; a drop wins over an add of the same. */
export function capabilities(
  options: Pick<RunOptions, 'privileged' | 'capAdd' | 'capDrop'>,
  defaults: readonly string[] = DEFAULT_CAPABILITIES,
): string[] {
  const add = options.capAdd.map(capabilityName)
  const drop = options.capDrop.map(capabilityName)
  const all = options.privileged || add.includes('CAP_ALL')
  const start = drop.includes('CAP_ALL')
    ? []
    : all
      ? ALL_CAPABILITIES
      : defaults.map(capabilityName)
  const chosen = new Set<string>(start)
  for (const name of add) if (name !== 'CAP_ALL') chosen.add(name)
  for (const name of drop) chosen.delete(name)
  return [...chosen]
}

function capabilityName(text: string): string {
  const upper = text.toUpperCase()
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (name !== 'CAP_ALL' && !ALL_CAPABILITIES.includes(name)) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `"${text}" is no capability; see capabilities(7) for the names`,
    )
  }
  return name
}

function resources(options: RunOptions): Resources {
  return { ...limitResources(options), devices: deviceRules(options) }
}

function paths(options: RunOptions): Pick<Linux, 'maskedPaths' | 'readonlyPaths'> {
  if (options.privileged) return { maskedPaths: [...options.mask], readonlyPaths: [] }
  const all = options.unmask.includes('ALL') || options.unmask.includes('all')
  const kept = (path: string): boolean => !all && !options.unmask.includes(path)
  return {
    maskedPaths: [...MASKED_PATHS.filter(kept), ...options.mask],
    readonlyPaths: READONLY_PATHS.filter(kept),
  }
}

const PROFILE_BYTES_MAX = 4 * 1024 * 1024

/** A seccomp profile of the user, in docker's or the OCI's form. The file is the caller's own, but a limit keeps a mistake small. */
export function readProfile(path: string, place = path): unknown {
  try {
    const stat = statSync(place)
    // Reading a fifo would wait for a writer, for ever.
    if (!stat.isFile()) {
      throw new Fault('INVALID_ARGUMENT', `the seccomp profile ${path} is no regular file`)
    }
    if (stat.size > PROFILE_BYTES_MAX) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `the seccomp profile ${path} is larger than ${PROFILE_BYTES_MAX} bytes`,
      )
    }
    return JSON.parse(readFileSync(place, 'utf8'))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new Fault('NOT_FOUND', `no seccomp profile ${path}`, { cause: error })
    }
    if (error instanceof SyntaxError) {
      throw new Fault('INVALID_ARGUMENT', `the seccomp profile ${path} is not valid JSON`, {
        cause: error,
      })
    }
    throw error
  }
}
