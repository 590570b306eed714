import { Socket } from 'node:net'
import { isErrno } from '../base/fault.ts'
import { binding } from '../kernel/binding.ts'
import { type Frame, FrameReader } from '../wire/frame.ts'
import { encodeFrame, FRAME, FRAME_BYTES_MAX, type FrameName } from './protocol.ts'

/** A caller that reads nothing is tried again so often. */
const RETRY_MS = 5
/** Frames that come before anybody takes them: a caller has little to say before it is asked. */
const EARLY_MAX = 4
const NAMES = Object.keys(FRAME) as FrameName[]

type Take = (name: FrameName | undefined, payload: Buffer) => void

/** One caller's socket: frames in, frames and descriptors out. */
export class FrontConnection {
  /** Resolves when the connection has ended, whoever ended it. */
  readonly gone: Promise<void>
  readonly #socket: Socket
  readonly #fd: number
  readonly #reader = new FrameReader(FRAME_BYTES_MAX)
  readonly #waiting: Buffer[] = []
  readonly #early: Frame[] = []
  #retry: NodeJS.Timeout | undefined
  #take: Take | undefined

  /** Takes the descriptor. */
  constructor(fd: number) {
    this.#fd = fd
    this.#socket = new Socket({ fd, readable: true, writable: true })
    this.gone = new Promise((resolve) => this.#socket.once('close', () => resolve()))
    this.#socket.on('error', () => {})
    this.#socket.on('data', (bytes: Buffer) => this.#receive(bytes))
  }

  get isGone(): boolean {
    return this.#socket.destroyed
  }

  /** Who gets each frame from now on; undefined is a name that we do not know. */
  onFrame(take: Take): void {
    this.#take = take
    for (const frame of this.#early.splice(0)) this.#tell(frame)
  }

  close(): void {
    this.#socket.destroy()
  }

  send(name: FrameName, payload?: Uint8Array): void {
    this.#waiting.push(encodeFrame(name, payload))
    this.#flush()
  }

  /** With descriptors, at once: false where the caller does not read. */
  sendWith(name: FrameName, payload: Uint8Array, fds: readonly number[]): boolean {
    this.#flush()
    if (this.isGone || this.#waiting.length > 0) return false
    const frame = encodeFrame(name, payload)
    try {
      const sent = binding.sendDescriptors(this.#fd, frame, fds)
      if (sent < frame.length) this.#waiting.push(frame.subarray(sent))
    } catch (error) {
      if (isErrno(error, 'EAGAIN', 'EPIPE', 'ECONNRESET')) return false
      throw error
    }
    this.#flush()
    return true
  }

  #flush(): void {
    for (;;) {
      const frame = this.#waiting[0]
      // Of a socket that is gone the number may be another file's.
      if (!frame || this.isGone) return
      try {
        const sent = binding.sendDescriptors(this.#fd, frame, [])
        if (sent < frame.length) this.#waiting[0] = frame.subarray(sent)
        else this.#waiting.shift()
      } catch (error) {
        if (isErrno(error, 'EAGAIN')) this.#flushLater()
        else this.close()
        return
      }
    }
  }

  #flushLater(): void {
    // One for all that waits, whoever has said more meanwhile.
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined
      this.#flush()
    }, RETRY_MS)
  }

  #receive(bytes: Buffer): void {
    try {
      for (const frame of this.#reader.push(bytes)) this.#tell(frame)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      this.close()
    }
  }

  #tell(frame: Frame): void {
    const letter = String.fromCharCode(frame.type)
    if (this.#take)
      this.#take(
        NAMES.find((name) => FRAME[name] === letter),
        frame.payload,
      )
    else if (this.#early.push(frame) > EARLY_MAX) this.close()
  }
}
