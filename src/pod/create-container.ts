import { chownSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { nowNs } from '../base/clock.ts'
import { describe, Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { Undo } from '../base/undo.ts'
import { cgroupHost, requireControllers } from '../cgroup/index.ts'
import { judgeProcess } from '../container/index.ts'
import { accountFiles } from '../engine/account-files.ts'
import { newId } from '../engine/record.ts'
import { removeTree } from '../engine/trees.ts'
import { copyFromImage } from '../engine/volume-fill.ts'
import { prepareUpper } from '../layer/chain.ts'
import { hostFacts } from '../plan/index.ts'
import type { ContainerConfig } from '../spec/cri.ts'
import { isMadeAhead, makeAhead, takeBack } from './ahead.ts'
import { containersParent } from './cgroup.ts'
import { within } from './check.ts'
import type { UsableImage } from './image-use.ts'
import { imageVolume, shownNames, useImage } from './images.ts'
import { Container, type Pod } from './model.ts'
import { mustAnswer } from './mount-source.ts'
import { containerMounts } from './mounts.ts'
import { containerName, invalid, isSame } from './names.ts'
import { containerNamespaces } from './namespaces.ts'
import type { HandlerSettings, Node } from './node.ts'
import { makeContainerDirectories } from './prepared.ts'
import { storedConfig } from './process.ts'
import { checkedResources } from './resources.ts'
import { stopSignal } from './signals.ts'
import { containerSpec } from './spec.ts'
import { CREATED } from './status.ts'
import type { ContainerRecord, ImageMount, StoredConfig } from './types.ts'
import { containerUser } from './user.ts'
import { imageVolumes } from './volumes.ts'

/** Containers of one pod; the kubelet's own limit is far below. */
const CONTAINERS_MAX = 1000

/** Makes a container in a ready pod, whole or not at all. Asked again with the same name it gives the same container, as runPod does. */
export async function createContainer(
  node: Node,
  podId: string,
  config: ContainerConfig,
): Promise<string> {
  using _starting = node.monitors.starting()
  const pod = node.mustPod(podId)
  const name = containerName(config.metadata)
  const stored = storedConfig(config)
  const mustBeAsked = (made: Container): string => {
    if (!made.removing && isSame(made.record.config, stored)) return made.id
    throw new Fault(
      'ALREADY_EXISTS',
      `the name ${name} is taken by container ${made.id.slice(0, 12)} of the pod: remove that one, or ask with another attempt`,
    )
  }
  const id = await node.creations.join(`container ${pod.id} ${name}`, async () => {
    const made = [...pod.containers.values()].find(
      (each) => containerName(each.record.config.metadata) === name,
    )
    if (made) return mustBeAsked(made)
    mustBeReady(pod)
    if (pod.containers.size >= CONTAINERS_MAX)
      throw new Fault('RESOURCE_EXHAUSTED', `the pod has ${CONTAINERS_MAX} containers already`)
    return makeContainer(node, pod, stored)
  })
  // Whoever has joined may have asked for something else.
  return mustBeAsked(node.mustContainer(id))
}

export function mustBeReady(pod: Pod): void {
  if (pod.isReady) return
  throw new Fault('FAILED_PRECONDITION', `pod ${pod.id.slice(0, 12)} is not ready: it has stopped`)
}

async function makeContainer(node: Node, pod: Pod, config: StoredConfig): Promise<string> {
  const ref = config.image?.image ?? ''
  if (ref === '') throw invalid('config.image.image', 'is missing')
  // Until the record names the image, nothing but this keeps its layers.
  return useImage(node.engine, ref, (image) => makeOfImage(node, pod, config, image))
}

async function makeOfImage(
  node: Node,
  pod: Pod,
  config: StoredConfig,
  image: UsableImage,
): Promise<string> {
  const { at, engine } = node
  await using undo = new Undo((what, error) => node.warn(`${what}: ${describe(error)}`))
  const id = pod.preparedContainer ?? newId()
  pod.preparedContainer = undefined
  undo.push('the container', () => removeTree(at.container(pod.id, id)))
  const shown = shownNames(engine, image.id, config.image?.userSpecifiedImage ?? '')
  const absolute = image.lower.map((path) => join(engine.root, path))
  const imageConfig = image.config.config
  const context = config.linux?.securityContext ?? null
  const facts = hostFacts()
  const { namespaces, network, sharedMemory } = containerNamespaces(context, {
    pod: pod.record.config,
    held: pod.held,
    target: targetPid(node, pod, context?.namespaceOptions?.targetId ?? ''),
  })
  const account = userIn(absolute, config, imageConfig?.User ?? '')
  const resources = checkedResources('linux.resources', config.linux?.resources ?? null)
  const signal = stopSignal(config.stopSignal, imageConfig?.StopSignal)
  const imageMounts = await imageMountsOf(node, config)
  await mustAnswer(config.mounts)
  const volumes = imageVolumes(imageConfig, config).map((target, index) => ({
    target,
    path: at.volume(pod.id, id, index),
  }))
  const mounts = containerMounts({
    config,
    privileged: context?.privileged ?? false,
    readonlyRootfs: context?.readonlyRootfs ?? false,
    namespaces: { network, sharedMemory },
    mappings: pod.record.mappings,
    files: {
      '/etc/hosts': at.etc(pod.id, 'hosts'),
      '/etc/hostname': at.etc(pod.id, 'hostname'),
      '/etc/resolv.conf': at.etc(pod.id, 'resolv.conf'),
    },
    images: imageMounts.map((each) => ({
      ...each,
      lower: each.lower.map((path) => join(engine.root, path)),
    })),
    volumes,
    // Of a machine with many mounts it takes the kernel a while, and few containers need it.
    get mountinfo() {
      return readFileSync('/proc/self/mountinfo', 'utf8')
    },
    selinux: facts.selinux,
    warn: node.warnOnce,
  })
  const spec = containerSpec({
    pod: {
      id: pod.id,
      config: pod.record.config,
      hostname: pod.record.hostname,
      mappings: pod.record.mappings,
    },
    config,
    image: imageConfig,
    imageRef: config.image?.userSpecifiedImage || shown.imageRef,
    account,
    resources,
    namespaces,
    mounts,
    facts,
    controllers: cgroupHost().controllers,
    handler: handlerOf(node, pod),
    rootPath: at.upper(pod.id, id),
    cgroupsPath: join(containersParent(pod.record), id),
    warn: node.warnOnce,
  })

  // What cannot be started is better not made: the kubelet shows this error with the container's creation.
  if (node.settings.missingControllers === 'refuse') {
    within('linux.resources', () => requireControllers(cgroupHost(), spec.linux?.resources ?? {}))
  }
  const hasAhead = isMadeAhead(node, { spec, sharedMemory })
  // What makes it ahead judges it as well.
  if (!hasAhead)
    await judgeProcess(spec, { id, root: { kind: 'directory', path: '/' }, programs: at.programs })

  makeContainerDirectories(at, pod.id, id)
  ownUpper(at.upper(pod.id, id), absolute, pod)
  for (const { target, path } of volumes) {
    mkdirSync(path, { mode: 0o755 })
    await copyFromImage(path, target, absolute)
  }
  const record: ContainerRecord = {
    version: 1,
    id,
    podId: pod.id,
    createdNs: String(nowNs()),
    config,
    imageId: image.id,
    ...shown,
    lower: image.lower,
    user: { uid: account.uid, gid: account.gid, groups: account.groups },
    stopSignal: signal,
    logPath: logPath(pod, config),
    resources,
    sharedMemory,
    imageMounts,
  }
  const container = new Container(pod, record, CREATED)
  container.spec = spec
  if (hasAhead) {
    undo.push('its first process', () => takeBack(node, container))
    await makeAhead(node, container)
  }
  writeFileAtomic(at.config(pod.id, id), JSON.stringify(spec), { prepared: true })
  // A pod that stopped meanwhile takes no more containers: nobody would stop this one.
  mustBeReady(pod)
  writeFileAtomic(at.record(pod.id, id), JSON.stringify(record), { prepared: true })
  undo.keep()
  pod.containers.set(id, container)
  node.containers.set(id, container)
  node.emit('created', pod, id)
  return id
}

/** The handler was there when the pod was made; one that has left the configuration since is as the default. */
const handlerOf = ({ settings }: Node, { record }: Pod): HandlerSettings =>
  settings.handlers.get(record.runtimeHandler) ?? settings.container

/** The user of the first process, by the account files of the image. */
function userIn(lower: readonly string[], config: StoredConfig, imageUser: string) {
  const context = config.linux?.securityContext ?? null
  return containerUser(context, imageUser, accountFiles(lower))
}

/** The directory that takes what the container changes: its attributes are those of the image's root. */
function ownUpper(upper: string, lower: readonly string[], pod: Pod): void {
  prepareUpper({ lower }, upper)
  const uid = pod.record.mappings?.uidMappings[0]?.hostID
  const gid = pod.record.mappings?.gidMappings[0]?.hostID
  // The upper directory is not idmapped: what the container makes there has its host ids on the disk.
  if (uid !== undefined && gid !== undefined) chownSync(upper, uid, gid)
}

/** The images that are mounted as volumes, each held until the record names it. */
async function imageMountsOf(node: Node, config: StoredConfig): Promise<ImageMount[]> {
  const found: ImageMount[] = []
  for (const [index, mount] of config.mounts.entries()) {
    const ref = mount.image?.image ?? ''
    if (ref === '') continue
    try {
      found.push(
        await useImage(node.engine, ref, async (image) => {
          const { id, lower, path, isDirectory } = imageVolume(
            node.engine,
            image,
            mount.imageSubPath,
          )
          return { index, imageId: id, lower, path, isDirectory }
        }),
      )
    } catch (error) {
      // The word by which the kubelet knows what to tell.
      throw new Fault(
        error instanceof Fault ? error.code : 'INTERNAL',
        `ImageVolumeMountFailed: image ${ref} for ${mount.containerPath}`,
        { cause: error },
      )
    }
  }
  return found
}

/** The first process of another container of the pod, whose namespaces are joined (ephemeral containers of `kubectl debug --target`). */
function targetPid(node: Node, pod: Pod, id: string): number | undefined {
  const target = id === '' ? undefined : node.container(id)
  return target?.pod === pod && target.status.state === 'running' ? target.status.pid : undefined
}

/** Below the pod's log directory, and nowhere else. */
function logPath(pod: Pod, config: StoredConfig): string {
  const directory = pod.record.config.logDirectory
  if (directory === '' || config.logPath === '') return ''
  const parts = config.logPath.split('/')
  if (config.logPath.startsWith('/') || parts.includes('..') || config.logPath.includes('\0'))
    throw invalid('config.log_path', `"${config.logPath}" leads out of the pod's log directory`)
  return join(directory, config.logPath)
}
