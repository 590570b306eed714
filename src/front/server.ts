import { openSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe } from '../base/fault.ts'
import { within } from '../base/within.ts'
import { binding, NATIVE_DIRECTORY } from '../kernel/binding.ts'
import { CallerGone, NotHere } from '../kernel/caller.ts'
import { O_DIRECTORY, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { FrontConnection } from './connection.ts'
import { isLikeUs } from './peer.ts'
import { type Call, type FrameName, parseCall, uint32 } from './protocol.ts'
import { RemoteCaller } from './remote-caller.ts'

/** In the daemon's STATE. */
const SOCKET = 'front.sock'
/** More callers do without a daemon. Each `run` in the foreground is one as long as its container lives. */
const CONNECTIONS_MAX = 256
/** For a caller to say what it wants: it is a program of ours that does nothing else, but a busy machine may hold it or us up. */
const CALL_MS = 5_000
/** After a failed accept, of which the reason (no descriptors) may pass. */
const PAUSE_MS = 100
const NOTHING = Buffer.alloc(0)

export interface Commands {
  /** Does a command for its caller; gives the exit code. Throws NotHere while nothing is done. */
  run(call: Call, caller: RemoteCaller): Promise<number>
  /** The program of which the command will most likely want a child: the caller starts it meanwhile, to wait until it is told what it is for (native/common/order.h). */
  ahead(call: Call): Fd | undefined
}

/** Listens at STATE/front.sock, for root alone, and does the command lines of native/front. */
export class FrontServer {
  readonly #path: string
  readonly #listener: Fd
  readonly #build: string
  readonly #commands: Commands
  readonly #connections = new Set<FrontConnection>()
  #isClosed = false

  /** `bundle`: the code at work; callers of another build do without us. One server for a STATE: who makes it holds the daemon's lock. */
  constructor(state: string, bundle: string, commands: Commands) {
    this.#path = join(state, SOCKET)
    this.#build = buildOf(bundle)
    this.#commands = commands
    using directory = new Fd(openSync(state, O_RDONLY | O_DIRECTORY))
    rmSync(this.#path, { force: true })
    this.#listener = new Fd(binding.listenUnix(directory.number, SOCKET))
  }

  /** Until close(). */
  async serve(): Promise<void> {
    while (!this.#isClosed) {
      try {
        const { fd, pid, uid } = await binding.acceptUnix(this.#listener.number)
        this.#accept(new FrontConnection(fd), pid, uid)
        // To wait for the next one makes a thread: a call that is there already is answered first.
        await turn()
        await turn()
      } catch {
        // EINVAL: closed.
        if (!this.#isClosed) await delay(PAUSE_MS)
      }
    }
    this.#listener.close()
  }

  /** Ends listening; who is connected hears the end of the connection. */
  close(): void {
    this.#isClosed = true
    rmSync(this.#path, { force: true })
    binding.shutdownSocket(this.#listener.number)
    for (const connection of this.#connections) connection.close()
  }

  #accept(connection: FrontConnection, pid: number, uid: number): void {
    if (uid !== 0 || this.#isClosed || this.#connections.size >= CONNECTIONS_MAX) {
      connection.close()
      return
    }
    this.#connections.add(connection)
    void connection.gone.then(() => this.#connections.delete(connection))
    this.#converse(connection, pid).catch(() => connection.close())
  }

  async #converse(connection: FrontConnection, pid: number): Promise<void> {
    const call = parseCall(await nextFrame(connection, 'call'))
    if (call.build !== this.#build || !isLikeUs(pid)) {
      connection.close()
      return
    }
    const program = this.#commands.ahead(call)
    if (!program) connection.send('ready')
    else if (!connection.sendWith('ready', NOTHING, [program.number])) {
      connection.close()
      return
    }
    await nextFrame(connection, 'go')
    const caller = new RemoteCaller(connection, pid, call)
    connection.onFrame((name, payload) => caller.take(name, payload))
    try {
      connection.send('exit', uint32(await this.#commands.run(call, caller)))
    } catch (error) {
      if (error instanceof NotHere) connection.send('notHere')
      else if (!(error instanceof CallerGone)) {
        caller.write(2, `${call.program}: ${describe(error)}\n`)
        connection.send('exit', uint32(1))
      }
    }
    // It ends the connection when it has read this; who does not is not waited for.
    await within(CALL_MS, connection.gone)
  }
}

/** The next frame's payload, which must be of this name; rejects where it is another, late, or the caller gone. */
function nextFrame(connection: FrontConnection, wanted: FrameName): Promise<Buffer> {
  const frame = new Promise<Buffer>((resolve, reject) => {
    connection.onFrame((name, payload) => {
      if (name === wanted) resolve(payload)
      else reject(new Error(`${name} in place of ${wanted}`))
    })
    void connection.gone.then(() => reject(new CallerGone()))
  })
  return within(CALL_MS, frame)
}

/** As native/front/main.cc makes it. */
function buildOf(bundle: string): string {
  const native = (name: string): string => fileURLToPath(new URL(name, NATIVE_DIRECTORY))
  return [native('berth-front'), native('berth-launch'), bundle]
    .map((path) => {
      const { ino, size, mtimeNs } = statSync(path, { bigint: true })
      const nanoseconds = String(mtimeNs % 1_000_000_000n).padStart(9, '0')
      return `${ino}:${size}:${mtimeNs / 1_000_000_000n}.${nanoseconds} `
    })
    .join('')
}
