import { binding } from '../kernel/binding.ts'
import type { Output, Stdio } from '../kernel/stdio.ts'

const used = new Set<NodeJS.WriteStream>()

/** Our own stdout or stderr. Node makes each at its first use, which takes a command that prints nothing some milliseconds less. */
export function ownStream(name: Output): NodeJS.WriteStream {
  const stream = process[name]
  used.add(stream)
  // A reader that has gone is told of by the write itself (see below). Otherwise nothing is left to tell him.
  if (stream.listenerCount('error') === 0) stream.on('error', () => {})
  return stream
}

/** This process's. */
export const ownStdio: Stdio = {
  isTerminal: (of) => process[of].isTTY === true,
  size() {
    const { rows = 0, columns = 0 } = process.stdout.isTTY ? process.stdout : {}
    return { rows, columns }
  },
  write(to, data, signal) {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        ownStream(to).destroy()
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', giveUp, { once: true })
      ownStream(to).write(data, (error) => {
        signal?.removeEventListener('abort', giveUp)
        error ? reject(error) : resolve()
      })
    })
  },
  put: (to, text) => void ownStream(to).write(text),
  async flushed() {
    // A full pipe takes no more at once.
    for (const stream of used) {
      if (stream.writableLength > 0) await new Promise((resolve) => stream.write('', resolve))
    }
  },
  input() {
    const { stdin } = process
    return {
      [Symbol.asyncIterator]: () => stdin[Symbol.asyncIterator]() as AsyncIterator<Buffer>,
      // An unread stdin would keep this process alive.
      close: () => stdin.destroy(),
    }
  },
  raw() {
    const { stdin } = process
    stdin.setRawMode(true)
    // Node leaves newline translation on: the program's own terminal has done it already.
    binding.rawOutput(stdin.fd)
    return () => stdin.setRawMode(false)
  },
  onResize(tell) {
    process.stdout.on('resize', tell)
    return () => process.stdout.off('resize', tell)
  },
}
