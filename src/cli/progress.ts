import type { Progress } from '../engine/types.ts'
import { ownStream } from './own-stdio.ts'
import { decimalBytes, shortId, truncate } from './table.ts'

/** Often enough to look alive, seldom enough to cost nothing. */
const REDRAW_MS = 100
const BAR = 30

interface Line {
  phase: string
  done: number
  total: number
}

/** How far a pull or load is, on stderr: a bar a layer on a terminal, else a line when a phase of one begins. */
export interface ProgressView {
  readonly report: Progress
  /** Draws the last state; call it before anything else is printed. */
  finish(): void
}

export function progressView(quiet: boolean): ProgressView {
  if (quiet) return { report: () => {}, finish: () => {} }
  let view: ProgressView | undefined
  const begun = (): ProgressView => {
    const stream = ownStream('stderr')
    return stream.isTTY ? bars(stream) : lines(stream)
  }
  return {
    report: (event) => {
      view ??= begun()
      view.report(event)
    },
    finish: () => view?.finish(),
  }
}

function lines(stream: NodeJS.WriteStream): ProgressView {
  const phases = new Map<string, string>()
  return {
    report: ({ id, phase, total }) => {
      if (phases.get(id) === phase) return
      phases.set(id, phase)
      const size = total > 0 ? ` (${decimalBytes(total)})` : ''
      stream.write(`${shortId(id)}: ${phase}${size}\n`)
    },
    finish: () => {},
  }
}

function bars(stream: NodeJS.WriteStream): ProgressView {
  const all = new Map<string, Line>()
  let drawn = 0
  let timer: NodeJS.Timeout | undefined
  const draw = (): void => {
    timer = undefined
    // Lines that have scrolled out of the terminal cannot be redrawn: the latest that fit are shown.
    const shown = [...all].slice(-Math.max(1, (stream.rows || 24) - 1))
    const up = drawn > 0 ? `\x1b[${drawn}A` : ''
    const columns = (stream.columns || 80) - 1
    const text = shown.map(([id, line]) => `\x1b[2K${truncate(progressLine(id, line), columns)}\n`)
    drawn = shown.length
    stream.write(`${up}\r${text.join('')}`)
  }
  return {
    report: ({ id, phase, done, total }) => {
      all.set(id, { phase, done, total })
      timer ??= setTimeout(draw, REDRAW_MS)
    },
    finish: () => {
      clearTimeout(timer)
      if (all.size > 0) draw()
      all.clear()
      drawn = 0
    },
  }
}

/** One layer's line: its id, what is done with it, a bar while that has a known end. */
export function progressLine(id: string, { phase, done, total }: Line): string {
  const head = `${shortId(id)}: ${phase}`
  if (total <= 0 || done >= total) return total > 0 ? `${head} ${decimalBytes(total)}` : head
  const full = Math.min(BAR, Math.floor((done / total) * BAR))
  const bar = `${'='.repeat(Math.max(0, full - 1))}${full > 0 ? '>' : ''}`.padEnd(BAR)
  return `${head} [${bar}] ${decimalBytes(done)} of ${decimalBytes(total)}`
}
