/** kill -9 of everything Node in the middle of much output: the monitors hold the logs and the exit codes. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { listContainers } from '../../src/engine/find.ts'
import { berthOfFile } from '../lib/berth.ts'
import { engineOf } from '../lib/engine.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2', 'program:busybox', 'file:/usr/bin/busybox')

const WRITERS = 20
/** Each second of each writer; with LINES twelve seconds, for the clients to be killed in. */
const RATE = 500
const LINES = 6000
/** Each has written so many when its client is killed. */
const BEFORE = 250

const { berth, nothingIsLeft } = berthOfFile()
const engine = engineOf(berth)
const gate = join(berth.directory, 'gate')
const names = Array.from({ length: WRITERS }, (_, i) => `w${i}`)
const running = async (): Promise<number> => (await listContainers(engine, { all: false })).length
/** Every second one ends by a signal. */
const codeOf = (i: number): number => (i % 2 === 0 ? 40 + i : 128 + 10)

test('killed clients cost no line and no exit code', async () => {
  await berth.ok(['run', '--rm', '--net', 'none', 'hello', 'true'])
  mkdirSync(gate)
  const clients = names.map((name, i) => {
    const end = i % 2 === 0 ? `exit ${codeOf(i)}` : 'exec probe kill-self USR1'
    const script = `until [ -e /gate/open ]; do sleep 0.05; done; probe lines ${LINES} ${RATE} ${i % 4 < 2 ? 'both' : ''}; ${end}`
    return berth.spawn([
      'run',
      '--net=none',
      `--name=${name}`,
      '--volume=/usr/bin/busybox:/bin/busybox:ro',
      `--volume=${gate}:/gate:ro`,
      'hello',
      'busybox',
      'sh',
      '-c',
      script,
    ])
  })
  const ended = clients.map((client) => new Promise((resolve) => client.once('exit', resolve)))
  const seen = clients.map(() => '')
  clients.forEach((client, i) => {
    client.stdin.end()
    client.stderr.resume()
    client.stdout.on('data', (bytes: Buffer) => {
      seen[i] += bytes.toString()
    })
  })
  await eventually('all run', async () => (await running()) === WRITERS, { withinMs: 60_000 })
  writeFileSync(join(gate, 'open'), '')
  await eventually('all write', () => seen.every((text) => text.split('\n').length > BEFORE))
  for (const client of clients) client.kill('SIGKILL')
  await Promise.all(ended)

  assert.is(await running(), WRITERS, 'all are still writing')
  const codes = await berth.ok(['wait', ...names])
  assert.equal(
    codes.split('\n').map(Number),
    names.map((_, i) => codeOf(i)),
  )
  const list = await berth.ok(['ps', '--all', '--no-trunc'])
  for (const [i, name] of names.entries()) {
    assert.match(list, new RegExp(`Exited \\(${codeOf(i)}\\) .* ${name}\n?`))
  }
})

test('every line is in the log, whole, once and in order', async () => {
  let lines = 0
  const rates: number[] = []
  for (const [i, name] of names.entries()) {
    const { code, stdout, stderr } = await berth.run(['logs', name])
    assert.is(code, 0)
    for (const [stream, text] of [
      ['stdout', stdout],
      ...(i % 4 < 2 ? [['stderr', stderr] as const] : []),
    ] as const) {
      const got = text.split('\n')
      assert.is(got.pop(), '', `${name} ${stream} ends with a whole line`)
      assert.is(got.length, LINES, `${name} ${stream}`)
      // The number is the last word of a line.
      for (const [n, line] of got.entries()) {
        if (Number(/\d+/.exec(line)?.[0]) !== n + 1)
          assert.unreachable(`${name} ${stream}: ${line}`)
      }
      lines += got.length
    }
    const [{ State }] = JSON.parse(await berth.ok(['inspect', name])) as [
      { State: { StartedAt: string; FinishedAt: string } },
    ]
    rates.push((1000 * LINES) / (Date.parse(State.FinishedAt) - Date.parse(State.StartedAt)))
  }
  console.log(
    `# ${lines} lines, ${Math.min(...rates).toFixed(0)} to ${Math.max(...rates).toFixed(0)} a second from each`,
  )
})

test('nothing is left behind', nothingIsLeft)

test.run()
