import { type Dirent, lstatSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { DEFAULT_DEVICE_RULES } from '../spec/defaults.ts'
import type { Device, DeviceRule } from '../spec/runtime.ts'
import type { RunOptions } from './options.ts'
import { splitDevice } from './resources.ts'

/** Devices below one directory given to --device. */
const DEVICES_MAX = 4096
/** Host names that a privileged container gets its own of. */
const OWN = new Set([
  'pts',
  'shm',
  'mqueue',
  'fd',
  'stdin',
  'stdout',
  'stderr',
  'console',
  'ptmx',
  'core',
  'full',
  'null',
  'random',
  'tty',
  'urandom',
  'zero',
  'log',
])

interface HostDevice {
  readonly device: Device
  readonly access: string
}

type AskedDevices = Pick<RunOptions, 'devices' | 'privileged'>

/** linux.devices of the options: --device's, and with --privileged every device of the host. `option` is what messages name. */
export function deviceList(options: AskedDevices, option = '--device'): Device[] {
  const devices = options.privileged ? hostDevices('/dev', '/dev', 'rwm') : []
  const asked = options.devices.flatMap((device) => askedDevices(device, option))
  const byPath = new Map([...devices, ...asked].map(({ device }) => [device.path, device]))
  return [...byPath.values()]
}

/** The cgroup's device rules: nothing but docker's defaults and what --device allows; everything with --privileged. */
export function deviceRules(options: AskedDevices, option = '--device'): DeviceRule[] {
  if (options.privileged) return [{ allow: true, access: 'rwm' }]
  const asked = options.devices
    .flatMap((device) => askedDevices(device, option))
    .map(({ device, access }) => ({
      allow: true,
      type: device.type,
      major: device.major ?? 0,
      minor: device.minor ?? 0,
      access,
    }))
  return [{ allow: false, access: 'rwm' }, ...DEFAULT_DEVICE_RULES, ...asked]
}

function askedDevices(
  { source, target, access }: RunOptions['devices'][number],
  option: string,
): HostDevice[] {
  let stat: ReturnType<typeof statSync>
  try {
    stat = statSync(source)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Fault('NOT_FOUND', `${option}: no device ${source} on this host`)
  }
  if (stat?.isDirectory()) return hostDevices(source, target, access)
  const device = deviceAt(source, target, true)
  if (!device) throw new Fault('INVALID_ARGUMENT', `${option}: ${source} is no device`)
  return [{ device, access }]
}

/** All device nodes below a directory of the host, as deep as it goes; links are not followed. */
function hostDevices(source: string, target: string, access: string): HostDevice[] {
  const found: HostDevice[] = []
  const walk = (from: string, to: string): void => {
    for (const entry of readdirSync(from, { withFileTypes: true }) as Dirent[]) {
      if (from === '/dev' && OWN.has(entry.name)) continue
      const path = join(from, entry.name)
      if (entry.isDirectory()) walk(path, join(to, entry.name))
      else if (entry.isCharacterDevice() || entry.isBlockDevice()) {
        const device = deviceAt(path, join(to, entry.name), false)
        if (device) found.push({ device, access })
      }
      if (found.length > DEVICES_MAX) {
        throw new Fault('RESOURCE_EXHAUSTED', `${source} holds more than ${DEVICES_MAX} devices`)
      }
    }
  }
  walk(source, target)
  return found
}

function deviceAt(path: string, target: string, follow: boolean): Device | undefined {
  const stat = (follow ? statSync : lstatSync)(path, { throwIfNoEntry: false })
  // A device that is unplugged between listing and looking is no longer there to give.
  if (!stat) return
  if (!stat.isBlockDevice() && !stat.isCharacterDevice()) return
  return {
    path: target,
    type: stat.isBlockDevice() ? 'b' : 'c',
    ...splitDevice(stat.rdev),
    fileMode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
  }
}
