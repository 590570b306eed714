import type { AddressInfo } from 'node:net'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Random } from './random.ts'

/**
 * A TCP proxy that cuts connections, both directions at once, after a random number of bytes: `cuts` times, then it only passes on.
 */
export class CuttingProxy {
  cutsLeft: number
  /** Bytes passed on in all, towards us and away. */
  received = 0
  sent = 0
  connections = 0
  readonly #target: number
  readonly #bytesMax: number
  readonly #random: Random
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(host: string, options: { cuts: number; bytesMax: number; random: Random }) {
    this.#target = Number(host.split(':')[1])
    this.cutsLeft = options.cuts
    this.#bytesMax = options.bytesMax
    this.#random = options.random
    this.#server = createServer((socket) => this.#accept(socket))
  }

  static async start(
    host: string,
    options: { cuts: number; bytesMax: number; random: Random },
  ): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(host, options)
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve))
    return proxy
  }

  /** `127.0.0.1:PORT`. */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #accept(near: Socket): void {
    this.connections++
    const far = connect(this.#target, '127.0.0.1')
    let left = this.#random.between(1, this.#bytesMax)
    let isCut = false
    const cut = (): void => {
      near.resetAndDestroy()
      far.resetAndDestroy()
    }
    const pass = (from: Socket, to: Socket, count: (bytes: number) => void): void => {
      this.#sockets.add(from)
      from.on('error', () => to.destroy())
      from.on('close', () => {
        this.#sockets.delete(from)
        to.end()
      })
      from.on('drain', () => to.resume())
      from.on('data', (data) => {
        const part = this.cutsLeft > 0 ? data.subarray(0, left) : data
        left -= part.length
        count(part.length)
        const isLast = part.length < data.length
        // Counted now and once: both directions come to the last byte, and so do other connections before this one is cut.
        if (isLast && !isCut) {
          isCut = true
          this.cutsLeft--
        }
        const isFull = !to.write(part, () => {
          if (isLast) cut()
        })
        if (isLast || isFull) from.pause()
      })
    }
    pass(near, far, (bytes) => {
      this.sent += bytes
    })
    pass(far, near, (bytes) => {
      this.received += bytes
    })
  }
}
