import type { Linux } from '../spec/runtime.ts'
import { impossible, invalid, show, unsupported } from './check.ts'
import type { Namespaces } from './namespaces.ts'

/** IFNAMSIZ of the kernel, its NUL included. */
const NAME_BYTES_MAX = 16
const DEVICES_MAX = 1024

/** An interface of the host, and its name in the container. */
export interface NetDevicePlan {
  readonly name: string
  readonly newName: string
}

export function planNetDevices(linux: Linux | undefined): NetDevicePlan[] {
  const devices = Object.entries(linux?.netDevices ?? {})
  if (devices.length > DEVICES_MAX) {
    throw invalid('linux.netDevices', `has more than ${DEVICES_MAX} entries`)
  }
  const planned = devices.map(([name, device]) => {
    const field = `linux.netDevices[${show(name)}]`
    return { name: nameOf(field, name), newName: nameOf(`${field}.name`, device?.name || name) }
  })
  if (new Set(planned.map(({ newName }) => newName)).size < planned.length) {
    throw invalid('linux.netDevices', 'two have the same name in the container')
  }
  return planned
}

/** Only who makes the container by himself moves them (`isAble`). */
export function checkNetDevices(linux: Linux, namespaces: Namespaces, isAble: boolean): void {
  if (planNetDevices(linux).length === 0) return
  if (!isAble) throw unsupported('linux.netDevices')
  if (!namespaces.isOwn('network')) {
    throw impossible('linux.netDevices', "need a network namespace that is not the host's")
  }
}

/** As the kernel's dev_valid_name; and no template, whose outcome only the kernel would know. */
function nameOf(field: string, name: unknown): string {
  const good =
    typeof name === 'string' &&
    name !== '.' &&
    name !== '..' &&
    Buffer.byteLength(name) < NAME_BYTES_MAX &&
    /^[^\s/:%\0]+$/.test(name)
  if (good) return name
  throw invalid(field, `${show(name)} is no name of a network interface`)
}
