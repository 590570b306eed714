import { existsSync, readdirSync } from 'node:fs'
import { describe } from '../base/fault.ts'
import { isMonitorAlive, type MonitorStatus } from '../container/monitor.ts'
import type { Engine } from '../engine/open.ts'
import { isId } from '../engine/record.ts'
import { attachedNetworks } from '../network/index.ts'
import { Pod } from './model.ts'
import { orderAddresses } from './network-address.ts'
import { type PodPaths, podPaths } from './paths.ts'
import {
  isOnlyAhead,
  readContainerRecord,
  readExit,
  readPodRecord,
  readRunMark,
  readStatus,
} from './records.ts'
import { CREATED, exitedStatus, lostExit } from './status.ts'
import type { ContainerRecord, ContainerStatus, PodRecord } from './types.ts'

export interface ListedPod {
  readonly record: PodRecord
  readonly isReady: boolean
  /** In the order of the CNI plugins; none with the host's network. */
  readonly addresses: readonly string[]
  /** The oldest first. */
  readonly containers: readonly ListedContainer[]
}

export interface ListedContainer {
  readonly record: ContainerRecord
  readonly status: ContainerStatus
}

/**
 * The pods of this machine, the newest first, by what is on the disk and what their monitors have written: with a daemon or without one. Nothing is changed, and
 * nobody is asked or waited for. What cannot be read is told, and the rest listed.
 */
export function listPods(engine: Engine): ListedPod[] {
  const at = podPaths(engine)
  const told = <T>(act: () => T | undefined): T | undefined => {
    try {
      return act()
    } catch (error) {
      engine.warn(describe(error))
      return
    }
  }
  return idsIn(at.pods)
    .flatMap((id) => told(() => listedPod(at, id, told)) ?? [])
    .sort((a, b) => byAge(b, a))
}

/** What it gives; undefined where it fails, which is told. */
type Told = <T>(act: () => T | undefined) => T | undefined

/** Undefined where it is just being made or removed. */
function listedPod(at: PodPaths, id: string, told: Told): ListedPod | undefined {
  const record = readPodRecord({ at }, id)
  if (!record) return
  const directory = at.monitor(id)
  const said = isMonitorAlive(directory) ? readStatus(directory) : undefined
  const pod = new Pod(record)
  pod.stopped = existsSync(at.stopped(id))
  pod.held = said?.namespaces ?? {}
  const containers = idsIn(at.containers(id)).flatMap(
    (each) => told(() => listedContainer(at, pod, each, said)) ?? [],
  )
  return {
    record,
    isReady: said !== undefined && !pod.stopped && !pod.hasLostPids,
    addresses: told(() => addressesOf(at, id)) ?? [],
    containers: containers.sort(byAge),
  }
}

function listedContainer(
  at: PodPaths,
  pod: Pod,
  id: string,
  said: MonitorStatus | undefined,
): ListedContainer | undefined {
  const record = readContainerRecord({ at }, pod.id, id)
  return record && { record, status: statusOf(at, pod, record, said) }
}

/** The living monitor's word; else the exit record; else, where a start is marked, it was lost with its monitor; else it was never started. */
function statusOf(
  at: PodPaths,
  pod: Pod,
  record: ContainerRecord,
  said: MonitorStatus | undefined,
): ContainerStatus {
  const { id } = record
  const own = said?.containers[id]
  if (own?.state === 'running')
    return { ...CREATED, state: 'running', pid: own.pid, startedNs: own.startedNs }
  if (isOnlyAhead({ at }, pod.id, id)) return CREATED
  const exit = readExit(at.exit(pod.id, id))
  if (exit) return exitedStatus(exit)
  const mark = readRunMark({ at }, { pod, id })
  // With a monitor its start is under way, or its end is not on the disk yet.
  if (!mark || (said && own?.state !== 'stopped')) return CREATED
  // Nobody knows when.
  return { ...exitedStatus(lostExit({ id, record }, mark)), finishedNs: '0' }
}

function addressesOf(at: PodPaths, id: string): string[] {
  const [first] = attachedNetworks(at.networks, id)
  return first ? orderAddresses(first.result, 'cni') : []
}

const idsIn = (directory: string): string[] =>
  existsSync(directory) ? readdirSync(directory).filter(isId) : []

interface Aged {
  readonly record: { readonly createdNs: string }
}

const byAge = (a: Aged, b: Aged): number =>
  BigInt(a.record.createdNs) < BigInt(b.record.createdNs) ? -1 : 1
