/** A program of the bench as a child: what it has measured, however it ends. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Report } from './report.ts'

export interface Ended {
  /** 0, another exit status, the name of a signal, `out of time` or `no report`. */
  readonly status: number | string
  /** As far as it has come; its notes tell of a failure. */
  readonly report: Report
}

/** SIGTERM ends a suite at once; then it takes away what it has made, for so long at most. */
export const CLEANING_MS = 60_000

/** Node with these arguments, which has its report written to `json`; ended when its time is over or by the signal. `what` it measures is for a reader. */
export async function runProgram(options: {
  readonly what: string
  readonly args: readonly string[]
  readonly json: string
  readonly limitMs: number
  readonly signal: AbortSignal
}): Promise<Ended> {
  const { what, json, limitMs, signal } = options
  const exit = limitMs > 0 && !signal.aborted ? await statusOf(options) : LATE
  const found = reportIn(json)
  const report = found ?? { rows: [], notes: [], peers: [] }
  const status = exit === 0 && !found ? 'no report' : exit
  if (status === 0) return { status, report }
  return { status, report: { ...report, notes: [...report.notes, `${what}: failed (${status})`] } }
}

const LATE = 'out of time'

function statusOf({
  args,
  limitMs,
  signal,
}: Parameters<typeof runProgram>[0]): Promise<number | string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: 'inherit' })
    let isLate = false
    let force: NodeJS.Timeout | undefined
    const stop = (): void => {
      child.kill('SIGTERM')
      force ??= setTimeout(() => child.kill('SIGKILL'), CLEANING_MS)
    }
    const timer = setTimeout(() => {
      isLate = true
      stop()
    }, limitMs)
    const done = (): void => {
      clearTimeout(timer)
      clearTimeout(force)
      signal.removeEventListener('abort', stop)
    }
    signal.addEventListener('abort', stop)
    child.once('error', (error) => {
      done()
      reject(error)
    })
    child.once('exit', (code, name) => {
      done()
      resolve(isLate && code !== 0 ? LATE : (code ?? name ?? ''))
    })
  })
}

/** A program that was killed has written none, or a part of it. */
function reportIn(file: string): Report | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Report
  } catch {
    return undefined
  }
}
