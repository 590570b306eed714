import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { hostname as hostHostname } from 'node:os'
import { nowNs } from '../base/clock.ts'
import { describe, Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { type Stage, untold } from '../base/stage.ts'
import { Undo } from '../base/undo.ts'
import { cgroupHost, createGroup } from '../cgroup/index.ts'
import { destroyCgroup } from '../container/index.ts'
import { type HeldNamespaces, isMonitorAlive, type Monitor } from '../container/monitor.ts'
import { removeTree } from '../engine/trees.ts'
import type { NetworkResult } from '../network/index.ts'
import type { PodSandboxConfig } from '../spec/cri.ts'
import { SHM_SIZE } from '../spec/defaults.ts'
import type { NamespacesPlan, NamespaceType } from '../spec/plan.ts'
import { adopt } from './adopt.ts'
import { containersParent, holdPodScope, podPlace } from './cgroup.ts'
import { killMonitor, unlessHung } from './hung.ts'
import { Pod } from './model.ts'
import { invalid, isSame, podName } from './names.ts'
import { podNamespaces, takesHeldAhead } from './namespaces.ts'
import { writePodEtc } from './network-etc.ts'
import type { Node } from './node.ts'
import { cgroupOf } from './records.ts'
import { removeParent } from './remove.ts'
import { endPodMonitor } from './stop-pod.ts'
import type { PodRecord } from './types.ts'
import { checkPodUser } from './user.ts'

/** The name of the one handler that is always there; '' is it, too. */
export const DEFAULT_HANDLER = 'berth'

/**
 * Makes a pod: the namespaces that its containers share, held by a monitor, and its network. Asked again with the same name while it is under way, or after
 * it was made and its answer was lost, it gives the same pod.
 */
export async function runPod(
  node: Node,
  config: PodSandboxConfig,
  runtimeHandler: string,
  stage = untold,
): Promise<string> {
  using _starting = node.monitors.starting()
  const name = podName(config.metadata)
  if (
    runtimeHandler !== '' &&
    runtimeHandler !== DEFAULT_HANDLER &&
    !node.settings.handlers.has(runtimeHandler)
  )
    throw new Fault('NOT_FOUND', `no runtime handler "${runtimeHandler}" is configured`)
  const mustBeAsked = (made: Pod): string => {
    const { record, isReady, id } = made
    if (isReady && record.runtimeHandler === runtimeHandler && isSame(record.config, config))
      return id
    throw new Fault(
      'ALREADY_EXISTS',
      `the name ${name} is taken by pod ${id.slice(0, 12)}: remove that one, or ask with another attempt`,
    )
  }
  const id = await node.creations.join(`pod ${name}`, async () => {
    const made = [...node.pods.values()].find((pod) => podName(pod.record.config.metadata) === name)
    if (made) return mustBeAsked(made)
    const make = (): Promise<string> => makePod(node, config, runtimeHandler, stage)
    return make().catch((error) => {
      if (!(error instanceof SpareFault)) throw error
      node.warn(`pod ${name} is made once more: ${describe(error)}`)
      return make()
    })
  })
  // Whoever has joined may have asked for something else.
  return mustBeAsked(node.mustPod(id))
}

/** The monitor that had waited hangs, or has just died; nothing is left of the pod, and another monitor will do. */
class SpareFault extends Fault {}

async function makePod(
  node: Node,
  config: PodSandboxConfig,
  runtimeHandler: string,
  stage: Stage,
): Promise<string> {
  const { at } = node
  const kind = takesHeldAhead(config) ? 'holding' : 'bare'
  const id = node.monitors.nextId(kind)
  const hasWaited = node.monitors.isSpare(id)
  const place = podPlace(node.settings.cgroupDriver, config.linux?.cgroupParent ?? '', id)
  checkPodUser(config.linux?.securityContext ?? null)
  const { plan, mappings, hostname } = podNamespaces(config, { id, hostname: hostHostname() })
  const record: PodRecord = {
    version: 1,
    id,
    createdNs: String(nowNs()),
    config,
    runtimeHandler,
    hostname,
    ...place,
    ...(mappings ? { mappings } : {}),
  }
  const pod = new Pod(record)

  await using undo = new Undo((what, error) => node.warn(`${what}: ${describe(error)}`))
  undo.push('the pod', () => removeTree(at.pod(id)))
  undo.push('the state directory', () => rmSync(at.monitor(id), { recursive: true, force: true }))
  stage('monitor')
  const { monitor: starting, container } = node.monitors.take(id, kind)
  pod.preparedContainer = container
  undo.push('the monitor', async () => {
    pod.monitor ??= await starting.catch(() => undefined)
    await endPodMonitor(node, pod)
  })
  writeFileAtomic(at.making(id), JSON.stringify(record), { prepared: true })
  undo.push('the cgroup parent', () => removeParent(record))
  const parent = containersParent(record)
  // Also one that is only half made.
  if (holds(plan, 'pid')) undo.push('the cgroup', () => destroyCgroup(cgroupOf(parent, id)))
  const hold = async (monitor: Monitor, held: NamespacesPlan): Promise<HeldNamespaces> => {
    try {
      return await unlessHung(
        at.monitor(id),
        monitor.holdNamespaces(held, { more: kind === 'holding' }),
      )
    } catch (error) {
      if (!hasWaited || !(error instanceof Fault) || error.code !== 'UNAVAILABLE') throw error
      if (isMonitorAlive(at.monitor(id))) killMonitor(at.monitor(id), id, node.engine.warn)
      throw new SpareFault(error.code, error.message, { cause: error.cause })
    }
  }
  // Both beside what follows; their failures are told where they are needed.
  const scope = starting.then(() => holdPodScope(node, pod))
  scope.catch(() => {})
  const holding = starting.then(async (monitor) => {
    pod.monitor = monitor
    stage('namespaces')
    const held = { ...plan, ...(holds(plan, 'ipc') ? { sharedMemoryBytes: SHM_SIZE } : {}) }
    if (!holds(plan, 'pid')) return hold(monitor, held)
    await scope
    const { directory } = await createGroup(cgroupHost(), { parent, name: id, resources: {} })
    return hold(monitor, { ...held, cgroup: directory })
  })
  undo.push('the namespaces', () => holding.catch(() => {}))
  // A monitor that was there already is asked first.
  await Promise.resolve()
  makeLogDirectory(config)
  const isAlone = !holds(plan, 'network')
  if (isAlone) writeEtc(node, pod)
  pod.held = await holding
  if (!isAlone) {
    const netns = pod.held.network ?? ''
    undo.push('the network', () => node.networks.detach(id, { netns }))
    const { addresses, result } = await node.networks.attach(record, { netns, stage })
    pod.addresses = addresses
    writeEtc(node, pod, result)
  }
  await scope
  // Last: a pod without a record is one that was never made.
  renameSync(at.making(id), at.podRecord(id))
  undo.keep()
  adopt(node, pod)
  node.emit('created', pod, id)
  node.emit('started', pod, id)
  return id
}

function writeEtc(node: Node, { id, record, addresses }: Pod, result?: NetworkResult): void {
  const warning = writePodEtc(node.at.monitor(id), { ...record, result, addresses })
  if (warning !== undefined) node.warn(`pod ${id}: ${warning}`)
}

const holds = ({ namespaces }: NamespacesPlan, type: NamespaceType): boolean =>
  namespaces.some((each) => each.type === type)

/** Where the containers' logs go: the kubelet makes it, crictl does not. */
function makeLogDirectory({ logDirectory }: PodSandboxConfig): void {
  if (logDirectory === '') return
  if (!logDirectory.startsWith('/') || logDirectory.includes('\0'))
    throw invalid('config.log_directory', `"${logDirectory}" is not an absolute path`)
  mkdirSync(logDirectory, { recursive: true, mode: 0o755 })
}
