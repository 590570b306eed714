import { deviceList, deviceRules } from '../engine/devices.ts'
import { absolute, invalid, list, show, unsupported } from '../plan/check.ts'
import type { Device, DeviceRule } from '../spec/runtime.ts'
import type { StoredConfig } from './types.ts'

const DEVICES_MAX = 1024
/** How device plugins named CDI devices before the CRI had a field for them. */
const CDI_ANNOTATION = 'cdi.k8s.io/'

/**
 * linux.devices and the cgroup's rules: the host's nodes at `host_path` (one, or all below a directory), every device where the container is privileged and gets `allOfHost`. Owners and modes
 * are the host's numbers, taken as the container's.
 */
export function containerDevices(
  config: Pick<StoredConfig, 'devices' | 'CDIDevices' | 'annotations'>,
  options: { readonly privileged: boolean; readonly allOfHost: boolean },
): { devices: Device[]; rules: DeviceRule[] } {
  refuseCdi(config)
  const devices = list('devices', config.devices, DEVICES_MAX).map((device, i) => {
    const field = `devices[${i}]`
    const source = absolute(`${field}.host_path`, device.hostPath)
    const { permissions } = device
    if (!/^[rwm]{1,3}$/.test(permissions) || new Set(permissions).size < permissions.length) {
      throw invalid(`${field}.permissions`, `${show(permissions)} is not of r, w and m`)
    }
    return {
      source,
      target: absolute(`${field}.container_path`, device.containerPath),
      access: permissions,
    }
  })
  const { privileged, allOfHost } = options
  const nodes = deviceList({ devices, privileged: privileged && allOfHost }, 'devices')
  return { devices: nodes, rules: deviceRules({ devices, privileged }, 'devices') }
}

function refuseCdi({
  CDIDevices,
  annotations,
}: Pick<StoredConfig, 'CDIDevices' | 'annotations'>): void {
  const [device] = CDIDevices
  if (device) throw unsupported('CDI_devices', `${show(device.name)} is a CDI device`)
  const name = Object.keys(annotations).find((key) => key.startsWith(CDI_ANNOTATION))
  if (name !== undefined) throw unsupported(`annotations[${show(name)}]`, 'it names CDI devices')
}
