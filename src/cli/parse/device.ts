import { isAbsolute } from 'node:path'
import { Fault } from '../../base/fault.ts'
import type { DeviceOption } from '../../engine/options.ts'
import { parseInteger, parseSize } from './size.ts'

/** `--device SOURCE[:TARGET][:rwm]`; a directory stands for the devices in it. */
export function parseDevice(text: string): DeviceOption {
  const bad = (reason: string): Fault => new Fault('INVALID_ARGUMENT', `"${text}": ${reason}`)
  if (/^[^/:]+\/[^/:]+=/.test(text)) throw bad('CDI devices are not supported')
  const [source = '', second, third, ...more] = text.split(':')
  if (more.length > 0) throw bad('more than SOURCE:TARGET:ACCESS')
  if (!isAbsolute(source)) throw bad('the device must be an absolute path')
  const secondIsAccess = second !== undefined && third === undefined && isAccess(second)
  const target = second === undefined || secondIsAccess ? source : second
  const access = secondIsAccess ? second : (third ?? 'rwm')
  if (!isAbsolute(target)) throw bad(`the path in the container, "${target}", must be absolute`)
  if (!isAccess(access)) throw bad(`"${access}" is no access: letters of rwm, each once`)
  return { source, target, access }
}

/** `PATH:RATE` with a size a second (--device-read-bps). */
export function parseByteRate(text: string): { path: string; rate: number } {
  return rate(text, parseSize)
}

/** `PATH:RATE` with operations a second (--device-read-iops). */
export function parseOperationRate(text: string): { path: string; rate: number } {
  return rate(text, parseInteger(1, Number.MAX_SAFE_INTEGER))
}

/** `PATH:WEIGHT`, weight 10 to 1000 (--blkio-weight-device). */
export function parseDeviceWeight(text: string): { path: string; rate: number } {
  return rate(text, parseInteger(10, 1000))
}

function rate(text: string, number: (text: string) => number): { path: string; rate: number } {
  const at = text.lastIndexOf(':')
  const path = text.slice(0, Math.max(at, 0))
  if (!isAbsolute(path)) {
    throw new Fault('INVALID_ARGUMENT', `"${text}" is no DEVICE:VALUE such as /dev/sda:1m`)
  }
  return { path, rate: number(text.slice(at + 1)) }
}

function isAccess(text: string): boolean {
  return /^[rwm]{1,3}$/.test(text) && new Set(text).size === text.length
}
