/** What a test puts behind the streaming server: real processes of this machine, or a session made by hand. */
import { spawn } from 'node:child_process'
import type { Session } from '../../src/stream/index.ts'

type Output = { readonly stream: 'stdout' | 'stderr'; readonly data: Buffer }

/** A session whose output the test writes itself, and that keeps what was done to it. */
export class HandSession implements Session {
  readonly sizes: string[] = []
  readonly input: Buffer[] = []
  inputBytes = 0
  isInputClosed = false
  isClosed = false
  /** Bytes that were asked for. */
  produced = 0
  /** Called before each piece of input is taken. */
  beforeWrite: () => Promise<void> = async () => {}
  readonly exit: Promise<{ readonly code: number }>
  readonly output: AsyncIterable<Output>
  #end: (code: number) => void = () => {}
  readonly #queue: Output[] = []
  #isOver = false
  #wake: (() => void) | undefined

  constructor(source?: Iterable<Output>) {
    this.exit = new Promise((resolve, reject) => {
      this.#end = (code) =>
        code < 0 ? reject(new Error('the monitor was lost')) : resolve({ code })
    })
    this.exit.catch(() => {})
    this.output = source ? this.#from(source) : this.#fromQueue()
  }

  say(text: string, stream: 'stdout' | 'stderr' = 'stdout'): void {
    this.#queue.push({ stream, data: Buffer.from(text) })
    this.#wake?.()
  }

  /** The process ends; with a negative code it is lost. */
  finish(code: number): void {
    this.#isOver = true
    this.#end(code)
    this.#wake?.()
  }

  async write(data: Uint8Array): Promise<void> {
    await this.beforeWrite()
    if (this.#isOver) throw new Error('the process has ended')
    this.input.push(Buffer.from(data))
    this.inputBytes += data.length
  }

  closeInput(): void {
    this.isInputClosed = true
  }

  resize(rows: number, columns: number): void {
    this.sizes.push(`${columns}x${rows}`)
    this.say(`[${columns}x${rows}]`)
  }

  close(): void {
    this.isClosed = true
    this.finish(-1)
  }

  async *#fromQueue(): AsyncGenerator<Output> {
    for (;;) {
      const next = this.#queue.shift()
      if (next) yield next
      else if (this.#isOver) return
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
    }
  }

  async *#from(source: Iterable<Output>): AsyncGenerator<Output> {
    for (const output of source) {
      if (this.isClosed) return
      this.produced += output.data.length
      yield output
    }
    this.finish(0)
  }
}

/** A process with pipes, as a container's without a terminal. */
export function processSession(command: readonly string[]): Session & { readonly pid: number } {
  const child = spawn(command[0] ?? '', command.slice(1), { stdio: 'pipe' })
  const queue: Output[] = []
  let wake = (): void => {}
  let open = 2
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].on('data', (data: Buffer) => {
      queue.push({ stream, data })
      child[stream].pause()
      wake()
    })
    child[stream].on('close', () => {
      open--
      wake()
    })
  }
  child.stdin.on('error', () => {})
  const exit = new Promise<{ readonly code: number }>((resolve) => {
    child.on('exit', (code) => resolve({ code: code ?? 137 }))
  })
  async function* output(): AsyncGenerator<Output> {
    for (;;) {
      const next = queue.shift()
      if (next) {
        child[next.stream].resume()
        yield next
      } else if (open === 0) return
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  }
  return {
    pid: child.pid ?? 0,
    output: output(),
    exit,
    write: (data) =>
      new Promise((resolve, reject) => {
        child.stdin.write(data, (error) => (error ? reject(error) : resolve()))
      }),
    closeInput: () => child.stdin.end(),
    resize: () => {},
    close: () => child.kill('SIGKILL'),
  }
}
