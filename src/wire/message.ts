/**
 * The one encoding of what TypeScript tells the native programs: plans and requests.
 *
 * A message is a row of fields, each `u16 tag, u16 zero, u32 length, bytes` (little endian). A number is 8
 * bytes, text is its bytes without a NUL, a group is a message in a field. A list is a repeated tag, in order.
 * A decoder refuses a tag that it does not know, so that an old monitor never ignores what a new berth asks.
 */
export class Message {
  readonly #parts: Buffer[] = []

  number(tag: number, value: number | bigint): this {
    const bytes = Buffer.allocUnsafe(8)
    bytes.writeBigInt64LE(BigInt.asIntN(64, BigInt(value)))
    return this.bytes(tag, bytes)
  }

  flag(tag: number, value: boolean | undefined): this {
    return value ? this.number(tag, 1) : this
  }

  /** Text must hold no NUL byte: it ends up in C strings. */
  text(tag: number, value: string): this {
    const bytes = Buffer.from(value)
    if (bytes.includes(0)) throw new TypeError(`text of field ${tag} holds a NUL byte`)
    return this.bytes(tag, bytes)
  }

  texts(tag: number, values: readonly string[]): this {
    for (const value of values) this.text(tag, value)
    return this
  }

  group(tag: number, fill: (group: Message) => unknown): this {
    const group = new Message()
    fill(group)
    return this.bytes(tag, group.encode())
  }

  bytes(tag: number, value: Uint8Array): this {
    const head = Buffer.alloc(8)
    head.writeUInt16LE(tag, 0)
    head.writeUInt32LE(value.length, 4)
    this.#parts.push(head, Buffer.from(value.buffer, value.byteOffset, value.byteLength))
    return this
  }

  encode(): Buffer {
    return Buffer.concat(this.#parts)
  }
}
