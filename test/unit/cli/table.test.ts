import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventLine } from '../../../src/cli/events.ts'
import { infoText } from '../../../src/cli/info.ts'
import { parseFormat } from '../../../src/cli/output.ts'
import { progressLine } from '../../../src/cli/progress.ts'
import { listing } from '../../../src/cli/stats.ts'
import {
  clean,
  decimalBytes,
  humanBytes,
  humanSpan,
  shortId,
  table,
  truncate,
} from '../../../src/cli/table.ts'

test('columns are as wide as their widest cell', () => {
  const text = table<[string, number]>(
    [
      { title: 'NAME', cell: (row) => row[0] },
      { title: 'N', right: true, cell: (row) => String(row[1]) },
      { title: 'X', cell: () => '' },
    ],
    [
      ['a', 100],
      ['longer', 1],
    ],
  )
  assert.is(text, 'NAME       N   X\na        100\nlonger     1\n')
})

test('a name cannot move the cursor', () => {
  assert.is(clean('a\x1b[2Jb\nc\u009b'), 'a\\x1b[2Jb\\nc\\x9b')
})

test('sizes and spans are for people', () => {
  assert.equal([0, 1023, 1024, 1536, 64 * 1024 ** 2].map(humanBytes), [
    '0 B',
    '1023 B',
    '1 KiB',
    '1.5 KiB',
    '64 MiB',
  ])
  assert.is(decimalBytes(77_800_000n), '77.8 MB')
  const spans = [0, 1000, 59_999, 60_000, 7_200_000, 3 * 86_400_000, 800 * 86_400_000]
  assert.equal(spans.map(humanSpan), [
    '0 seconds',
    '1 second',
    '59 seconds',
    '1 minute',
    '2 hours',
    '3 days',
    '2 years',
  ])
  assert.is(truncate('abcdef', 4), 'abc…')
  assert.is(shortId(`sha256:${'ab'.repeat(32)}`), 'abababababab')
  assert.is(shortId(`sha512:${'ab'.repeat(64)}`), 'abababababab')
})

test('figures that a host lacks are dashes', () => {
  const text = listing(
    [
      {
        id: 'ab'.repeat(32),
        name: 'web',
        timeNs: '0',
        cpuNs: undefined,
        cpuPercent: undefined,
        memoryBytes: undefined,
        memoryLimitBytes: 1024n,
        pids: 3n,
        networkReceivedBytes: 0n,
        networkSentBytes: 1500n,
        blockReadBytes: undefined,
        blockWrittenBytes: undefined,
      },
    ],
    true,
  )
  assert.match(text, /abababababab {3}web +-- +-- \/ 1 KiB +-- +0 B \/ 1.5 kB +-- \/ -- +3\n/)
})

test('an event is one line', () => {
  const event = {
    timeNs: '1700000000000000042',
    type: 'container' as const,
    action: 'die',
    id: 'abc',
    name: 'we\nb',
    attributes: { code: '1' },
  }
  assert.is(
    eventLine(event),
    '2023-11-14T22:13:20.000000042Z container die abc (name=we\\nb, code=1)',
  )
})

test('a document reads as indented lines', () => {
  assert.is(
    infoText({ rootDirectory: '/r', host: { cpus: 2, list: ['a', 'b'], no: [] } }, ''),
    'root directory: /r\nhost:\n  cpus: 2\n  list: a, b\n  no: none\n',
  )
})

test('Go templates are refused by name, but for the one that means JSON', () => {
  assert.is(parseFormat('{{json .}}'), 'json')
  assert.throws(() => parseFormat('{{.ID}}'), /Go templates are not supported/)
  assert.throws(() => parseFormat('yaml'), /known are table and json/)
})

test('a bar grows with what is done', () => {
  const line = (done: number, total: number) =>
    progressLine('sha256:0123456789abcdef', { phase: 'downloading', done, total })
  assert.is(line(0, 0), '0123456789ab: downloading')
  assert.is(
    line(50, 100),
    `0123456789ab: downloading [${'='.repeat(14)}>${' '.repeat(15)}] 50 B of 100 B`,
  )
  assert.is(line(100, 100), '0123456789ab: downloading 100 B')
})

test.run()
