import { Fault } from '../base/fault.ts'

/** What native/front says to a daemon and hears from it, as in native/front/protocol.h: frames `u32 length, u8 type, payload`, little endian. */
const PROTOCOL = '2'

export const FRAME = {
  call: 'c',
  go: 'g',
  signal: 's',
  ended: 'e',
  written: 'a',
  input: 'i',
  size: 'z',
  ready: 'r',
  notHere: 'n',
  write: 'w',
  output: 'o',
  want: 'd',
  raw: 't',
  instead: 'f',
  spawn: 'p',
  listen: 'l',
  kill: 'k',
  exit: 'x',
} as const

export type FrameName = keyof typeof FRAME

const HEAD_BYTES = 5
/** A call; what follows it is shorter. */
export const FRAME_BYTES_MAX = 256 * 1024

export function encodeFrame(name: FrameName, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + payload.length)
  frame.writeUInt32LE(payload.length, 0)
  frame.write(FRAME[name], 4, 'latin1')
  frame.set(payload, HEAD_BYTES)
  return frame
}

/** A command line as its caller has it. */
export interface Call {
  readonly build: string
  /** `berth` or `berth-oci`. */
  readonly program: string
  readonly directory: string
  readonly umask: number
  /** Which of 0 to 2 are terminals, a bit each; and the size of stdout's. */
  readonly terminals: number
  readonly rows: number
  readonly columns: number
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Before the arguments. */
const HEAD_TEXTS = 9

/** INVALID_ARGUMENT for what is no call of this protocol. */
export function parseCall(payload: Buffer): Call {
  const texts = splitTexts(payload)
  const [protocol, build = '', program = '', directory = '', umask = '', ...rest] = texts
  const numbers = rest.slice(0, HEAD_TEXTS - 5).filter((text) => /^\d{1,6}$/.test(text))
  const [terminals = 0, rows = 0, columns = 0, words = 0] = numbers.map(Number)
  const isGood =
    protocol === PROTOCOL &&
    directory.startsWith('/') &&
    /^\d{1,3}$/.test(umask) &&
    numbers.length === HEAD_TEXTS - 5 &&
    texts.length >= HEAD_TEXTS + words
  if (!isGood) throw new Fault('INVALID_ARGUMENT', 'a caller said something that is no call')
  return {
    build,
    program,
    directory,
    umask: Number(umask) & 0o777,
    terminals,
    rows,
    columns,
    args: texts.slice(HEAD_TEXTS, HEAD_TEXTS + words),
    env: Object.fromEntries(texts.slice(HEAD_TEXTS + words).map(pair)),
  }
}

function pair(variable: string): [string, string] {
  const at = variable.indexOf('=')
  return at < 0 ? [variable, ''] : [variable.slice(0, at), variable.slice(at + 1)]
}

function splitTexts(payload: Buffer): string[] {
  if (payload.at(-1) !== 0) return []
  return payload.toString('utf8', 0, payload.length - 1).split('\0')
}

/** Texts with a NUL behind each. */
export function joinTexts(texts: readonly string[]): Buffer {
  if (texts.some((text) => text.includes('\0'))) {
    throw new Fault('INVALID_ARGUMENT', 'an argument holds a NUL byte')
  }
  return Buffer.from(texts.map((text) => `${text}\0`).join(''))
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
