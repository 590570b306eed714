import { Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { updateGroup } from '../cgroup/index.ts'
import type { Resources } from '../spec/runtime.ts'
import { withDevices } from './cgroup.ts'
import { documentText } from './config.ts'
import { lockContainer, type Place, readKeptConfig, readRecord } from './record.ts'
import { statusOf } from './status.ts'

/** Options of `update`; bytes may have a unit. */
export interface UpdateOptions {
  readonly blkioWeight?: string
  readonly cpuPeriod?: string
  readonly cpuQuota?: string
  readonly cpuBurst?: string
  readonly cpuShare?: string
  readonly cpuIdle?: string
  readonly cpusetCpus?: string
  readonly cpusetMems?: string
  readonly memory?: string
  readonly memoryReservation?: string
  readonly memorySwap?: string
  readonly pidsLimit?: string
}

export function resourcesOf(o: UpdateOptions): Resources {
  const number = (name: string, text: string | undefined): number | undefined => {
    if (text === undefined) return undefined
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(Number(text))) {
      throw new Fault('INVALID_ARGUMENT', `--${name}: ${JSON.stringify(text)} is no whole number`)
    }
    return Number(text)
  }
  const cpu = defined({
    shares: number('cpu-share', o.cpuShare),
    quota: number('cpu-quota', o.cpuQuota),
    period: number('cpu-period', o.cpuPeriod),
    burst: number('cpu-burst', o.cpuBurst),
    idle: number('cpu-idle', o.cpuIdle),
    cpus: o.cpusetCpus,
    mems: o.cpusetMems,
  })
  const memory = defined({
    limit: bytes('memory', o.memory),
    reservation: bytes('memory-reservation', o.memoryReservation),
    swap: bytes('memory-swap', o.memorySwap),
  })
  const weight = number('blkio-weight', o.blkioWeight)
  const limit = number('pids-limit', o.pidsLimit)
  return {
    ...(cpu ? { cpu } : {}),
    ...(memory ? { memory } : {}),
    ...(weight === undefined ? {} : { blockIO: { weight } }),
    ...(limit === undefined ? {} : { pids: { limit } }),
  }
}

const UNITS: Readonly<Record<string, number>> = { '': 0, k: 10, m: 20, g: 30, t: 40 }

/** -1 is no limit; otherwise a number with a unit of 1024s. */
function bytes(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (text === '-1') return -1
  const match = /^(\d+)([kmgt]?)(?:i?b)?$/i.exec(text)
  const value = Number(match?.[1]) * 2 ** (UNITS[match?.[2]?.toLowerCase() ?? ''] ?? Number.NaN)
  if (!Number.isSafeInteger(value)) {
    throw new Fault('INVALID_ARGUMENT', `--${name}: ${JSON.stringify(text)} is no size`)
  }
  return value
}

function defined<T extends object>(given: T): { [K in keyof T]?: NonNullable<T[K]> } | undefined {
  const entries = Object.entries(given).filter(([, value]) => value !== undefined)
  if (entries.length === 0) return undefined
  return Object.fromEntries(entries) as { [K in keyof T]?: NonNullable<T[K]> }
}

/** Changes limits, all of them or none; what is not named stays as it was. */
export async function updateContainer(
  place: Place,
  changes: Resources,
  warn: (message: string) => void,
): Promise<void> {
  using _lock = await lockContainer(place)
  const record = readRecord(place)
  const status = await statusOf(place, record)
  if (status === 'stopped' || status === 'creating') {
    throw new Fault('FAILED_PRECONDITION', `cannot update container ${record.id}: it is ${status}`)
  }
  const spec = readKeptConfig(place)
  const before = spec.linux?.resources ?? {}
  const after: Resources = {
    ...before,
    ...changes,
    // cgroup v2 keeps quota with period, and swap with memory, in one value.
    ...(changes.cpu ? { cpu: { ...before.cpu, ...changes.cpu } } : {}),
    ...(changes.memory ? { memory: { ...before.memory, ...changes.memory } } : {}),
  }
  const touched = Object.fromEntries(
    Object.entries(after).filter(([name]) => Object.hasOwn(changes, name)),
  ) as Resources
  const warnings = await updateGroup(
    record.cgroup,
    changes.devices ? withDevices(touched) : touched,
  )
  for (const warning of warnings) warn(warning)
  const kept = { ...spec, linux: { ...spec.linux, resources: after } }
  writeFileAtomic(place.config, documentText(kept))
}
