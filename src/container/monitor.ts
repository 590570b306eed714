import { closeSync, constants, fstatSync, openSync, readSync, unlinkSync } from 'node:fs'
import { connect, Socket } from 'node:net'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Fault, isErrno } from '../base/fault.ts'
import { binding, NATIVE_DIRECTORY } from '../kernel/binding.ts'
import { type Caller, ownCaller } from '../kernel/caller.ts'
import { Fd } from '../kernel/fd.ts'
import { isLocked } from '../kernel/lock.ts'
import { readOnlyMount } from '../kernel/mount-api.ts'
import type { ContainerPlan, ExecPlan, NamespacesPlan } from '../spec/plan.ts'
import { encodeFrame, type FrameName, FrameReader } from '../wire/frame.ts'
import { Message } from '../wire/message.ts'
import { encodeNamespaces, encodeProcess } from '../wire/plan.ts'
import { FRAME, RESTART_POLICY, TAG } from '../wire/tags.ts'
import { replyFault } from './monitor-fault.ts'
import { MonitorSession } from './session.ts'

/** A socket's path may have 107 bytes (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 100
const ERROR_BYTES_MAX = 1000
/** The first process of a pid namespace that a monitor holds. */
const PAUSE_PROGRAM = fileURLToPath(new URL('berth-pause', NATIVE_DIRECTORY))

/** What a monitor says of one container; times are nanoseconds of CLOCK_REALTIME as text. */
export interface MonitorContainer {
  /** 0 where no process is alive. */
  readonly pid: number
  readonly state: 'creating' | 'created' | 'running' | 'stopped'
  readonly createdNs: string
  readonly startedNs: string
  readonly restarts: number
  /** Running, but waiting for its next start (`pid` is 0). */
  readonly restarting: boolean
  /** Lines of output that a full disk has cost, or one that hangs. */
  readonly logDropped: string
}

/** Paths that open as the namespaces that a monitor holds, as long as it lives. */
export interface HeldNamespaces {
  readonly user?: string
  readonly network?: string
  readonly ipc?: string
  readonly uts?: string
  /** Gone when its first process has died: `MonitorStatus.pause` says so. */
  readonly pid?: string
  /** None to join, but one whose /dev/shm is the containers' (`sharedMemory` of a CreateRequest). */
  readonly sharedMemory?: string
}

export interface MonitorStatus {
  readonly protocol: number
  readonly monitor: number
  readonly namespaces: HeldNamespaces
  /** The first process of the pid namespace that is held. Dead (pid 0, and how it ended), it has taken along all that were in there. */
  readonly pause?: { readonly pid: number; readonly code?: number; readonly signal?: number }
  readonly containers: Readonly<Record<string, MonitorContainer>>
}

/** The exit record of a container, as on disk; of an exec without `oomKilled`, `createdNs`, `error` and `restarts`. */
export interface ProcessExit {
  readonly id: string
  /** 0 to 255, 128+n for signal n. */
  readonly code: number
  readonly signal: number
  readonly startedNs: string
  readonly finishedNs: string
}

export interface ContainerExit extends ProcessExit {
  readonly oomKilled: boolean
  readonly createdNs: string
  readonly error: string
  readonly restarts: number
}

export interface ExecExit extends ProcessExit {
  readonly execId: string
  readonly timedOut: boolean
}

export interface ExecRequest extends ExecPlan {
  /** Comes back in the exit, so that the caller can tell its execs apart. */
  readonly execId?: string
  /** It is killed, with all that it has forked, when this connection ends before it. */
  readonly owned?: boolean
}

/**
 * Starts a monitor for the directory (mode 0700, made by the caller) and connects to it. The program is executed from a read-only detached mount: no
 * container can write to it through /proc/PID/exe. UNAVAILABLE where the kernel cannot, or the directory has a living monitor.
 */
export async function startMonitor(options: {
  readonly directory: string
  /** Another build of berth-monitor; or what openMonitorProgram gave, which stays the caller's. */
  readonly program?: string | Fd
  /** Whose child it is before it leaves: what it has of limits, control group and the like it has of him. */
  readonly caller?: Caller
}): Promise<Monitor> {
  const { directory, program: given, caller = ownCaller() } = options
  if (given instanceof Fd) return start(directory, given, caller)
  if (!caller.isSelf && given === undefined) {
    kept ??= openMonitorProgram()
    return start(directory, kept, caller)
  }
  const program = openMonitorProgram(given)
  try {
    return await start(directory, program, caller)
  } finally {
    program.closeAside()
  }
}

/** In a daemon, for all its callers: to dissolve a mount takes the kernel as long as to start the monitor. */
let kept: Fd | undefined

async function start(directory: string, program: Fd, caller: Caller): Promise<Monitor> {
  using dir = new Fd(openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY))
  using nothing = new Fd(openSync('/dev/null', constants.O_RDWR))
  const complaintPath = join(directory, `start.tmp-${process.pid}`)
  using complaint = new Fd(openSync(complaintPath, 'w+', 0o600))
  unlinkSync(complaintPath)
  const { status } = caller.spawn({
    file: program,
    args: ['berth-monitor', '3', basename(directory)],
    env: [],
    fds: [nothing, nothing, complaint, dir],
  })
  const { code } = await status
  if (code !== 0) {
    const text = Buffer.alloc(Math.min(fstatSync(complaint.number).size, ERROR_BYTES_MAX))
    readSync(complaint.number, text, 0, text.length, 0)
    const reason = text.toString().trim() || `it ended with ${code}`
    throw new Fault('UNAVAILABLE', `cannot start the monitor in ${directory}: ${reason}`)
  }
  try {
    return await connectMonitor(directory)
  } catch {
    // It runs: after a passing shortage (of descriptors, of room in its backlog) it must not stay without an owner. Else it ends by itself, unused.
    return await connectMonitor(directory)
  }
}

/** berth-monitor, or another build of it, in a read-only mount of its own. */
export function openMonitorProgram(
  // BERTH_MONITOR: a build with sanitizers, for a whole run of the tests (scripts/sanitize.ts).
  path = process.env['BERTH_MONITOR'] ?? fileURLToPath(new URL('berth-monitor', NATIVE_DIRECTORY)),
): Fd {
  try {
    return readOnlyMount(path)
  } catch (error) {
    if (isErrno(error, 'ENOSYS')) {
      throw new Fault(
        'UNIMPLEMENTED',
        'mount_setattr(2) is not there: an old kernel, or a sandbox around berth that hides it',
        {
          cause: error,
        },
      )
    }
    throw new Fault('UNAVAILABLE', `cannot open the monitor's program ${path}`, { cause: error })
  }
}

/** UNAVAILABLE where no monitor listens in the directory. */
export async function connectMonitor(directory: string): Promise<Monitor> {
  const path = join(directory, 'ctl')
  try {
    if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return new Monitor(await connected(path))
    using dir = new Fd(openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY))
    return new Monitor(await connected(`/proc/self/fd/${dir.number}/ctl`))
  } catch (error) {
    throw new Fault('UNAVAILABLE', `no monitor answers in ${directory}`, { cause: error })
  }
}

/** In place of one that lives and cannot be reached: its connection is lost, and whatever it is asked is UNAVAILABLE. */
export function lostMonitor(): Monitor {
  return new Monitor(new Socket().destroy())
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
  })
}

/** Whether a monitor lives in the directory: it holds a lock there until it ends, however it ends. */
export function isMonitorAlive(directory: string): boolean {
  return isLocked(join(directory, 'alive'))
}

/** Resolves when no monitor lives in the directory. */
export async function monitorEnd(directory: string): Promise<void> {
  let fd: number
  try {
    fd = openSync(join(directory, 'alive'), constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return
    throw error
  }
  try {
    await binding.flockWait(fd, false)
  } finally {
    closeSync(fd)
  }
}

interface Pending {
  readonly what: string
  resolve(reply: Record<string, unknown>): void
  reject(error: Error): void
}

/**
 * A connection to a monitor. Requests may be sent without waiting for the one before; the monitor does them in order. When the monitor is lost
 * everything that waits is rejected with UNAVAILABLE. `close` has no effect on what runs.
 */
export class Monitor {
  readonly #socket: Socket
  readonly #reader = new FrameReader()
  readonly #pending: Pending[] = []
  readonly #waits = new Map<string, ((exit: ContainerExit | Error) => void)[]>()
  #session: MonitorSession<ProcessExit> | undefined
  /** The container whose first process the session is of; undefined for an exec's. */
  #attachedTo: string | undefined
  #lost: Fault | undefined
  /** Resolves when the connection is no more, however it ended. */
  readonly lost: Promise<void>
  #tellLost: () => void = () => {}

  constructor(socket: Socket) {
    this.lost = new Promise((resolve) => {
      this.#tellLost = resolve
    })
    this.#socket = socket
    socket.on('data', (bytes: Buffer) => this.#take(bytes))
    socket.on('error', () => {})
    socket.on('close', () =>
      this.#lose(
        new Fault(
          'UNAVAILABLE',
          'the monitor has closed the connection: it was killed, or its client has read nothing for a minute',
        ),
      ),
    )
  }

  /** Whether a request would be heard at once: nothing that was asked before is under way. */
  get isIdle(): boolean {
    return this.#pending.length === 0
  }

  get isLost(): boolean {
    return this.#lost !== undefined
  }

  /** Makes a container's first process from a plan file; it waits before its program. After a failure nothing is left. */
  async create(planPath: string): Promise<{ pid: number }> {
    const reply = await this.#request('create', 'create the container', (m) =>
      m.text(TAG.requestPlanPath, planPath),
    )
    return { pid: Number(reply['pid']) }
  }

  /** Resolves when the program runs. A Fault with exit 127 or 126 where it cannot be executed; the container is stopped then. */
  async start(id: string): Promise<void> {
    await this.#request('start', `start container ${id}`, (m) => m.text(TAG.requestId, id))
  }

  /** With `all` every process of the container; with `stop` it is not started again, whatever its restart policy. */
  async signal(
    id: string,
    options: { signal: number; all?: boolean; stop?: boolean },
  ): Promise<void> {
    await this.#request('signal', `signal container ${id}`, (m) =>
      m
        .text(TAG.requestId, id)
        .number(TAG.requestSignal, options.signal)
        .flag(TAG.requestAll, options.all)
        .flag(TAG.requestStop, options.stop),
    )
  }

  /** Joins the stdio of the first process; one session for each connection, whose close() closes the connection. */
  async attach(
    id: string,
    options: { stdin?: boolean; stdout?: boolean; stderr?: boolean } = {},
  ): Promise<MonitorSession<ContainerExit>> {
    const session = this.#openSession<ContainerExit>()
    this.#attachedTo = id
    const reply = this.#request('attach', `attach to container ${id}`, (m) =>
      m
        .text(TAG.requestId, id)
        .flag(TAG.requestStdin, options.stdin)
        .flag(TAG.requestStdout, options.stdout ?? true)
        .flag(TAG.requestStderr, options.stderr ?? true),
    )
    await this.#unless(reply)
    return session
  }

  /** Runs a further program; resolves when it runs. */
  async exec(plan: ExecRequest): Promise<{ pid: number; session: MonitorSession<ExecExit> }> {
    const session = this.#openSession<ExecExit>()
    const { pid } = await this.#unless(this.#exec(plan, false))
    return { pid, session }
  }

  /** The same with nobody at its stdio and nobody who is told of its end. */
  execDetached(plan: ExecRequest): Promise<{ pid: number }> {
    return this.#exec(plan, true)
  }

  async status(): Promise<MonitorStatus> {
    return (await this.#request('status', 'ask the monitor', () => {})) as unknown as MonitorStatus
  }

  /** The exit record, when the container is stopped for good. */
  async wait(id: string): Promise<ContainerExit> {
    const exit = new Promise<ContainerExit>((resolve, reject) => {
      const waits = this.#waits.get(id) ?? []
      waits.push((result) => (result instanceof Error ? reject(result) : resolve(result)))
      this.#waits.set(id, waits)
    })
    // The request's own failure is told first; this one would be nobody's then.
    exit.catch(() => {})
    await this.#request('wait', `wait for container ${id}`, (m) => m.text(TAG.requestId, id))
    return exit
  }

  /** Opens the log's path anew: what is written from now on goes to the new file. */
  async reopenLog(id: string): Promise<void> {
    await this.#request('reopenLog', `open the log of container ${id}`, (m) =>
      m.text(TAG.requestId, id),
    )
  }

  /**
   * Has the monitor make what the containers of a pod share, and hold it until `quit`: once, whatever later calls ask for, so that a call may be
   * repeated. All is owned by the user namespace where there is one. With `more`, what it does not hold yet is made beside the rest. With `aside`
   * the monitor ends with its last connection all the same, until somebody asks without.
   */
  async holdNamespaces(
    plan: NamespacesPlan,
    { more = false, aside = false }: { more?: boolean; aside?: boolean } = {},
  ): Promise<HeldNamespaces> {
    const { namespaces, cgroup, sharedMemoryBytes } = plan
    const reply = await this.#request('namespaces', 'make the namespaces', (m) => {
      m.group(TAG.requestNamespaces, (g) => {
        encodeNamespaces(g, plan)
        if (cgroup !== undefined) g.text(TAG.containerCgroup, cgroup)
      })
      if (namespaces.some(({ type }) => type === 'pid'))
        m.text(TAG.requestPauseProgram, PAUSE_PROGRAM)
      if (sharedMemoryBytes !== undefined) m.number(TAG.requestSharedMemoryBytes, sharedMemoryBytes)
      m.flag(TAG.requestAll, more).flag(TAG.requestStop, aside)
    })
    return reply['namespaces'] as HeldNamespaces
  }

  async update(id: string, restart: ContainerPlan['restart']): Promise<void> {
    await this.#request('update', `update container ${id}`, (m) =>
      m
        .text(TAG.requestId, id)
        .number(TAG.requestRestartPolicy, RESTART_POLICY[restart.policy])
        .number(TAG.requestRestartMaximum, restart.maximumRetries),
    )
  }

  /** Forgets a stopped container. */
  async remove(id: string): Promise<void> {
    await this.#request('remove', `remove container ${id}`, (m) => m.text(TAG.requestId, id))
  }

  /** Ends the monitor: at once, or (and then it is FAILED_PRECONDITION) when its last container has stopped. */
  async quit(): Promise<void> {
    await this.#request('quit', 'end the monitor', () => {})
  }

  /** May be called again. */
  close(): void {
    this.#socket.destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  async #exec(plan: ExecRequest, detach: boolean): Promise<{ pid: number }> {
    const reply = await this.#request('exec', `exec in container ${plan.containerId}`, (m) =>
      m
        .text(TAG.requestId, plan.containerId)
        .text(TAG.requestExecId, plan.execId ?? '')
        .group(TAG.requestProcess, (group) => encodeProcess(group, plan.process))
        .flag(TAG.requestStdin, plan.stdin)
        .number(TAG.requestTimeoutMs, plan.timeoutMs)
        .flag(TAG.requestStop, plan.owned)
        .flag(TAG.requestDetach, detach),
    )
    return { pid: Number(reply['pid']) }
  }

  #openSession<Exit extends ProcessExit>(): MonitorSession<Exit> {
    if (this.#session)
      throw new Fault('FAILED_PRECONDITION', 'this connection has a session: use another')
    const session = new MonitorSession<Exit>(this.#socket)
    this.#session = session as unknown as MonitorSession<ProcessExit>
    return session
  }

  /** A session whose request was refused is none. */
  async #unless<T>(reply: Promise<T>): Promise<T> {
    try {
      return await reply
    } catch (error) {
      this.#session = undefined
      this.#attachedTo = undefined
      throw error
    }
  }

  #request(
    frame: FrameName,
    what: string,
    fill: (message: Message) => unknown,
  ): Promise<Record<string, unknown>> {
    if (this.#lost) return Promise.reject(this.#lost)
    const message = new Message()
    fill(message)
    const reply = new Promise<Record<string, unknown>>((resolve, reject) => {
      this.#pending.push({ what, resolve, reject })
    })
    this.#socket.write(encodeFrame(frame, message.encode()))
    return reply
  }

  #take(bytes: Buffer): void {
    try {
      for (const { type, payload } of this.#reader.push(bytes)) {
        if (type === FRAME.reply) this.#takeReply(JSON.parse(payload.toString()))
        else if (type === FRAME.stdout) this.#session?.push('stdout', payload)
        else if (type === FRAME.stderr) this.#session?.push('stderr', payload)
        else if (type === FRAME.exit) this.#takeExit(JSON.parse(payload.toString()))
        else throw new Fault('DATA_LOSS', `the monitor sent a frame of the unknown type ${type}`)
      }
    } catch (error) {
      this.#lose(
        new Fault('DATA_LOSS', 'the monitor sent something that is no frame', { cause: error }),
      )
      this.close()
    }
  }

  #takeReply(reply: Record<string, unknown>): void {
    const pending = this.#pending.shift()
    if (reply['ok'] === true) pending?.resolve(reply)
    else pending?.reject(replyFault(pending.what, reply))
  }

  #takeExit(exit: ContainerExit | ExecExit): void {
    // An exec's exit is its session's; a container's is for those who wait, and for the session unless that is an exec's.
    if ('execId' in exit) {
      this.#session?.end(exit)
      return
    }
    for (const tell of this.#waits.get(exit.id) ?? []) tell(exit)
    this.#waits.delete(exit.id)
    if (this.#attachedTo === exit.id) this.#session?.end(exit)
  }

  #lose(fault: Fault): void {
    if (this.#lost) return
    this.#lost = fault
    for (const pending of this.#pending.splice(0)) pending.reject(fault)
    for (const waits of this.#waits.values()) for (const tell of waits) tell(fault)
    this.#waits.clear()
    this.#session?.lose(fault)
    this.#tellLost()
  }
}
