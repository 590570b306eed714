import { binding } from './binding.ts'
import { Fd } from './fd.ts'

/** A pipe's ends. */
export interface Pipe {
  readonly read: Fd
  readonly write: Fd
}

/** Two pipes, or none where the second fails. What is not given away is closed at the end. */
export function twoPipes(): { readonly first: Pipe; readonly second: Pipe } & Disposable {
  const first = pipe()
  try {
    const second = pipe()
    return { first, second, [Symbol.dispose]: () => [first, second].forEach(close) }
  } catch (error) {
    close(first)
    throw error
  }
}

function pipe(): Pipe {
  const { read, write } = binding.pipe()
  return { read: new Fd(read), write: new Fd(write) }
}

function close({ read, write }: Pipe): void {
  read.close()
  write.close()
}
