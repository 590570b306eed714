import { close, closeSync } from 'node:fs'

/**
 * A file descriptor with one owner: `using dir = new Fd(...)` closes it at the end of the block. Using it after that throws, because
 * the number may by then be another file's.
 */
export class Fd {
  #number: number

  constructor(number: number) {
    if (!Number.isInteger(number) || number < 0) throw new TypeError(`${number} is no fd`)
    this.#number = number
  }

  get number(): number {
    if (this.#number < 0) throw new TypeError('this fd was closed or given away')
    return this.#number
  }

  /** Gives the descriptor away: the caller closes it. */
  release(): number {
    const number = this.number
    this.#number = -1
    return number
  }

  /** May be called again, and after release(). */
  close(): void {
    if (this.#number < 0) return
    const number = this.#number
    this.#number = -1
    closeSync(number)
  }

  /** The same on a thread beside: the last descriptor of a detached mount is closed when the kernel has dissolved that, some milliseconds later. */
  closeAside(): void {
    if (this.#number < 0) return
    // What can fail has been done before: it is closed.
    close(this.release(), () => {})
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
