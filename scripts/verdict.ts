/** What a test file's output and exit say. uvu exits 0 when a `before` hook throws or `.run()` is forgotten, so its summary is read too. */
import { SKIP } from '../test/lib/needs.ts'

export interface Ended {
  readonly output: string
  readonly code: number | null
  readonly signal: string | null
  readonly timedOut: boolean
}

export interface Verdict {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  /** Each reason once, with how often. */
  readonly reasons: readonly string[]
  /** Why the file failed; empty where it passed. */
  readonly problems: readonly string[]
}

/** `inCi`: what the set-up of the machine lacks is then a failure, what its kernel lacks still a skip. */
export function judge(ended: Ended, options: { inCi: boolean; limitMs: number }): Verdict {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours begin with one.
  const output = ended.output.replace(/\u001b\[[0-9;]*m/g, '')
  const skips = [...output.matchAll(SKIP)].map(([, kind = '', reason = '']) => ({ kind, reason }))
  const total = sum(output, 'Total')
  const passed = sum(output, 'Passed')
  const skippedByUvu = sum(output, 'Skipped')
  const problems: string[] = []

  if (ended.timedOut) problems.push(`no end within ${options.limitMs / 1000} s`)
  else if (ended.signal !== null) problems.push(`killed by ${ended.signal}`)
  else if (ended.code !== 0) problems.push(`exit code ${ended.code}`)
  else if (total === 0 && skips.length === 0 && skippedByUvu === 0)
    problems.push('no test ran: is .run() missing?')
  else if (passed !== total) {
    problems.push(`only ${passed} of ${total} tests passed, though the exit code is 0`)
  }
  // uvu's total is without the skipped ones.
  if (skippedByUvu > skips.length) problems.push('a test is skipped without a reason')
  if (options.inCi) {
    for (const skip of skips) {
      if (skip.kind === 'setup') problems.push(`skipped in CI: ${skip.reason}`)
    }
  }
  const failedByUvu = Math.max(0, total - passed)
  return {
    passed,
    skipped: skips.length,
    failed: problems.length === 0 ? 0 : Math.max(1, failedByUvu),
    reasons: counted(skips.map((skip) => skip.reason)),
    problems,
  }
}

/** A file may have several suites, each with its own summary. */
function sum(output: string, word: string): number {
  return [...output.matchAll(new RegExp(`^ {2}${word}: +(\\d+)$`, 'gm'))].reduce(
    (total, match) => total + Number(match[1]),
    0,
  )
}

function counted(reasons: readonly string[]): string[] {
  return [...new Set(reasons)].map((reason) => {
    const count = reasons.filter((r) => r === reason).length
    return count > 1 ? `${reason} (${count} times)` : reason
  })
}
