import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parseLogLine, type ReadOptions, readLog, tailOffset } from '../../../src/cli/log-file.ts'

const test = suite<{ directory: string; path: string }>('log-file')

test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), 'berth-log-'))
  context.path = join(context.directory, 'container.log')
})
test.after.each((context) => rmSync(context.directory, { recursive: true }))

const at = (n: number): string => `2026-01-01T00:00:00.${String(n).padStart(9, '0')}Z`
const line = (n: number, content = `line ${n}`, tag = 'F', stream = 'stdout'): string =>
  `${at(n)} ${stream} ${tag} ${content}\n`
const lines = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, i) => line(from + i)).join('')

async function contents(path: string, options: ReadOptions): Promise<string[]> {
  const found: string[] = []
  for await (const { content } of readLog(path, options)) found.push(content.toString())
  return found
}

test('a line has a time, a stream, a tag and bytes', () => {
  const parsed = parseLogLine(Buffer.from(`${at(1)} stderr P a  b\xff`, 'latin1'))
  assert.equal(
    { ...parsed, content: parsed?.content.toString('latin1') },
    { time: at(1), stream: 'stderr', partial: true, content: 'a  b\xff' },
  )
})

for (const torn of ['', 'x', `${at(1)} stdout`, `${at(1)} stdin F x`, `${at(1)} stdout X x`]) {
  test(`${JSON.stringify(torn)} is no line`, () => {
    assert.is(parseLogLine(Buffer.from(torn)), undefined)
  })
}

test('an empty line of the program is a line', () => {
  assert.is(parseLogLine(Buffer.from(`${at(1)} stdout F `))?.content.length, 0)
  assert.is(parseLogLine(Buffer.from(`${at(1)} stdout F`))?.content.length, 0)
})

test('all lines are read in order; a torn one is left out', async ({ path }) => {
  writeFileSync(path, `${line(1)}torn\n${line(2)}${at(3)} stdout F unfinished`)
  assert.equal(await contents(path, {}), ['line 1', 'line 2'])
})

test('a log that is not there is empty', async ({ path }) => {
  assert.equal(await contents(path, {}), [])
})

for (const [count, expected] of [
  [0, []],
  [1, ['line 5']],
  [2, ['line 4', 'line 5']],
  [5, ['line 1', 'line 2', 'line 3', 'line 4', 'line 5']],
  [99, ['line 1', 'line 2', 'line 3', 'line 4', 'line 5']],
] as const) {
  test(`a tail of ${count} gives ${expected.length} of five lines`, async ({ path }) => {
    writeFileSync(path, lines(1, 5))
    assert.equal(await contents(path, { tail: count }), expected)
  })
}

test('a tail counts lines of the program, not pieces of them', async ({ path }) => {
  writeFileSync(path, line(1) + line(2, 'a', 'P') + line(3, 'b', 'P') + line(4, 'c') + line(5))
  assert.equal(await contents(path, { tail: 2 }), ['a', 'b', 'c', 'line 5'])
})

test('a tail of a large file is right at block borders', async ({ path }) => {
  writeFileSync(path, lines(1, 20_000))
  for (const count of [1, 4_000, 5_242, 5_243, 5_244, 12_345, 19_999, 20_000]) {
    const file = await open(path, 'r')
    try {
      const offset = await tailOffset(file, count)
      const { bytesRead, buffer } = await file.read(Buffer.alloc(100), 0, 100, offset)
      const first = buffer.toString('latin1', 0, bytesRead).split('\n')[0]
      assert.is(`${first}\n`, line(20_001 - count), `tail ${count}`)
    } finally {
      await file.close()
    }
  }
})

test('since and until bound the time', async ({ path }) => {
  writeFileSync(path, lines(1, 5))
  const base = BigInt(Date.parse('2026-01-01T00:00:00Z')) * 1_000_000n
  assert.equal(await contents(path, { sinceNs: base + 4n }), ['line 4', 'line 5'])
  assert.equal(await contents(path, { sinceNs: base + 2n, untilNs: base + 3n }), [
    'line 2',
    'line 3',
  ])
})

test('following goes through a rotation to the end, and loses nothing', async ({ path }) => {
  writeFileSync(path, lines(1, 2))
  let end: () => void = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const found: string[] = []
  // Each step is taken when the line before it has been read.
  const steps: Record<string, () => void> = {
    'line 2': () => appendFileSync(path, line(3)),
    'line 3': () => {
      appendFileSync(path, line(4))
      renameSync(path, `${path}.1`)
      // Written before the new file is there, as by a writer that has not reopened yet.
      appendFileSync(`${path}.1`, line(5))
      writeFileSync(path, line(6))
    },
    'line 6': () => appendFileSync(path, line(7).slice(0, 20)),
  }
  const partial = setImmediate
  for await (const { content } of readLog(path, {}, ended)) {
    const text = content.toString()
    found.push(text)
    steps[text]?.()
    if (text === 'line 6') {
      partial(() => {
        appendFileSync(path, line(7).slice(20) + line(8))
        end()
      })
    }
  }
  assert.equal(
    found,
    [1, 2, 3, 4, 5, 6, 7, 8].map((n) => `line ${n}`),
  )
})

test('following waits for a log that is not there yet', async ({ path }) => {
  let end: () => void = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const reading = (async () => {
    for await (const { content } of readLog(path, {}, ended)) {
      end()
      return content.toString()
    }
    return undefined
  })()
  writeFileSync(path, line(1))
  assert.is(await reading, 'line 1')
})

test.run()
