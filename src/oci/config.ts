import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { Fault, isErrno } from '../base/fault.ts'

/** A configuration with thousands of mounts has some hundred KiB. */
const BYTES_MAX = 16 * 1024 * 1024

/** A descriptor of this process's own, as a shell's `<(…)` and `/dev/stdin` name it. */
const OWN_FD = /^(\/dev\/stdin|\/dev\/fd\/\d+|\/proc\/self\/fd\/\d+)$/

/** A JSON document of a caller: a regular file, or a pipe that the caller holds himself; of a bounded size. */
export function readDocument(path: string): unknown {
  let fd: number
  const isOwn = OWN_FD.test(path)
  try {
    // A fifo that nobody writes to would hang.
    fd = openSync(path, constants.O_RDONLY | (isOwn ? 0 : constants.O_NONBLOCK))
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Fault('NOT_FOUND', `cannot open ${path}: no such file or directory`, { cause: error })
  }
  try {
    const stat = fstatSync(fd)
    if (isOwn && stat.isFIFO()) return parseDocument(path, streamText(fd, path))
    // A device may have no end.
    if (!stat.isFile()) throw new Fault('INVALID_ARGUMENT', `${path} is no regular file`)
    if (stat.size > BYTES_MAX) {
      throw new Fault('RESOURCE_EXHAUSTED', `${path} has more than ${BYTES_MAX} bytes`)
    }
    return parseDocument(path, readFileSync(fd, 'utf8'))
  } finally {
    closeSync(fd)
  }
}

/** All that a stream gives. */
export function streamText(fd: number, name: string): string {
  const buffer = Buffer.allocUnsafe(64 * 1024)
  const pieces: Buffer[] = []
  let size = 0
  for (let got = readSync(fd, buffer); got > 0; got = readSync(fd, buffer)) {
    size += got
    if (size > BYTES_MAX) {
      throw new Fault('RESOURCE_EXHAUSTED', `${name} has more than ${BYTES_MAX} bytes`)
    }
    pieces.push(Buffer.from(buffer.subarray(0, got)))
  }
  return Buffer.concat(pieces).toString('utf8')
}

export function parseDocument(name: string, text: string): unknown {
  try {
    const marked = exact(text)
    const value: unknown = marked === text ? JSON.parse(text) : JSON.parse(marked, revive)
    return text.includes('null') ? withoutNulls(value) : value
  } catch (error) {
    // What is nested too deep exhausts the stack.
    if (error instanceof RangeError) {
      throw new Fault('RESOURCE_EXHAUSTED', `${name} is nested too deep`, { cause: error })
    }
    if (!(error instanceof SyntaxError)) throw error
    throw new Fault('INVALID_ARGUMENT', `${name} is no JSON: ${error.message}`)
  }
}

/** Marks a number that a double cannot hold; text of a document cannot begin so, for `exact` leaves text alone. */
const WIDE = '\u0000wide:'

/** Whole numbers of 16 digits and more as marked text: limits and masks have 64 bits. */
function exact(text: string): string {
  if (!/\d{16}/.test(text)) return text
  return text.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,20}(?![\d.eE])/g, (part) =>
    part.startsWith('"') ? part : `"\\u0000wide:${part}"`,
  )
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== 'string' || !value.startsWith(WIDE)) return value
  const wide = value.slice(WIDE.length)
  if (!/^-?\d{16,20}$/.test(wide)) return value
  const number = Number(wide)
  return Number.isSafeInteger(number) ? number : BigInt(wide)
}

/** Encoders in Go write null for what is not given. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, part]) => part !== null)
      .map(([key, part]) => [key, withoutNulls(part)]),
  )
}

/** The text of a document with wide numbers; `readDocument` gives the same values again. */
export function documentText(value: unknown): string {
  const text = JSON.stringify(value, (_key, part) =>
    typeof part === 'bigint' ? `${WIDE}${part}` : part,
  )
  return text.replace(/"\\u0000wide:(-?\d+)"/g, '$1')
}
