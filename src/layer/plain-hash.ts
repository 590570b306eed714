import { createHash, type Hash } from 'node:crypto'
import { Fault } from '../base/fault.ts'

/** sha256 of a layer's decompressed bytes, by who reads them or, on a thread of its own, by who makes them. */
export class PlainHash {
  #hash: Hash | undefined = createHash('sha256')
  #hex = ''

  /** The maker hashes on its own thread and tells the result by `set`; `update` does nothing any more. */
  leave(): void {
    this.#hash = undefined
  }

  update(chunk: Uint8Array): void {
    this.#hash?.update(chunk)
  }

  set(hex: string): void {
    this.#hex = hex
  }

  /** `sha256:HEX`, after the last byte. */
  digest(): string {
    const hex = this.#hash ? this.#hash.digest('hex') : this.#hex
    // The library has failed, or the stream was not read to its end.
    if (hex === '') throw new Fault('INTERNAL', 'the layer could not be hashed')
    return `sha256:${hex}`
  }
}
