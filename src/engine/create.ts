import { chownSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { nowNs } from '../base/clock.ts'
import { Fault } from '../base/fault.ts'
import { writeFileAtomic } from '../base/file.ts'
import { Undo } from '../base/undo.ts'
import { seccompSection } from '../container/index.ts'
import { prepareUpper } from '../layer/chain.ts'
import type { Spec } from '../spec/runtime.ts'
import { emit } from './events.ts'
import { type Mappings, userMappings } from './idmap.ts'
import { collectIfNoted, holdImages, imageToRun, type RunnableImage } from './images.ts'
import type { VolumeMount } from './mounts.ts'
import { networkMode } from './network.ts'
import type { Engine } from './open.ts'
import type { RunOptions } from './options.ts'
import { lockNewContainer, newId, releaseName, reserveName, writeRecord } from './record.ts'
import { removeFiles } from './remove.ts'
import { capabilities, commandOf, containerSpec, readProfile } from './spec.ts'
import { about } from './start.ts'
import { parseSignal } from './stop.ts'
import type { ContainerRecord, Progress } from './types.ts'
import { holdVolumes, removeVolume } from './volume.ts'
import { volumeMounts } from './volume-mounts.ts'

/** docker's time from the stop signal to SIGKILL. */
const STOP_TIMEOUT_S = 10

/** What a build's step is made of. */
export interface Given {
  readonly image: RunnableImage
  readonly builder: string
}

/**
 * Makes a container, whole or not at all: until its record is written no other command sees it. Pulls the image as `options.pull` says, but where
 * `given` takes its place: a step of a build, whose image is not there yet.
 */
export async function createContainer(
  engine: Engine,
  asked: RunOptions,
  progress?: Progress,
  given?: Given,
): Promise<ContainerRecord> {
  judge(engine, asked)
  const record = await createJudged(engine, asked, progress, given)
  await collectIfNoted(engine)
  return record
}

async function createJudged(
  engine: Engine,
  asked: RunOptions,
  progress: Progress | undefined,
  given: Given | undefined,
): Promise<ContainerRecord> {
  const options = asked.ports.some(({ hostPort }) => hostPort === 0)
    ? { ...asked, ports: await (await import('./ports.ts')).chooseHostPorts(asked.ports) }
    : asked
  // Until the record names the image, nothing but this keeps its layers.
  using _hold = await holdImages(engine)
  const image = given?.image ?? (await imageToRun(engine, options, progress))
  const command = commandOf(options, image.config)
  const stopSignal = parseSignal(options.stopSignal ?? (image.config.config?.StopSignal || 'TERM'))

  const id = newId()
  await using undo = new Undo((message, error) =>
    engine.warn(`${message}: ${(error as Error).message}`),
  )
  using _lock = await lockNewContainer(engine, id)
  undo.push('the container', () => removeFiles(engine, id, undefined))
  mkdirSync(engine.at.container(id), { mode: 0o700 })
  const name = await reserveName(engine, id, options.name)
  undo.push('the name', () => releaseName(engine, name, id))
  const mappings = userMappings(engine, options.userns, id)
  makeUpper(engine, id, image.lower, mappings)
  const volumes: VolumeMount[] = []
  undo.push('anonymous volumes', async () => {
    for (const v of volumes) if (v.anonymous) await removeVolume(engine, v.name, { force: true })
  })
  // No volume goes between here and the record that names it. Let go before anything is undone.
  using _volumes = await holdVolumes(engine)
  for await (const volume of volumeMounts(engine, options, image.config)) volumes.push(volume)
  if (volumes.length > 0) {
    const { fillVolume } = await import('./volume-fill.ts')
    for (const volume of volumes) await fillVolume(engine, volume, image.lower)
  }

  const names = capabilities(options)
  const spec = containerSpec({
    id,
    options,
    env: engine.caller.env,
    image: image.config,
    mappings,
    volumes,
    etc: {
      hosts: engine.at.etc(id, 'hosts'),
      hostname: engine.at.etc(id, 'hostname'),
      resolv: engine.at.etc(id, 'resolv.conf'),
    },
    rootPath: engine.at.upper(id),
    seccomp: seccompOf(engine, options, names),
    namespaces: namespaces(engine, options, mappings !== undefined),
    cgroupsPath: `${options.cgroupParent ?? ''}/${id}`,
    annotations: {},
  })
  const record: ContainerRecord = {
    version: 1,
    id,
    name,
    createdNs: String(nowNs()),
    image: options.image,
    imageId: image.id,
    lower: image.lower,
    command,
    labels: { ...image.config.config?.Labels, ...options.labels },
    options,
    stopSignal,
    stopTimeoutS: options.stopTimeoutS ?? STOP_TIMEOUT_S,
    volumes: volumes.map(({ name, anonymous, target }) => ({ name, anonymous, target })),
    imageConfig: image.config.config,
    ...(given === undefined ? {} : { builder: given.builder }),
  }
  // Before the record that vouches for it, as long-lived as that.
  writeFileAtomic(engine.at.config(id), JSON.stringify(spec), { durable: !options.remove })
  const { cidfile } = options
  if (cidfile !== undefined) {
    const path = engine.caller.resolve(cidfile)
    writeCidFile(path, cidfile, id)
    undo.push('the --cidfile', () => rmSync(path, { force: true }))
  }
  writeRecord(engine, record)
  undo.keep()
  emit(engine, about(record, 'create'))
  return record
}

/** What no image or host can change: options that exclude each other. */
function judge({ caller }: Engine, options: RunOptions): void {
  const refuse = (text: string): never => {
    throw new Fault('INVALID_ARGUMENT', text)
  }
  if (options.remove && options.restart.policy !== 'no')
    refuse('--rm goes not with --restart: a removed container cannot start again')
  if (!['cri', 'k8s-file', 'none', ''].includes(options.logDriver)) {
    throw new Fault(
      'UNIMPLEMENTED',
      `--log-driver ${options.logDriver} is not supported: berth has "cri" (the default, alias "k8s-file") and "none"`,
    )
  }
  if (options.cgroupns === 'host' && !['host', '', undefined].includes(options.userns)) {
    refuse(
      '--cgroupns host goes not with --userns: a user namespace may mount only a cgroup namespace of its own',
    )
  }
  // Where the seccomp profile leads is for this process to say, too: before anything is made.
  if (isProfilePath(options.seccomp)) caller.resolve(options.seccomp)
  if (options.cidfile !== undefined && existsSync(caller.resolve(options.cidfile)))
    refuse(`--cidfile ${options.cidfile} exists already: remove it, or name another`)
  const mapped = !['', 'host'].includes(options.userns ?? '')
  const idmapped = options.mounts.find((mount) => mount.idmap)
  if (idmapped && !mapped)
    refuse(
      `the mount at ${idmapped.target} asks for idmap, which needs --userns auto or UID:GID:SIZE`,
    )
  if (options.shmSize !== undefined && ['host', 'none'].includes(options.ipc ?? ''))
    refuse(
      `--shm-size goes not with --ipc ${options.ipc}: the container has no /dev/shm of its own`,
    )
  const uts = options.uts ?? 'private'
  for (const name of ['hostname', 'domainname'] as const) {
    if (options[name] !== undefined && uts !== 'private')
      refuse(`--${name} goes not with --uts ${uts}: it would rename others`)
  }
}

/** The directories that take what the container changes; the root directory's attributes are the image's. */
function makeUpper(
  engine: Engine,
  id: string,
  lower: readonly string[],
  mappings: Mappings | undefined,
): void {
  const upper = engine.at.upper(id)
  mkdirSync(upper)
  mkdirSync(engine.at.work(id))
  prepareUpper({ lower: lower.map((path) => `${engine.root}/${path}`) }, upper)
  const uid = mappings?.uidMappings[0]?.hostID
  const gid = mappings?.gidMappings[0]?.hostID
  // The upper directory is not idmapped: what the container makes there has its host ids on the disk.
  if (uid !== undefined && gid !== undefined) chownSync(upper, uid, gid)
}

function writeCidFile(path: string, named: string, id: string): void {
  try {
    writeFileSync(path, id, { flag: 'wx', mode: 0o644 })
  } catch (error) {
    throw new Fault('FAILED_PRECONDITION', `cannot write --cidfile ${named}`, { cause: error })
  }
}

function isProfilePath(seccomp: string | undefined): seccomp is string {
  return seccomp !== undefined && seccomp !== 'unconfined'
}

function seccompOf({ caller }: Engine, options: RunOptions, names: readonly string[]) {
  if (options.seccomp === 'unconfined') return
  if (isProfilePath(options.seccomp))
    return seccompSection(readProfile(options.seccomp, caller.resolve(options.seccomp)), names)
  return options.privileged ? undefined : seccompSection(undefined, names)
}

/** Any namespace can be joined by another container, so "shareable" is no more than "private"; "none" is one without /dev/shm. */
const OWN_NAMESPACE = new Set(['', 'private', 'shareable', 'none'])

/** The namespaces section: new, joined by path, or with `container:REF` as a path that every start resolves. */
function namespaces(
  engine: Engine,
  options: RunOptions,
  user: boolean,
): NonNullable<NonNullable<Spec['linux']>['namespaces']> {
  const list: { type: string; path?: string }[] = [{ type: 'mount' }]
  const add = (type: string, option: string, value: string | undefined): void => {
    if (value === undefined || OWN_NAMESPACE.has(value)) list.push({ type })
    else if (value === 'host') return
    else if (value.startsWith('ns:/')) list.push({ type, path: value.slice(3) })
    else if (value.startsWith('container:') && value.length > 10) list.push({ type, path: value })
    else
      throw new Fault(
        'INVALID_ARGUMENT',
        `${option} ${value} is not "private", "host", "container:NAME" or "ns:PATH"`,
      )
  }
  add('pid', '--pid', options.pid)
  add('ipc', '--ipc', options.ipc)
  add('uts', '--uts', options.uts)
  const hosts = options.privileged && !user ? 'host' : undefined
  add('cgroup', '--cgroupns', options.cgroupns ?? hosts)
  if (options.time !== undefined) add('time', '--time', options.time)
  const mode = networkMode(engine, options)
  if (mode.kind === 'none' || mode.kind === 'cni') list.push({ type: 'network' })
  else if (mode.kind === 'path') list.push({ type: 'network', path: mode.path })
  else if (mode.kind === 'container') list.push({ type: 'network', path: `container:${mode.ref}` })
  if (user) list.push({ type: 'user' })
  return list
}
