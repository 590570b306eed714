import { rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { Fault } from '../base/fault.ts'
import { isFrozen } from '../cgroup/index.ts'
import { replyFault } from '../container/monitor-fault.ts'
import type { Caller } from '../kernel/caller.ts'
import { planHooks } from '../plan/index.ts'
import type { Spec } from '../spec/runtime.ts'
import { runHooks } from './hooks.ts'
import { killContainer } from './kill.ts'
import { listenForReady, type ReadySocket } from './notify.ts'
import { lockContainer, type OciRecord, type Place, readKeptConfig, readRecord } from './record.ts'
import { connectStart, isAlive, stateOf, statusOf } from './status.ts'

/** An answer longer than this is not of our program. */
const ANSWER_BYTES_MAX = 8192

interface Telling {
  /** The caller's NOTIFY_SOCKET. */
  readonly notify: string | undefined
  /** The process that the caller's manager shall watch; the container's first one. */
  readonly mainPid?: number
  /** What must be done when the program begins, and takes as long as what comes before that. */
  readonly before?: Promise<unknown> | undefined
  readonly warn: (message: string) => void
}

/** The same, and with a NOTIFY_SOCKET until the program says that it is ready. */
export async function startAndTell(caller: Caller, place: Place, telling: Telling): Promise<void> {
  const { notify, warn } = telling
  const { record, ready } = await startContainer(caller, place, telling)
  if (!ready || notify === undefined || record.pid === undefined) return
  using _ = ready
  const { mainPid = record.pid } = telling
  await ready.passOn(record.pid, { socket: notify, mainPid, warn })
}

interface Started {
  readonly record: OciRecord
  readonly ready: ReadySocket | undefined
}

/** Has a created container execute its program. */
async function startContainer(caller: Caller, place: Place, telling: Telling): Promise<Started> {
  using _lock = await lockContainer(place)
  const record = readRecord(place)
  const begun = begunStart(caller)
  if (begun) {
    await answerAt(begun, record.id)
    return { record, ready: undefined }
  }
  // Not statusOf, which connects, too: that wakes the process.
  const isWaiting = isAlive(record) && !isFrozen(record.cgroup)
  const socket = isWaiting ? await connectStart(place) : undefined
  if (!socket) {
    const status = await statusOf(place, record)
    throw new Fault(
      'FAILED_PRECONDITION',
      `cannot start container ${record.id}: it is ${status === 'created' ? 'stopped' : status}, not created`,
    )
  }
  try {
    return await startAt(caller, socket, place, record, telling)
  } finally {
    socket.destroy()
  }
}

async function startAt(
  caller: Caller,
  socket: Socket,
  place: Place,
  record: OciRecord,
  { notify: listens, before }: Telling,
): Promise<Started> {
  // A plain one's says nothing about the start, and reading it takes as long as the rest.
  const spec: Pick<Spec, 'hooks' | 'linux'> = record.plain ? {} : readKeptConfig(place)
  const hooks = planHooks(spec.hooks)
  const state = hooks.startContainer.length > 0 ? JSON.stringify(stateOf(record, 'created')) : ''
  const { seccomp } = spec.linux ?? {}
  const notify = seccomp?.listenerPath ? notifyText(record, seccomp.listenerMetadata) : ''
  const ready = listens === undefined ? undefined : listenForReady(place)
  await before
  await sayStart(socket, record.id, [state, notify])
  rmSync(place.start, { force: true })
  try {
    await runHooks(caller, 'poststart', hooks.poststart, {
      state: stateOf(record, 'running'),
      bundle: record.bundle,
    })
  } catch (error) {
    // runtime-spec 1.3, "Lifecycle": an error, and the container is stopped.
    killContainer(record)
    throw error
  }
  return { record, ready }
}

/** runtime-spec, "Container Process State". */
function notifyText(record: OciRecord, metadata: string | undefined): string {
  return JSON.stringify({
    ociVersion: record.ociVersion,
    fds: ['seccompFd'],
    pid: record.pid,
    ...(metadata === undefined ? {} : { metadata }),
    state: stateOf(record, 'creating'),
  })
}

/** The connection of a start that native/front has said, and of which it does not tell the failure itself. */
function begunStart({ env }: Caller): Socket | undefined {
  const fd = env['BERTH_OCI_START']
  return fd === undefined ? undefined : new Socket({ fd: Number(fd), allowHalfOpen: true })
}

/** The conversation of native/init/sync.h. Resolves when the program runs. */
async function sayStart(socket: Socket, id: string, texts: readonly string[]): Promise<void> {
  const parts = texts.flatMap((text) => {
    const bytes = Buffer.from(text)
    const size = Buffer.alloc(4)
    size.writeUInt32LE(bytes.length)
    return [size, bytes]
  })
  socket.write(Buffer.concat([Buffer.from('S'), ...parts]))
  await answerAt(socket, id)
}

async function answerAt(socket: Socket, id: string): Promise<void> {
  const answer = await bytesOf(socket)
  if (answer.length === 0) return
  const [stage = '', text = ''] = answer.subarray(5).toString().split('\0')
  throw replyFault(`start container ${id}`, { stage, errno: answer.readInt32LE(1), text })
}

/** All that comes. Not by iteration, which makes an error of it that our own half is still open, in each start two of them with their stacks. */
function bytesOf(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const end = (): void => {
      socket.destroy()
      resolve(Buffer.concat(chunks))
    }
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      if (size > ANSWER_BYTES_MAX) end()
    })
    socket.once('end', end)
    socket.once('error', reject)
    // Destroyed by somebody else.
    socket.once('close', end)
  })
}
