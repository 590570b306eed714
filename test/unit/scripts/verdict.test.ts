import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { judge } from '../../../scripts/verdict.ts'

const summary = (total: number, passed: number, skipped: number) =>
  ` •••   (${passed} / ${total})\n\n  Total:     ${total}\n  Passed:    ${passed}\n  Skipped:   ${skipped}\n  Duration:  1ms\n`

const cases = [
  { name: 'a file whose tests all pass, passes', output: summary(3, 3, 0), counts: [3, 0, 0] },
  {
    name: 'several suites of a file are added up',
    output: summary(3, 3, 0) + summary(1, 1, 0),
    counts: [4, 0, 0],
  },
  {
    name: 'colours do not hide the summary',
    output: '\n  Total:     1\n\u001b[32m  Passed:    1\u001b[39m\n  Skipped:   0\n',
    counts: [1, 0, 0],
  },
  {
    name: 'an exit code other than 0 is a failure',
    output: summary(3, 2, 0),
    code: 1,
    counts: [2, 1, 0],
  },
  {
    name: 'a throwing before hook is a failure though the exit code is 0',
    output: summary(1, 0, 0),
    counts: [0, 1, 0],
  },
  { name: 'a file that runs no test is a failure', output: '', counts: [0, 1, 0] },
  { name: 'a summary of nothing is a failure', output: summary(0, 0, 0), counts: [0, 1, 0] },
  {
    name: 'a file without an end is a failure',
    output: summary(1, 1, 0),
    timedOut: true,
    counts: [1, 1, 0],
  },
  { name: 'a file that is killed is a failure', output: '', signal: 'SIGSEGV', counts: [0, 1, 0] },
  {
    name: 'a whole file may be skipped with a reason',
    output: '# skipped (setup): needs root\n',
    counts: [0, 0, 1],
  },
  {
    name: 'a test may be skipped with a reason',
    output: `# skipped (kernel): x: needs overlay\n${summary(1, 1, 1)}`,
    counts: [1, 0, 1],
  },
  {
    name: 'a test skipped without a reason is a failure',
    output: summary(1, 1, 1),
    counts: [1, 1, 0],
  },
  {
    name: 'in CI what the set-up lacks is a failure',
    output: '# skipped (setup): needs root\n',
    inCi: true,
    counts: [0, 1, 1],
  },
  {
    name: 'in CI what the kernel lacks is a skip',
    output: '# skipped (kernel): needs overlay\n',
    inCi: true,
    counts: [0, 0, 1],
  },
] as const

for (const c of cases) {
  test(c.name, () => {
    const ended = {
      output: c.output,
      code: 'signal' in c ? null : 'code' in c ? c.code : 0,
      signal: 'signal' in c ? c.signal : null,
      timedOut: 'timedOut' in c,
    }
    const verdict = judge(ended, { inCi: 'inCi' in c, limitMs: 1000 })
    assert.equal([verdict.passed, verdict.failed, verdict.skipped], c.counts)
    assert.is(verdict.problems.length > 0, c.counts[1] > 0)
  })
}

test('the same reason is told once, with its number', () => {
  const line = '# skipped (kernel): needs overlay\n'
  const ended = { output: line + line, code: 0, signal: null, timedOut: false }
  assert.equal(judge(ended, { inCi: false, limitMs: 1 }).reasons, ['needs overlay (2 times)'])
})

test.run()
