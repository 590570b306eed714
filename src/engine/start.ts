import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Fault } from '../base/fault.ts'
import { Undo } from '../base/undo.ts'
import { createProcess, type Monitor, startMonitor } from '../container/index.ts'
import type { ContainerExit } from '../container/monitor.ts'
import type { MonitorSession } from '../container/session.ts'
import { overlayMount } from '../kernel/mount-api.ts'
import type { NetworkResult } from '../network/index.ts'
import type { RootPlan } from '../spec/plan.ts'
import type { Spec } from '../spec/runtime.ts'
import { type AccountFiles, accountFiles, accountFilesIn } from './account-files.ts'
import { emit, keepDeath } from './events.ts'
import { findContainer } from './find.ts'
import {
  attachContainer as attachNetwork,
  detachContainer,
  networkMode,
  writeEtc,
} from './network.ts'
import type { Engine } from './open.ts'
import { lockContainer, readConfig, readRecord, resolveId } from './record.ts'
import { recover } from './recover.ts'
import { endWithProcess } from './session.ts'
import { containerStatus, writeFailedExit, writeRunMark } from './status.ts'
import { renewWork, WHOLE_CHANGES } from './trees.ts'
import type { Container, ContainerRecord, Session } from './types.ts'
import { type Account, resolveUser } from './users.ts'

/** The command line, from dist/src/FOLDER/. */
const PROGRAM = fileURLToPath(new URL('../../../bin/berth.cjs', import.meta.url))

export interface AttachOptions {
  readonly stdin: boolean
  readonly rows: number
  readonly columns: number
}

/** With `attach` the session holds all output from the first byte on. A running container is left as it is. */
export async function startContainer(
  engine: Engine,
  ref: string,
  attach?: AttachOptions,
): Promise<Session | undefined> {
  const id = resolveId(engine, ref)
  using _lock = await lockContainer(engine, id)
  const record = readRecord(engine, id)
  if (!record) throw new Fault('NOT_FOUND', `no container "${ref}"; \`berth ps -a\` lists them`)
  const status = containerStatus(engine, record)
  if (status.state === 'running' || status.state === 'paused') {
    if (attach)
      throw new Fault(
        'FAILED_PRECONDITION',
        `container ${record.name} is ${status.state} already: use \`berth attach\``,
      )
    return
  }
  await recover(engine, record)
  return await startLocked(engine, record, attach)
}

/** The start itself; the caller holds the container's lock and nothing of an earlier run is left. */
async function startLocked(
  engine: Engine,
  record: ContainerRecord,
  attach: AttachOptions | undefined,
): Promise<Session | undefined> {
  const { id, options } = record
  await using undo = new Undo((message, error) =>
    engine.warn(`${message}: ${(error as Error).message}`),
  )
  const live = engine.at.live(id)
  mkdirSync(live, { recursive: true, mode: 0o700 })
  undo.push('the state directory', () => rmSync(live, { recursive: true, force: true }))

  // It starts while the plan is made. A failure is told where it is waited for.
  const starting = startMonitor({ directory: live, caller: engine.caller })
  undo.push('the monitor', () => starting.then(endMonitor, () => {}))
  starting.catch(() => {})

  const spec = readConfig(engine, id)
  await renewWork(engine.at.work(id))
  const root = rootPlan(engine, record)
  const account = accountOf(record, root)
  fillUser(spec, account)
  if (attach && spec.process && options.terminal) {
    spec.process.consoleSize = { height: attach.rows, width: attach.columns }
  }
  const sharedMemory = await fillNamespaces(engine, record, spec)
  fillHostname(engine, record, spec)

  const result = await connect(engine, record, spec, starting, undo)
  writeEtc(engine, {
    id,
    name: record.name,
    run: options,
    mode: networkMode(engine, options),
    result,
    owner: {
      uid: spec.linux?.uidMappings?.[0]?.hostID ?? 0,
      gid: spec.linux?.gidMappings?.[0]?.hostID ?? 0,
    },
  })

  let session: MonitorSession<ContainerExit> | undefined
  try {
    const made = await createProcess({
      monitor: starting,
      id,
      spec,
      root,
      planPath: engine.at.plan(id),
      programs: engine.at.programs,
      parent: engine.caller.pid,
      sharedMemory,
      cgroupParent: options.cgroupParent,
      io: {
        stdin: options.interactive,
        stdinOnce: options.interactive && !options.detach,
        log: options.logDriver === 'none' ? 'none' : 'cri',
        logPath: options.logDriver === 'none' ? '' : engine.at.log(id),
      },
      exit: { recordPath: engine.at.exit(id), command: exitCommand(engine, record) },
      restart: options.restart,
      reaper: options.reaper,
      warn: engine.warn,
      beforeCreate: (cgroup) => {
        keepDeath(engine, record)
        writeRunMark(engine, id, cgroup)
      },
      attach: attach && { stdin: attach.stdin },
      start: true,
    })
    undo.push('the container', made.undo)
    session = made.session
    await made.started
  } catch (error) {
    // Marked as started, and without a process: this says why, where the monitor has not.
    writeFailedExit(engine, id, error)
    throw error
  }
  undo.keep()
  emit(engine, about(record, 'start'))
  const monitor = await starting
  if (!session) {
    monitor.close()
    return
  }
  // Not before: where the program cannot be executed the end is told ahead of the answer to the start.
  return endWithProcess(monitor, session)
}

async function endMonitor(monitor: Monitor): Promise<void> {
  try {
    await monitor.quit()
  } catch (error) {
    // After a program that could not be executed it has ended by itself.
    if (!(error instanceof Fault) || error.code !== 'UNAVAILABLE') throw error
  } finally {
    monitor.close()
  }
}

/** An event about a container. */
export function about(
  record: ContainerRecord,
  action: string,
  attributes: Record<string, string> = {},
) {
  return {
    type: 'container',
    action,
    id: record.id,
    name: record.name,
    attributes: { image: record.image, ...attributes },
  } as const
}

/** The copy-on-write root: layers shared with every container of the image, and an upper directory of its own. */
function rootPlan(engine: Engine, record: ContainerRecord): RootPlan {
  const upper = engine.at.upper(record.id)
  const work = engine.at.work(record.id)
  return {
    kind: 'overlay',
    lower: record.lower.map((path) => `${engine.root}/${path}`),
    upper,
    work,
    // At its unmount an overlay else writes the whole file system below it to the disk: not for files that go with the container.
    options: [...WHOLE_CHANGES, ...(record.options.remove ? ['volatile'] : [])],
  }
}

/** The user of the first process, by the account files as they are in the container's root now. */
function accountOf(record: ContainerRecord, root: RootPlan): Account {
  const user = record.options.user ?? record.imageConfig?.User ?? ''
  if (root.kind !== 'overlay') throw new Fault('INTERNAL', 'the root is no overlay')
  const { passwd, group } = accountFilesOf(root)
  return resolveUser(user, passwd, group, record.options.groupAdd)
}

function accountFilesOf({ lower, upper }: RootPlan & { kind: 'overlay' }): AccountFiles {
  // Of most containers, before their first start: the layers' own, which do not change.
  if (upper === undefined || readdirSync(upper).length === 0) return accountFiles(lower)
  using view = overlayMount({ lower: [upper, ...lower] })
  const files = accountFilesIn(view.number)
  view.closeAside()
  return files
}

export function accountIn(rootFd: number, user: string, groupAdd: readonly string[]): Account {
  const { passwd, group } = accountFilesIn(rootFd)
  return resolveUser(user, passwd, group, groupAdd)
}

function fillUser(spec: Spec, account: Account): void {
  if (!spec.process) throw new Fault('DATA_LOSS', 'the configuration has no process')
  const { user } = spec.process
  user.uid = account.uid
  user.gid = account.gid
  user.additionalGids = [...account.groups]
  const env = spec.process.env ?? []
  if (!env.some((entry) => entry.startsWith('HOME=')))
    spec.process.env = [...env, `HOME=${account.home}`]
}

/** Replaces `container:REF` by the path of that container's namespace as it is now; gives the mount namespace whose /dev/shm is shared with its ipc. */
async function fillNamespaces(
  engine: Engine,
  record: ContainerRecord,
  spec: Spec,
): Promise<string | undefined> {
  let sharedMemory: string | undefined
  for (const namespace of spec.linux?.namespaces ?? []) {
    if (!namespace.path?.startsWith('container:')) continue
    const other = await findContainer(engine, namespace.path.slice('container:'.length))
    namespace.path = namespaceOf(other, namespace.type, record.name)
    if (namespace.type === 'ipc') sharedMemory = namespaceOf(other, 'mount', record.name)
  }
  return sharedMemory
}

/** In the network of another container its name counts, too. */
function fillHostname(engine: Engine, { options }: ContainerRecord, spec: Spec): void {
  const mode = networkMode(engine, options)
  if (mode.kind !== 'container' || spec.hostname === undefined) return
  const name = readFileSync(engine.at.etc(resolveId(engine, mode.ref), 'hostname'), 'utf8').trim()
  const was = `HOSTNAME=${spec.hostname}`
  spec.hostname = name
  if (spec.process) {
    const env = spec.process.env ?? []
    spec.process.env = env.map((entry) => (entry === was ? `HOSTNAME=${name}` : entry))
  }
}

/** /proc/PID/ns/TYPE of a running container's first process. */
export function namespaceOf(other: Container, type: string, wanted: string): string {
  if (other.status.state !== 'running' && other.status.state !== 'paused') {
    throw new Fault(
      'FAILED_PRECONDITION',
      `container ${wanted} joins the ${type} namespace of ${other.record.name}, which is not running: start that first`,
    )
  }
  const files: Record<string, string> = { network: 'net', mount: 'mnt' }
  return `/proc/${other.status.pid}/ns/${files[type] ?? type}`
}

/** With a CNI network: the namespace is made by the monitor, which holds it, and attached before anything runs in it. */
async function connect(
  engine: Engine,
  record: ContainerRecord,
  spec: Spec,
  starting: Promise<Monitor>,
  undo: Undo,
): Promise<NetworkResult | undefined> {
  const mode = networkMode(engine, record.options)
  if (mode.kind !== 'cni') return
  const monitor = await starting
  const { network: path } = await monitor.holdNamespaces({
    namespaces: [{ type: 'network' }],
    sysctls: [],
    loopback: true,
  })
  if (path === undefined) throw new Fault('INTERNAL', 'the monitor has made no network namespace')
  const namespace = spec.linux?.namespaces?.find(({ type }) => type === 'network')
  if (!namespace) throw new Fault('DATA_LOSS', 'the configuration has no network namespace')
  namespace.path = path
  undo.push('the network', () => detachContainer(engine, record.id, { namespaceGone: false }))
  return attachNetwork(engine, {
    id: record.id,
    name: record.name,
    namespace: path,
    network: mode.name,
    run: record.options,
  })
}

/** What the monitor runs after the container: berth itself, where something must be taken down that the monitor cannot. */
function exitCommand(engine: Engine, record: ContainerRecord): string[] {
  const { options } = record
  const hasNetwork = networkMode(engine, options).kind === 'cni'
  if (!hasNetwork && !(options.remove && options.detach)) return []
  return [
    process.execPath,
    PROGRAM,
    '--root',
    engine.root,
    '--state',
    engine.state,
    'container',
    'cleanup',
    ...(options.remove && options.detach ? ['--rm'] : []),
    record.id,
  ]
}
