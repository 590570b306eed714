import { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../base/fault.ts'
import { binding, type ExitStatus } from '../kernel/binding.ts'
import { Fd } from '../kernel/fd.ts'

export const OUTPUT_BYTES_MAX = 1024 * 1024
/** Of what a program says on stderr, the last bytes are kept for the error. */
const STDERR_BYTES_KEPT = 4096
/** How long a killed program may take to end. One that hangs in the kernel does not end, and must not hold a pod's removal. */
export const KILL_WAIT_MS = 1000
/** How often is looked whether input has been read. */
const LOOK_MS = 1

export interface ProgramCall {
  readonly args: readonly string[]
  /** `NAME=VALUE`, and nothing else. */
  readonly env: readonly string[]
  /** What it reads on stdin. */
  readonly input: string
  /**
   * More input that changes nothing, given when the rest has been read. Who reads line by line has done all that the rest says when it reads this: that is
   * success then, and the program's end is not waited for.
   */
  readonly tail?: string
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

export interface Ended extends ExitStatus {
  readonly stdout: string
  readonly stderr: string
}

/** The process of a program with our ends of its pipes. */
interface Process {
  readonly pid: number
  readonly status: Promise<ExitStatus>
  readonly stdin: Socket
  /** Of stdin, while that is not destroyed. */
  readonly stdinFd: number
  readonly stdout: Socket
  readonly stderr: Socket
}

/**
 * Runs a program to its end. One that does not end in time is killed with all it started (DEADLINE_EXCEEDED); so is one that the signal calls off
 * (UNAVAILABLE) or that writes too much (RESOURCE_EXHAUSTED). `what` is how errors call it.
 */
export function execute(path: string, what: string, call: ProgramCall): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = start(path, what, call)
    const stdout: Buffer[] = []
    let stdoutBytes = 0
    let stderr = Buffer.alloc(0)
    let failure: Fault | undefined
    const giveUp = (fault: Fault): void => {
      if (failure !== undefined) return
      failure = fault
      killGroup(child.pid)
      // A grandchild that left the group may hold the pipes: they must not hold us.
      child.stdin.destroy()
      child.stdout.destroy()
      child.stderr.destroy()
      setTimeout(() => {
        finish()
        reject(new Fault(fault.code, `${fault.message}, and cannot be killed`))
      }, KILL_WAIT_MS).unref()
    }
    const { timeoutMs } = call
    const timer = setTimeout(
      () => giveUp(new Fault('DEADLINE_EXCEEDED', `${what} did not end within ${timeoutMs} ms`)),
      timeoutMs,
    )
    const aborted = (): void => giveUp(new Fault('UNAVAILABLE', `${what} was cancelled`))
    call.signal?.addEventListener('abort', aborted, { once: true })
    if (call.signal?.aborted) aborted()
    const finish = (): void => {
      clearTimeout(timer)
      call.signal?.removeEventListener('abort', aborted)
      child.stdin.destroy()
    }
    child.stdout.on('data', (chunk: Buffer) => {
      stdoutBytes += chunk.length
      if (stdoutBytes <= OUTPUT_BYTES_MAX) stdout.push(chunk)
      else
        giveUp(new Fault('RESOURCE_EXHAUSTED', `${what} wrote more than ${OUTPUT_BYTES_MAX} bytes`))
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = Buffer.concat([stderr, chunk]).subarray(-STDERR_BYTES_KEPT)
    })
    // A program need not read what it is given: EPIPE is no failure of the call.
    child.stdin.on('error', () => {})
    if (call.tail === undefined) child.stdin.end(call.input)
    else {
      feed(child, call.input, call.tail).then((isTaken) => {
        if (isTaken) resolve({ code: 0, signal: 0, stdout: '', stderr: '' })
      }, reject)
    }
    Promise.all([child.status, closed(child.stdout), closed(child.stderr)]).then(([status]) => {
      finish()
      if (failure) reject(failure)
      else {
        resolve({
          ...status,
          stdout: Buffer.concat(stdout).toString('utf8'),
          stderr: stderr.toString('utf8'),
        })
      }
    }, reject)
  })
}

/**
 * In a process group of its own, so that a delegate (IPAM) that hangs is killed with it. By the addon, not node:child_process, which forks:
 * that copies the page tables of all of Node, 1 ms for each plugin at the least and 6 ms with 200 MB of heap. Not in a session of its own: where the
 * kernel schedules by session (autogroup), a new one starts from nothing, and the plugins took a third longer.
 */
function start(path: string, what: string, call: ProgramCall): Process {
  const ours: Fd[] = []
  const theirs: Fd[] = []
  try {
    for (const fd of [0, 1, 2]) {
      const { read, write } = binding.pipe()
      theirs.push(new Fd(fd === 0 ? read : write))
      ours.push(new Fd(fd === 0 ? write : read))
    }
    const { pid, status } = binding.spawn({
      file: path,
      args: [path, ...call.args],
      env: call.env,
      fds: theirs.map((fd) => fd.number),
      group: true,
      directory: '/',
    })
    const stdinFd = ours[0]?.number ?? -1
    const [stdin, stdout, stderr] = ours.map(
      (fd, i) => new Socket({ fd: fd.release(), readable: i > 0, writable: i === 0 }),
    )
    if (!stdin || !stdout || !stderr) throw new Fault('INTERNAL', 'a pipe is missing')
    return { pid, status, stdin, stdinFd, stdout, stderr }
  } catch (error) {
    throw new Fault('INTERNAL', `cannot execute ${what} at ${path}`, { cause: error })
  } finally {
    for (const fd of [...theirs, ...ours]) fd.close()
  }
}

/** Whether the program has read the input and then the tail, and has not ended before. */
async function feed(child: Process, input: string, tail: string): Promise<boolean> {
  for (const text of [input, tail]) {
    // Not taken where the program has ended: what it did not read before stays unread, too.
    const isWritten = await new Promise<boolean>((resolve) => {
      child.stdin.write(text, (error) => resolve(!error))
    })
    if (!isWritten) return false
    while (!child.stdin.destroyed && binding.unread(child.stdinFd) > 0) await delay(LOOK_MS)
    if (child.stdin.destroyed) return false
  }
  child.stdin.end()
  return true
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.on('error', () => {})
    socket.once('close', () => resolve())
  })

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Already gone.
  }
}
