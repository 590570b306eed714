/** Two commands on one container at once: one clear winner, clear errors for the others. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const times = <T>(n: number, make: (i: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: n }, (_, i) => make(i)))
const inspect = async (name: string) => JSON.parse(await berth.ok(['inspect', name]))[0]

test('the first use of the built-in image by eight at once unpacks it once', async () => {
  const results = await times(8, () =>
    berth.run(['run', '--rm', '--net', 'none', 'hello', 'echo', 'x']),
  )
  for (const { code, stdout, stderr } of results) assert.is(`${code} ${stdout}${stderr}`, '0 x\n')
})

test('ten runs of one name: one runs, nine are told who has it', async () => {
  const results = await times(10, () =>
    berth.run(['run', '-d', '--net', 'none', '--name', 'one', 'hello', 'sleep']),
  )
  assert.is(results.filter(({ code }) => code === 0).length, 1)
  for (const { code, stderr } of results) {
    if (code === 0) continue
    assert.is(code, 125)
    assert.match(stderr, /^berth: the name "one" is in use by container [0-9a-f]{12}; [^\n]*\n$/)
  }
  assert.is((await berth.ok(['ps', '-aq'])).split('\n').length, 1)
  await berth.ok(['rm', '-f', 'one'])
})

test('four starts at once start it once', async () => {
  await berth.ok(['create', '--net', 'none', '--name', 's', 'hello', 'sleep'])
  for (const { code, stderr } of await times(4, () => berth.run(['start', 's'])))
    assert.is(code, 0, stderr)
  assert.is((await inspect('s')).State.Status, 'running')
  await berth.ok(['rm', '-f', 's'])
})

test('four stops at once all succeed', async () => {
  await berth.ok(['run', '-d', '--init', '--net', 'none', '--name', 's', 'hello', 'sleep'])
  for (const { code, stderr } of await times(4, () => berth.run(['stop', 's'])))
    assert.is(code, 0, stderr)
  assert.is((await inspect('s')).State.ExitCode, 143)
  await berth.ok(['rm', 's'])
})

test('four forced removals at once all succeed', async () => {
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'r', 'hello', 'sleep'])
  for (const { code, stderr } of await times(4, () => berth.run(['rm', '-f', 'r'])))
    assert.is(code, 0, stderr)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('removals at once without force: one succeeds, the others find nothing', async () => {
  await berth.ok(['create', '--net', 'none', '--name', 'r', 'hello', 'sleep'])
  const results = await times(4, () => berth.run(['rm', 'r']))
  assert.ok(results.some(({ code }) => code === 0))
  for (const { code, stderr } of results)
    if (code !== 0) assert.match(stderr, /^berth: no container "r"[^\n]*\n$/)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('stop, rm -f, kill, exec and inspect of one container at once end in its removal, and no internal error', async () => {
  for (let round = 0; round < 3; round++) {
    await berth.ok(['run', '-d', '--init', '--net', 'none', '--name', 'x', 'hello', 'sleep'])
    const results = await Promise.all([
      berth.run(['stop', 'x']),
      berth.run(['rm', '-f', 'x']),
      berth.run(['kill', 'x']),
      berth.run(['exec', 'x', 'true']),
      berth.run(['inspect', 'x']),
      berth.run(['ps', '-a']),
      berth.run(['logs', 'x']),
      berth.run(['stats', '--no-stream', 'x']),
    ])
    assert.is(results[1]?.code, 0, results[1]?.stderr)
    for (const { stderr } of results)
      assert.not.match(stderr, /ENOENT|undefined|TypeError|INTERNAL|\n.*\n/, stderr)
    assert.is(await berth.ok(['ps', '-aq']), '')
  }
})

test('pause and stop, start and rm at once leave a consistent container', async () => {
  await berth.ok(['run', '-d', '--net', 'none', '--name', 'p', 'hello', 'sleep'])
  await Promise.all([
    berth.run(['pause', 'p']),
    berth.run(['stop', '-t', '0', 'p']),
    berth.run(['unpause', 'p']),
  ])
  assert.ok(['exited', 'running', 'paused'].includes((await inspect('p')).State.Status))
  await berth.ok(['stop', '-t', '0', 'p'])
  await Promise.all([berth.run(['start', 'p']), berth.run(['rm', '-f', 'p'])])
  await berth.ok(['rm', '-f', 'p'])
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('a short --rm container and its removal by hand do not quarrel', async () => {
  const results = await times(6, async (i) => {
    const [run] = await Promise.all([
      berth.run(['run', '--rm', '--net', 'none', '--name', `q${i}`, 'hello', 'true']),
      berth.run(['rm', '-f', `q${i}`]),
    ])
    return run
  })
  for (const { stderr } of results) assert.not.match(stderr, /ENOENT|TypeError/, stderr)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('thirty run -d at once all run, in cgroups and namespaces of their own', async () => {
  const results = await times(30, (i) =>
    berth.run(['run', '-d', '--net', 'none', '--name', `m${i}`, 'hello', 'sleep'], {
      timeoutMs: 120_000,
    }),
  )
  for (const { code, stderr } of results) assert.is(`${code}${stderr}`, '0')
  const list = JSON.parse(await berth.ok(['ps', '--format', 'json'])) as {
    pid: number
    state: string
  }[]
  assert.is(list.length, 30)
  assert.is(new Set(list.map(({ pid }) => pid)).size, 30)
  await berth.ok(['rm', '-f', ...Array.from({ length: 30 }, (_, i) => `m${i}`)], {
    timeoutMs: 120_000,
  })
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('nothing is left behind', nothingIsLeft)

test.run()
