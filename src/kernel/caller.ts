import { read, readSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { isErrno } from '../base/fault.ts'
import { binding, type ExitStatus } from './binding.ts'
import { Fd } from './fd.ts'

/** A descriptor for a program: one of this process, or one that the caller has by that number. */
export type ChildFd = Fd | { readonly caller: number }

export interface ChildOptions {
  /** A path, or the opened program. */
  readonly file: string | Fd
  readonly args: readonly string[]
  readonly env: readonly string[]
  /** From 0 on. */
  readonly fds: readonly ChildFd[]
  /** Leads a process group of its own. */
  readonly group?: boolean
  readonly directory?: string
}

export interface Child {
  /** Rejects where the program cannot be executed. */
  readonly status: Promise<ExitStatus>
  /** SIGKILL for the group that it leads; nothing once it has ended. */
  kill(): void
}

/**
 * Whoever wants a command done: this process for itself (`ownCaller`), or the process at the other end of the daemon's socket
 * (front/remote-caller.ts). A command asks it for all that differs between processes, and never `process`.
 */
export interface Caller {
  /** False: the command is done in a daemon. What needs the caller's own process then says `notHere`, before anything is done. */
  readonly isSelf: boolean
  /** Whose limits and rights a child would have. */
  readonly pid: number | 'self'
  readonly umask: number
  readonly env: Readonly<Record<string, string | undefined>>
  /** An absolute path: relative ones are the caller's. NotHere for what each process has of its own (/dev/stdin). */
  resolve(path: string): string
  /** To the caller's stdout or stderr. */
  write(fd: 1 | 2, text: string): void
  /** A child of the caller, as of binding.spawn. */
  spawn(options: ChildOptions): Child
  /** Takes the descriptor. */
  reader(pipe: Fd): PipeReader
  /** Tells each of these signals that the caller gets from now on, until the function is called; all that a program in its place might want where none are named. */
  onSignal(tell: (signal: number) => void, signals?: readonly number[]): Promise<() => void>
  /** Where the daemon that does the command ends before it, the caller's own process goes on with these arguments; with none, no longer. */
  instead(args: readonly string[] | undefined): void
  /** `act` is called when the caller is gone; the function that is returned ends that. */
  onGone(act: () => void): () => void
}

export interface PipeReader {
  /** Some bytes; empty at the end. Rejects with CallerGone. `isLong` where that may take as long as a container lives. */
  read(isLong: boolean): Promise<Buffer> | Buffer
  close(): void
}

/** The command cannot be done in a daemon, and nothing of it has been: the caller does it himself. */
export class NotHere extends Error {}

/** The caller has ended before the command. */
export class CallerGone extends Error {}

/** Throws NotHere in a daemon. Only before the first effect. */
export function onlySelf(caller: Caller): void {
  if (!caller.isSelf) throw new NotHere()
}

/** Not passed on: they are about this process. */
const OWN = ['SIGCHLD', 'SIGPIPE', 'SIGURG', 'SIGWINCH', 'SIGKILL', 'SIGSTOP', 'SIGPROF']
/** Said by the kernel to who has failed. */
const FAULTS = ['SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGTRAP', 'SIGSYS', 'SIGABRT', 'SIGIOT']
/** Node cannot listen to these. */
const UNHEARD = ['SIGUNUSED', 'SIGSTKFLT', 'SIGPOLL']

const LEFT = new Set([...OWN, ...FAULTS, ...UNHEARD])
const PASSED = Object.entries(constants.signals).filter(([name]) => !LEFT.has(name))
/** What a program in a caller's place might want. */
export const PROGRAM_SIGNALS: readonly number[] = PASSED.map(([, number]) => number)

/** Aborted when the caller has gone, for what would else be waited for. */
export function untilGone(caller: Caller): AbortSignal {
  const abort = new AbortController()
  caller.onGone(() => abort.abort(new CallerGone()))
  return abort.signal
}

/** This process as its own caller. */
export function ownCaller(): Caller {
  return {
    isSelf: true,
    pid: 'self',
    // Asking sets it for a moment: only where it is needed.
    get umask() {
      return process.umask()
    },
    env: process.env,
    resolve: (path) => resolve(path),
    write: writeAll,
    spawn: spawnOwn,
    reader: (pipe) => new BlockingReader(pipe),
    onSignal,
    instead: () => {},
    onGone: () => () => {},
  }
}

function spawnOwn({ file, fds, ...options }: ChildOptions): Child {
  const numbers = fds.map((fd) => (fd instanceof Fd ? fd.number : fd.caller))
  const program = file instanceof Fd ? file.number : file
  try {
    const { pid, status } = binding.spawn({ ...options, file: program, fds: numbers })
    return { status, kill: () => process.kill(-pid, 'SIGKILL') }
  } catch (error) {
    return { status: Promise.reject(error), kill: () => {} }
  }
}

/** Not through Node's streams: their first use makes a pipe non-blocking, for the container, too, whose stdio is ours. */
function writeAll(fd: 1 | 2, text: string): void {
  const bytes = Buffer.from(text)
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done)
    } catch (error) {
      if (!isErrno(error, 'EAGAIN')) return
    }
  }
}

const READ_BYTES = 4096

class BlockingReader implements PipeReader {
  readonly #pipe: Fd
  readonly #buffer = Buffer.allocUnsafe(READ_BYTES)

  constructor(pipe: Fd) {
    this.#pipe = pipe
  }

  read(isLong: boolean): Promise<Buffer> | Buffer {
    const { number } = this.#pipe
    if (!isLong) return this.#buffer.subarray(0, readSync(number, this.#buffer))
    return promisify(read)(number, { buffer: this.#buffer }).then(({ bytesRead }) =>
      this.#buffer.subarray(0, bytesRead),
    )
  }

  close(): void {
    this.#pipe.close()
  }
}

async function onSignal(
  tell: (signal: number) => void,
  signals: readonly number[] = PROGRAM_SIGNALS,
): Promise<() => void> {
  const wanted = PASSED.filter(([, number]) => signals.includes(number))
  const handlers = wanted.map(([name, number]) => {
    const handler = (): void => tell(number)
    process.on(name, handler)
    return { name, handler }
  })
  return () => {
    for (const { name, handler } of handlers) process.off(name, handler)
  }
}
