import { chmodSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { O_DIRECTORY, O_RDONLY } from '../kernel/constants.ts'
import { Fd } from '../kernel/fd.ts'
import { openProcess } from '../kernel/process.ts'
import type { Mount } from '../spec/runtime.ts'
import type { Place } from './record.ts'

/** sd_notify(3) of a program in a container: it tells us, and we its caller's NOTIFY_SOCKET. Names are runc's. */
const INSIDE = '/run/notify'
const SOCKET = 'notify.sock'

/** What the container gets for it: a directory of ours, in which the socket will be. */
export function notifyParts(place: Place): { mount: Mount; env: string } {
  return {
    mount: {
      destination: INSIDE,
      type: 'bind',
      source: directoryOf(place),
      options: ['bind', 'nosuid', 'noexec', 'nodev', 'ro'],
    },
    env: `NOTIFY_SOCKET=${INSIDE}/${SOCKET}`,
  }
}

export function makeNotifyDirectory(place: Place): void {
  mkdirSync(directoryOf(place))
  chmodSync(directoryOf(place), 0o755)
}

function directoryOf(place: Place): string {
  return join(place.directory, 'notify')
}

/** Undefined for a container that was made without it. The caller holds the lock. */
export function listenForReady(place: Place): ReadySocket | undefined {
  if (!existsSync(directoryOf(place))) return undefined
  using directory = new Fd(openSync(directoryOf(place), O_RDONLY | O_DIRECTORY))
  // Not by the directory's own path, which may be longer than a socket's may be.
  const path = `/proc/self/fd/${directory.number}/${SOCKET}`
  // Of a start that was killed.
  rmSync(path, { force: true })
  const socket = new Fd(binding.bindDatagram(path))
  // A program of any user writes to it.
  chmodSync(path, 0o777)
  return new ReadySocket(socket)
}

export class ReadySocket {
  readonly #socket: Fd

  constructor(socket: Fd) {
    this.#socket = socket
  }

  /** Waits until the program is ready, and tells the caller's manager which process is the main one; or until it ends. */
  async passOn(
    pid: number,
    to: {
      readonly socket: string
      readonly mainPid: number
      readonly warn: (text: string) => void
    },
  ): Promise<void> {
    using process = openProcess(pid)
    if (!process) return
    for (;;) {
      const text = await binding.receiveDatagram(this.#socket.number, process.number)
      if (text === undefined) return
      if (text.toString().split('\n').includes('READY=1')) break
    }
    try {
      binding.notifySocket(to.socket, `READY=1\nMAINPID=${to.mainPid}\n`)
    } catch (error) {
      to.warn(`cannot tell ${to.socket} that the container is ready: ${describe(error)}`)
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close()
  }
}
