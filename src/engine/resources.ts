import { statSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'
import type { Resources, Throttle } from '../spec/runtime.ts'
import type { RunOptions } from './options.ts'
import type { UpdateOptions } from './types.ts'

/** The scheduler period that docker and podman use for --cpus, in µs. */
const CPU_PERIOD_US = 100_000
/** The kernel's floor for a quota, in µs. */
const CPU_QUOTA_MIN_US = 1000
/** docker refuses less: the first process could not even start there. */
export const MEMORY_MIN_BYTES = 512 * 1024

type Limits = Omit<UpdateOptions, 'restart'> &
  Partial<
    Pick<
      RunOptions,
      | 'blkioWeightDevice'
      | 'deviceReadBps'
      | 'deviceWriteBps'
      | 'deviceReadIops'
      | 'deviceWriteIops'
      | 'oomGroup'
    >
  >

/** The options' limits as the OCI resources section; only what was asked for is there, and 0 is "not asked" (docker's rule). */
export function limitResources(o: Limits): Resources {
  const resources: Resources = {}
  const memory = memoryLimits(o)
  if (memory) resources.memory = memory
  const cpu = cpuLimits(o)
  if (cpu) resources.cpu = cpu
  if (o.pidsLimit !== undefined) resources.pids = { limit: o.pidsLimit <= 0 ? -1 : o.pidsLimit }
  const blockIO = blockLimits(o)
  if (blockIO) resources.blockIO = blockIO
  if (o.oomGroup) resources.unified = { 'memory.oom.group': '1' }
  return resources
}

function memoryLimits(o: Limits): Resources['memory'] {
  const { memory, memorySwap, memoryReservation } = o
  if (memory === undefined && memorySwap === undefined && memoryReservation === undefined) return
  if (memory !== undefined && memory > 0 && memory < MEMORY_MIN_BYTES) {
    throw new Fault('INVALID_ARGUMENT', `--memory ${memory} is below the minimum of 512 KiB`)
  }
  if (memorySwap !== undefined && memorySwap > 0) {
    if (memory === undefined || memory <= 0) {
      throw new Fault(
        'INVALID_ARGUMENT',
        '--memory-swap needs --memory: it is memory and swap together',
      )
    }
    if (memorySwap < memory) {
      throw new Fault(
        'INVALID_ARGUMENT',
        `--memory-swap ${memorySwap} is below --memory ${memory}: it is memory and swap together`,
      )
    }
  }
  if (
    memory !== undefined &&
    memoryReservation !== undefined &&
    memory > 0 &&
    memoryReservation > memory
  ) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `--memory-reservation ${memoryReservation} is above --memory ${memory}`,
    )
  }
  const limits: NonNullable<Resources['memory']> = {}
  if (memory !== undefined && memory !== 0) limits.limit = memory
  if (memoryReservation !== undefined && memoryReservation !== 0)
    limits.reservation = memoryReservation
  // docker's rule: without a word about swap, as much swap as memory.
  if (memorySwap !== undefined && memorySwap !== 0) limits.swap = memorySwap
  else if (memory !== undefined && memory > 0) limits.swap = memory * 2
  return limits
}

function cpuLimits(o: Limits): Resources['cpu'] {
  const cpu: NonNullable<Resources['cpu']> = {}
  if (o.cpus !== undefined && o.cpus !== 0) {
    if (o.cpuQuota !== undefined || o.cpuPeriod !== undefined) {
      throw new Fault(
        'INVALID_ARGUMENT',
        '--cpus goes not with --cpu-quota or --cpu-period: it sets both',
      )
    }
    cpu.period = CPU_PERIOD_US
    cpu.quota = Math.max(CPU_QUOTA_MIN_US, Math.round(o.cpus * CPU_PERIOD_US))
  }
  if (o.cpuPeriod !== undefined && o.cpuPeriod !== 0) cpu.period = o.cpuPeriod
  if (o.cpuQuota !== undefined && o.cpuQuota !== 0) cpu.quota = o.cpuQuota
  if (o.cpuShares !== undefined && o.cpuShares !== 0) cpu.shares = o.cpuShares
  if (o.cpusetCpus !== undefined && o.cpusetCpus !== '') cpu.cpus = o.cpusetCpus
  if (o.cpusetMems !== undefined && o.cpusetMems !== '') cpu.mems = o.cpusetMems
  return Object.keys(cpu).length > 0 ? cpu : undefined
}

function blockLimits(o: Limits): Resources['blockIO'] {
  const block: NonNullable<Resources['blockIO']> = {}
  if (o.blkioWeight !== undefined && o.blkioWeight !== 0) block.weight = o.blkioWeight
  if (o.blkioWeightDevice?.length) {
    block.weightDevice = o.blkioWeightDevice.map(({ path, rate }) => ({
      ...deviceNumber('--blkio-weight-device', path),
      weight: rate,
    }))
  }
  const throttles = (
    option: string,
    rates: RunOptions['deviceReadBps'] | undefined,
  ): Throttle[] | undefined =>
    rates?.length
      ? rates.map(({ path, rate }) => ({ ...deviceNumber(option, path), rate }))
      : undefined
  const readBps = throttles('--device-read-bps', o.deviceReadBps)
  const writeBps = throttles('--device-write-bps', o.deviceWriteBps)
  const readIops = throttles('--device-read-iops', o.deviceReadIops)
  const writeIops = throttles('--device-write-iops', o.deviceWriteIops)
  if (readBps) block.throttleReadBpsDevice = readBps
  if (writeBps) block.throttleWriteBpsDevice = writeBps
  if (readIops) block.throttleReadIOPSDevice = readIops
  if (writeIops) block.throttleWriteIOPSDevice = writeIops
  return Object.keys(block).length > 0 ? block : undefined
}

function deviceNumber(option: string, path: string): { major: number; minor: number } {
  try {
    const stat = statSync(path)
    if (stat.isBlockDevice()) return splitDevice(stat.rdev)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Fault('NOT_FOUND', `${option}: no device ${path} on this host`)
  }
  throw new Fault('INVALID_ARGUMENT', `${option}: ${path} is not a block device`)
}

/** Linux's dev_t, as glibc's major() and minor() take it apart. */
export function splitDevice(rdev: number): { major: number; minor: number } {
  const wide = BigInt(rdev)
  return {
    major: Number(((wide >> 8n) & 0xfffn) | ((wide >> 32n) & 0xfffff000n)),
    minor: Number((wide & 0xffn) | ((wide >> 12n) & 0xffffff00n)),
  }
}
