/** Of a small request; a plan's grows. */
const FIRST_BYTES = 1024
const HEAD_BYTES = 8

/**
 * The one encoding of what TypeScript tells the native programs: plans and requests.
 *
 * A message is a row of fields, each `u16 tag, u16 zero, u32 length, bytes` (little endian). A number is 8
 * bytes, text is its bytes without a NUL, a group is a message in a field. A list is a repeated tag, in order.
 * A decoder refuses a tag that it does not know, so that an old monitor never ignores what a new berth asks.
 */
export class Message {
  // One buffer for a message and its groups: a plan has some thousand fields.
  #buffer = Buffer.allocUnsafe(FIRST_BYTES)
  #size = 0

  number(tag: number, value: number | bigint): this {
    const at = this.#field(tag, 8)
    this.#buffer.writeBigInt64LE(BigInt.asIntN(64, BigInt(value)), at)
    return this
  }

  flag(tag: number, value: boolean | undefined): this {
    return value ? this.number(tag, 1) : this
  }

  /** Text must hold no NUL byte: it ends up in C strings. */
  text(tag: number, value: string): this {
    if (value.includes('\0')) throw new TypeError(`text of field ${tag} holds a NUL byte`)
    const at = this.#field(tag, Buffer.byteLength(value))
    this.#buffer.write(value, at)
    return this
  }

  texts(tag: number, values: readonly string[]): this {
    for (const value of values) this.text(tag, value)
    return this
  }

  group(tag: number, fill: (group: Message) => unknown): this {
    const begin = this.#field(tag, 0)
    fill(this)
    this.#buffer.writeUInt32LE(this.#size - begin, begin - 4)
    return this
  }

  bytes(tag: number, value: Uint8Array): this {
    const at = this.#field(tag, value.length)
    this.#buffer.set(value, at)
    return this
  }

  encode(): Buffer {
    return this.#buffer.subarray(0, this.#size)
  }

  /** The head of a field, and room behind it; where that begins. */
  #field(tag: number, length: number): number {
    const at = this.#size + HEAD_BYTES
    this.#size = at + length
    if (this.#size > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#size, this.#buffer.length * 2))
      this.#buffer.copy(grown, 0, 0, at - HEAD_BYTES)
      this.#buffer = grown
    }
    this.#buffer.writeUInt32LE(tag, at - HEAD_BYTES)
    this.#buffer.writeUInt32LE(length, at - 4)
    return at
  }
}
