import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, Fault, isErrno } from '../base/fault.ts'
import { checkVersion } from './version.ts'

/** A plugin's part of a network: its type, and whatever else is the plugin's own business. */
export interface PluginConf {
  readonly type: string
  readonly capabilities?: Readonly<Record<string, boolean>>
  readonly [key: string]: unknown
}

/** A network: plugins called one after the other. */
export interface NetworkConf {
  readonly name: string
  /** What is spoken with the plugins, unless `cniVersions` leaves a choice. */
  readonly cniVersion: string
  /** More than one: the newest that all plugins know is taken. */
  readonly cniVersions: readonly string[]
  readonly disableCheck: boolean
  readonly disableGC: boolean
  readonly plugins: readonly PluginConf[]
  /** Where it comes from; '' for the built-in one. */
  readonly file: string
}

/** A file of the configuration directory that cannot be used, and why. */
export interface BadConf {
  readonly file: string
  readonly reason: string
}

export const CONF_DIRECTORY = '/etc/cni/net.d'
export const CONF_BYTES_MAX = 1024 * 1024
export const CONF_FILES_MAX = 256
export const PLUGINS_MAX = 64
const EXTENSIONS = ['.conflist', '.conf', '.json']
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,255}$/

/**
 * The network that the command line uses where none is configured: a bridge with addresses from a range that docker
 * and podman do not take by themselves. Its plugins are those of Debian's containernetworking-plugins.
 */
export const BUILT_IN: NetworkConf = {
  name: 'bridge',
  cniVersion: '1.0.0',
  cniVersions: ['0.4.0', '1.0.0'],
  disableCheck: false,
  disableGC: false,
  file: '',
  plugins: [
    {
      type: 'bridge',
      bridge: 'berth0',
      isGateway: true,
      ipMasq: true,
      hairpinMode: true,
      capabilities: { mac: true, ips: true },
      ipam: {
        type: 'host-local',
        // Of the machine, as the bridge is, whatever the roots; and gone after a reboot, as the bridge is. host-local adds the name.
        dataDir: '/run/cni/berth',
        ranges: [[{ subnet: '10.89.0.0/16' }]],
        routes: [{ dst: '0.0.0.0/0' }],
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
  ],
}

/**
 * All networks of a directory, in lexical order of their files; of two with one name the first counts. A file that
 * cannot be used does not hide the others: it is listed in `bad`. A missing directory holds nothing.
 */
export function loadNetworks(
  directory: string = CONF_DIRECTORY,
  read: (file: string) => NetworkConf = readConf,
): { networks: NetworkConf[]; bad: BadConf[] } {
  const networks: NetworkConf[] = []
  const bad: BadConf[] = []
  for (const name of confFiles(directory)) {
    const file = join(directory, name)
    try {
      const conf = read(file)
      const other = networks.find((network) => network.name === conf.name)
      if (other) bad.push({ file, reason: `network ${conf.name} is already in ${other.file}` })
      else networks.push(conf)
    } catch (error) {
      bad.push({ file, reason: describe(error).replace(`${file}: `, '') })
    }
  }
  return { networks, bad }
}

/**
 * The network of this name. 'bridge' is the built-in one where no file defines it. A file that should define
 * the network and is damaged is named in the error.
 */
export function findNetwork(name: string, directory: string = CONF_DIRECTORY): NetworkConf {
  const { networks, bad } = loadNetworks(directory)
  const found = networks.find((network) => network.name === name)
  if (found) return found
  if (name === BUILT_IN.name) return BUILT_IN
  const known = [...new Set([...networks.map((network) => network.name), BUILT_IN.name])]
  const damaged = bad.map((conf) => `; ${conf.file} cannot be used: ${conf.reason}`).join('')
  throw new Fault(
    'NOT_FOUND',
    `no network is named "${name}" in ${directory} (known: ${known.join(', ')})${damaged}`,
  )
}

/** A conflist, or a single plugin's conf as a list of one. INVALID_ARGUMENT names the file and the field. */
export function parseConf(text: string, file: string): NetworkConf {
  const bad = (reason: string): Fault => new Fault('INVALID_ARGUMENT', `${file}: ${reason}`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Fault('INVALID_ARGUMENT', `${file}: no valid JSON`, { cause: error })
  }
  if (!isObject(value)) throw bad('not a JSON object')
  const { name } = value
  if (typeof name !== 'string') throw bad('"name" is missing')
  if (!NAME.test(name)) throw bad(`"${name}" is no name for a network`)
  const single = !('plugins' in value)
  const list = single ? [value] : value['plugins']
  if (!Array.isArray(list) || list.length === 0) throw bad('"plugins" must be a list of plugins')
  if (list.length > PLUGINS_MAX) throw bad(`more than ${PLUGINS_MAX} plugins`)
  const cniVersion = value['cniVersion'] ?? '0.1.0'
  if (typeof cniVersion !== 'string') throw bad('"cniVersion" is not text')
  const cniVersions = value['cniVersions'] ?? [cniVersion]
  if (!Array.isArray(cniVersions) || !cniVersions.every((v) => typeof v === 'string')) {
    throw bad('"cniVersions" is not a list of versions')
  }
  // A version of the list that berth does not know may be used by somebody else; one in "cniVersion" must be ours.
  if (!('cniVersions' in value)) checkVersion(cniVersion, file)
  return {
    name,
    cniVersion,
    cniVersions: [...new Set([...cniVersions, cniVersion])],
    disableCheck: flag(value, 'disableCheck', bad),
    disableGC: flag(value, 'disableGC', bad),
    plugins: list.map((plugin, index) => pluginConf(plugin, index, bad)),
    file,
  }
}

function confFiles(directory: string): string[] {
  try {
    const names = readdirSync(directory)
      .filter((name) => EXTENSIONS.some((extension) => name.endsWith(extension)))
      .sort()
    if (names.length <= CONF_FILES_MAX) return names
    throw new Fault('RESOURCE_EXHAUSTED', `${directory} holds more than ${CONF_FILES_MAX} networks`)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

/** The network of one file. */
export function readConf(file: string): NetworkConf {
  const stat = statSync(file)
  if (!stat.isFile()) throw new Fault('INVALID_ARGUMENT', 'not a file')
  if (stat.size > CONF_BYTES_MAX) {
    throw new Fault('RESOURCE_EXHAUSTED', `larger than ${CONF_BYTES_MAX} bytes`)
  }
  return parseConf(readFileSync(file, 'utf8'), file)
}

function pluginConf(value: unknown, index: number, bad: (reason: string) => Fault): PluginConf {
  if (!isObject(value)) throw bad(`plugin ${index} is not a JSON object`)
  const { type, capabilities } = value
  if (typeof type !== 'string' || type === '') throw bad(`plugin ${index} has no "type"`)
  // The type becomes a file name: a slash would leave the plugin directories.
  if (!/^[^/\0]+$/.test(type) || type === '.' || type === '..') {
    throw bad(`"${type}" is no plugin's type`)
  }
  if (capabilities !== undefined) {
    if (!isObject(capabilities) || !Object.values(capabilities).every((v) => v === !!v)) {
      throw bad(`"capabilities" of plugin ${type} must hold true and false only`)
    }
  }
  return value as unknown as PluginConf
}

function flag(
  value: Record<string, unknown>,
  key: string,
  bad: (reason: string) => Fault,
): boolean {
  const given = value[key] ?? false
  // The specification asks for a boolean; a text form is in wide use and accepted by the reference implementation.
  if (given === 'true' || given === 'false') return given === 'true'
  if (typeof given !== 'boolean') throw bad(`"${key}" is neither true nor false`)
  return given
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
