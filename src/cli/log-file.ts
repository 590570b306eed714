import { type FSWatcher, watch } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { Fault, isErrno } from '../base/fault.ts'
import { parseTimestamp } from './parse/time.ts'

/** One line of a log in the kubelet's format: `TIME STREAM TAG CONTENT`. */
export interface LogLine {
  /** RFC 3339 with nanoseconds, as written. */
  readonly time: string
  readonly stream: 'stdout' | 'stderr'
  /** The program's line goes on in the next one of its stream. */
  readonly partial: boolean
  /** Without the newline. */
  readonly content: Buffer
}

export interface ReadOptions {
  /** The last so many lines of the program; undefined for all. */
  readonly tail?: number | undefined
  readonly sinceNs?: bigint | undefined
  readonly untilNs?: bigint | undefined
}

/** Longer ones are no log of ours: the monitor cuts what a program writes into pieces of 16 KiB. */
export const LOG_LINE_BYTES_MAX = 1024 * 1024
const BLOCK_BYTES = 256 * 1024
const NEWLINE = 0x0a
const SPACE = 0x20

/** A line's parts; undefined where it does not follow the format (a line torn by a full disk). */
export function parseLogLine(line: Buffer): LogLine | undefined {
  const first = line.indexOf(SPACE)
  const second = line.indexOf(SPACE, first + 1)
  const third = line.indexOf(SPACE, second + 1)
  if (first < 1 || second < 0) return undefined
  const stream = line.toString('latin1', first + 1, second)
  // An empty line of the program may lack the last space.
  const tag = line.toString('latin1', second + 1, third < 0 ? line.length : third)
  if (stream !== 'stdout' && stream !== 'stderr') return undefined
  const partial = tag === 'P' || tag.startsWith('P:')
  if (!partial && tag !== 'F' && !tag.startsWith('F:')) return undefined
  const content = third < 0 ? Buffer.alloc(0) : line.subarray(third + 1)
  return { time: line.toString('latin1', 0, first), stream, partial, content }
}

/** The lines that are in the file now, then, with `follow`, those that come until it resolves, through rotations. */
export async function* readLog(
  path: string,
  options: ReadOptions,
  follow?: Promise<unknown>,
): AsyncGenerator<LogLine> {
  // Watched before it is read: nothing that comes in between is missed.
  const change = follow ? new Changes(path, follow) : undefined
  try {
    let file = await openIfAny(path)
    while (!file && change && (await change.next())) file = await openIfAny(path)
    // The container has ended between the last look and its end.
    file ??= await openIfAny(path)
    let offset = file && options.tail !== undefined ? await tailOffset(file, options.tail) : 0
    while (file) {
      const reader = new LineReader(file, offset)
      let rotated = false
      try {
        for (;;) {
          // Asked before the last read: what is written before the end is then read.
          const ended = change === undefined || change.ended
          for await (const line of reader.lines()) {
            const parsed = wanted(line, options)
            if (parsed === 'past') return
            if (parsed) yield parsed
          }
          if (rotated) break
          if (ended) return
          rotated = await isReplaced(file, path, reader.offset)
          // Once more: the last lines of the old file may have come before it was replaced.
          if (!rotated) await change.next()
        }
      } finally {
        await file.close()
      }
      file = await openIfAny(path)
      offset = 0
    }
  } finally {
    change?.close()
  }
}

function wanted(line: Buffer, options: ReadOptions): LogLine | 'past' | undefined {
  const parsed = parseLogLine(line)
  if (!parsed || (options.sinceNs === undefined && options.untilNs === undefined)) return parsed
  const ns = parseTimestamp(parsed.time)
  if (ns === undefined) return undefined
  if (options.sinceNs !== undefined && ns < options.sinceNs) return undefined
  return options.untilNs !== undefined && ns > options.untilNs ? 'past' : parsed
}

/** Where the last `count` lines of the program begin. Reads backwards: the size of the file costs nothing. */
export async function tailOffset(file: FileHandle, count: number): Promise<number> {
  const { size } = await file.stat()
  if (count === 0) return size
  let position = size
  // The start of a line whose end is in `rest`.
  let rest = Buffer.alloc(0)
  let found = 0
  while (position > 0) {
    const length = Math.min(BLOCK_BYTES, position)
    position -= length
    const block = await readFully(file, position, length)
    rest = Buffer.concat([block, rest])
    let end = rest.length
    for (;;) {
      const newline = end < 2 ? -1 : rest.lastIndexOf(NEWLINE, end - 2)
      if (newline < 0) break
      // A program's line ends here where this piece is a whole or last one; it begins after the one before.
      const piece = rest.subarray(newline + 1, end)
      if (isLast(piece)) found++
      if (found > count) return position + end
      end = newline + 1
    }
    rest = rest.subarray(0, end)
    if (rest.length > LOG_LINE_BYTES_MAX) throw tooLong()
  }
  if (isLast(rest)) found++
  return found > count ? rest.length : 0
}

function isLast(line: Buffer): boolean {
  const end = line.at(-1) === NEWLINE ? line.length - 1 : line.length
  const parsed = parseLogLine(line.subarray(0, end))
  return parsed !== undefined && !parsed.partial
}

/** Whole lines of a growing file. */
class LineReader {
  readonly #file: FileHandle
  #rest = Buffer.alloc(0)
  offset: number

  constructor(file: FileHandle, offset: number) {
    this.#file = file
    this.offset = offset
  }

  /** Up to the end of the file as it is now; may be called again. */
  async *lines(): AsyncGenerator<Buffer> {
    const block = Buffer.allocUnsafe(BLOCK_BYTES)
    for (;;) {
      const { bytesRead } = await this.#file.read(block, 0, block.length, this.offset)
      if (bytesRead === 0) return
      this.offset += bytesRead
      const bytes = Buffer.concat([this.#rest, block.subarray(0, bytesRead)])
      let start = 0
      for (;;) {
        const newline = bytes.indexOf(NEWLINE, start)
        if (newline < 0) break
        yield bytes.subarray(start, newline)
        start = newline + 1
      }
      this.#rest = bytes.subarray(start)
      if (this.#rest.length > LOG_LINE_BYTES_MAX) throw tooLong()
    }
  }
}

/** Wakes up when something happens to a file's name, or when `end` resolves. */
class Changes {
  readonly #watcher: FSWatcher
  #wake: (() => void) | undefined
  #pending = false
  ended = false

  constructor(path: string, end: Promise<unknown>) {
    // The directory, not the file: a rotation gives the name to another file.
    this.#watcher = watch(dirname(path), (_event, name) => {
      if (name === null || name === basename(path)) this.#happened()
    })
    this.#watcher.on('error', () => this.#happened())
    const ended = (): void => {
      this.ended = true
      this.#happened()
    }
    end.then(ended, ended)
  }

  #happened(): void {
    this.#pending = true
    this.#wake?.()
  }

  /** Resolves at the next change since the last call; with false when nothing will come any more. */
  async next(): Promise<boolean> {
    if (!this.#pending && !this.ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
    this.#pending = false
    return !this.ended
  }

  close(): void {
    this.#watcher.close()
  }
}

/** Whether the name leads to another file by now, or the file was cut. */
async function isReplaced(file: FileHandle, path: string, offset: number): Promise<boolean> {
  const own = await file.stat()
  const named = await openIfAny(path)
  // Moved away, and the new one not made yet: its making is the next change.
  if (!named) return false
  try {
    const other = await named.stat()
    return other.ino !== own.ino || other.dev !== own.dev || own.size < offset
  } finally {
    await named.close()
  }
}

async function openIfAny(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

async function readFully(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const block = Buffer.alloc(length)
  let done = 0
  while (done < length) {
    const { bytesRead } = await file.read(block, done, length - done, position + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return block.subarray(0, done)
}

function tooLong(): Fault {
  return new Fault('DATA_LOSS', `the log holds a line of more than ${LOG_LINE_BYTES_MAX} bytes`)
}
