import protobuf from 'protobufjs'

export const { Writer } = protobuf
export type Writer = protobuf.Writer

/** An answer that is on the wire's form already: what is asked for all the time, of every container, is written there without objects in between. */
export class Encoded {
  readonly bytes: Buffer

  constructor(writer: Writer) {
    const { buffer, byteOffset, byteLength } = writer.finish()
    this.bytes = Buffer.from(buffer, byteOffset, byteLength)
  }
}

/** Wire types of fields (protobuf's encoding). */
const VARINT = 0
const EIGHT_BYTES = 1
const BYTES = 2

export function text(writer: Writer, field: number, value: string): void {
  if (value !== '') writer.uint32((field << 3) | BYTES).string(value)
}

/** Whole, not negative, at most 2^53. */
export function whole(writer: Writer, field: number, value: number): void {
  writer.uint32((field << 3) | VARINT).uint64(value)
}

export function fraction(writer: Writer, field: number, value: number): void {
  writer.uint32((field << 3) | EIGHT_BYTES).double(value)
}

/** A time in ns, which needs all 64 bits. */
export function time(writer: Writer, field: number, ns: bigint): void {
  const bits = { low: Number(ns & 0xffffffffn), high: Number(ns >> 32n), unsigned: false }
  writer.uint32((field << 3) | VARINT).int64(bits as Parameters<Writer['int64']>[0])
}

/** A message of its own in a field. */
export function message(writer: Writer, field: number, write: (writer: Writer) => void): void {
  writer.uint32((field << 3) | BYTES).fork()
  write(writer)
  writer.ldelim()
}

/** The same of one that was written before. */
export function written(writer: Writer, field: number, bytes: Uint8Array): void {
  writer.uint32((field << 3) | BYTES).bytes(bytes)
}

/** A map<string, string>: an entry for each pair. */
export function pairs(
  writer: Writer,
  field: number,
  values: Readonly<Record<string, string>>,
): void {
  for (const [key, value] of Object.entries(values)) {
    message(writer, field, () => {
      text(writer, 1, key)
      text(writer, 2, value)
    })
  }
}
