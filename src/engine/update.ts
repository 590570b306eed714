import { Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { updateCgroup } from '../container/index.ts'
import type { Resources } from '../spec/runtime.ts'
import { emit } from './events.ts'
import { monitorOf } from './live.ts'
import type { Engine } from './open.ts'
import type { RunOptions } from './options.ts'
import { lockContainer, readConfig, readRecord, resolveId, writeRecord } from './record.ts'
import { limitResources } from './resources.ts'
import { about } from './start.ts'
import { containerStatus, readRunMark } from './status.ts'
import type { UpdateOptions } from './types.ts'

/** Changes limits of a container, at once where it runs and for every later start. A limit that cannot be set leaves all as they were. */
export async function updateContainer(
  engine: Engine,
  ref: string,
  options: UpdateOptions,
): Promise<void> {
  refuseZero(options)
  const id = resolveId(engine, ref)
  using _lock = await lockContainer(engine, id)
  const record = readRecord(engine, id)
  if (!record) throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
  const { restart, ...limits } = withoutUndefined(options)
  const spec = readConfig(engine, id)
  if (!spec.linux)
    throw new Fault(
      'DATA_LOSS',
      `the configuration of container ${record.name} has no linux section`,
    )
  // Judged together with what is in force: a swap limit alone is above or below the memory limit that is there.
  const { devices, unified, ...before } = spec.linux.resources ?? {}
  const after = merge(before, limitResources({ ...limitsOf(record.options), ...limits }))
  const { state } = containerStatus(engine, record)
  const live = state === 'running' || state === 'paused'
  if (live) await updateCgroup(readRunMark(engine, id)?.cgroup ?? '', after, engine.warn)
  spec.linux.resources = {
    ...after,
    ...(unified ? { unified } : {}),
    ...(devices ? { devices } : {}),
  }
  writeFileAtomic(engine.at.config(id), JSON.stringify(spec), { durable: true })
  writeRecord(engine, {
    ...record,
    options: { ...record.options, ...limits, ...(restart ? { restart } : {}) },
  })
  if (live && restart) {
    const monitor = await monitorOf(engine, record)
    try {
      await monitor.update(id, restart)
    } finally {
      monitor.close()
    }
  }
  emit(engine, about(record, 'update'))
}

/** Without what update cannot change: its devices may have gone meanwhile. */
function limitsOf(options: RunOptions): RunOptions {
  return {
    ...options,
    blkioWeightDevice: [],
    deviceReadBps: [],
    deviceWriteBps: [],
    deviceReadIops: [],
    deviceWriteIops: [],
    oomGroup: undefined,
  }
}

/** 0 would leave the limit in force and the record would say otherwise. */
function refuseZero(limits: UpdateOptions): void {
  const zero = (['memory', 'memorySwap', 'memoryReservation', 'cpuQuota'] as const).find(
    (name) => limits[name] === 0,
  )
  if (zero === undefined) return
  const option = zero.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  throw new Fault(
    'INVALID_ARGUMENT',
    `--${option} 0 is no limit that can be set: give a number above 0${zero === 'memorySwap' || zero === 'cpuQuota' ? ', or -1 for none' : ''}`,
  )
}

function merge(before: Resources, after: Resources): Resources {
  const { devices: _devices, unified: _unified, ...limits } = after
  const memory = { ...before.memory, ...limits.memory }
  const cpu = { ...before.cpu, ...limits.cpu }
  const blockIO = { ...before.blockIO, ...limits.blockIO }
  return {
    ...before,
    ...limits,
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(Object.keys(blockIO).length > 0 ? { blockIO } : {}),
  }
}

function withoutUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T
}
