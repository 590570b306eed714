/** kill -9 of a command at moments spread over its life: the next one finds a consistent state, and nothing stays. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createContainer } from '../../src/engine/create.ts'
import { findContainer, listContainers } from '../../src/engine/find.ts'
import { pruneEngine } from '../../src/engine/prune.ts'
import { removeContainer } from '../../src/engine/remove.ts'
import { berthOfFile } from '../lib/berth.ts'
import { engineOf, optionsOf, runDetached } from '../lib/engine.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const MOMENTS = 12
/** Before this part of a command's time only Node starts. */
const FIRST = 0.3
const LAST = 1.1

const { berth, nothingIsLeft } = berthOfFile()
const warnings: string[] = []
const engine = engineOf(berth, warnings)
const options = ['--net', 'none', '--name', 'x', '--tmpfs', '/scratch', '--volume', '/anonymous']
const sleeper = ['hello', 'sleep', '1000']

async function killedAfter(words: readonly string[], ms: number): Promise<boolean> {
  const child = berth.spawn(words)
  child.stdin.end()
  child.stdout.resume()
  child.stderr.resume()
  const ended = new Promise<boolean>((resolve) => {
    child.once('exit', (_, signal) => resolve(signal === 'SIGKILL'))
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), ms)
  const killed = await ended
  clearTimeout(timer)
  return killed
}

/** What every state must allow: a list without a complaint, a name that can be freed, a second run under it, and an empty machine. */
async function isConsistent(what: string): Promise<void> {
  const listed = await listContainers(engine, { all: true })
  assert.ok(listed.length <= 1, what)
  for (const { record } of listed) assert.is(record.name, 'x', what)
  await removeContainer(engine, 'x', { force: true, volumes: true }).catch((error) => {
    if (error.code !== 'NOT_FOUND') throw error
  })
  const { id } = await runDetached(engine, ...options, ...sleeper)
  assert.is((await findContainer(engine, 'x')).record.id, id, what)
  await removeContainer(engine, id, { force: true, volumes: true })
  await isEmpty(what)
}

/** After a prune nothing of any container is on the disk. */
async function isEmpty(what: string): Promise<void> {
  await pruneEngine(engine, { containers: true, images: false, allImages: false, volumes: true })
  for (const directory of ['root/containers', 'root/names', 'root/volumes', 'state/containers']) {
    assert.equal(readdirSync(join(berth.directory, directory)), [], `${what}: ${directory}`)
  }
  assert.equal(readdirSync(join(berth.directory, 'state/locks')), ['volumes'], `${what}: locks`)
  assert.equal(warnings, [], what)
}

const COMMANDS: readonly { name: string; words: string[]; before?: () => Promise<unknown> }[] = [
  { name: 'create', words: ['create', ...options, ...sleeper] },
  { name: 'run -d', words: ['run', '-d', ...options, ...sleeper] },
  { name: 'run --rm', words: ['run', '--rm', ...options, 'hello', 'echo', 'here'] },
  {
    name: 'start',
    words: ['start', 'x'],
    before: () => createContainer(engine, optionsOf(...options, ...sleeper)),
  },
  {
    name: 'stop -t 0',
    words: ['stop', '-t', '0', 'x'],
    before: () => runDetached(engine, ...options, ...sleeper),
  },
  {
    name: 'rm -f',
    words: ['rm', '-f', '-v', 'x'],
    before: () => runDetached(engine, ...options, ...sleeper),
  },
]

test('the image is there', async () => {
  await berth.ok(['run', '--rm', '--net', 'none', 'hello', 'true'])
})

for (const { name, words, before } of COMMANDS) {
  test(`kill -9 of \`berth ${name}\` at ${MOMENTS} moments`, async () => {
    await before?.()
    const begin = performance.now()
    await berth.ok(words)
    const ms = performance.now() - begin
    await isConsistent('not killed')
    let killed = 0
    for (let i = 0; i < MOMENTS; i++) {
      await before?.()
      const part = FIRST + ((LAST - FIRST) * i) / (MOMENTS - 1)
      if (await killedAfter(words, part * ms)) killed++
      await isConsistent(`killed after ${Math.round(part * ms)} of ${Math.round(ms)} ms`)
    }
    console.log(`# berth ${name}: ${killed} of ${MOMENTS} killed before their end`)
    assert.ok(killed > 0)
  })
}

test('`berth ps`, `berth rm -f` and `berth system prune -f` do the same from the command line', async () => {
  for (const part of [0.5, 0.7, 0.8, 0.9]) {
    const begin = performance.now()
    await berth.ok(['run', '-d', ...options, ...sleeper])
    const ms = performance.now() - begin
    await berth.ok(['rm', '-f', '-v', 'x'])
    await killedAfter(['run', '-d', ...options, ...sleeper], part * ms)
    const { code, stderr } = await berth.run(['ps', '-a'])
    assert.is(`${code}${stderr}`, '0')
    await berth.ok(['rm', '-f', '-v', 'x'])
    await berth.ok(['run', '--rm', ...options, 'hello', 'true'])
    await berth.ok(['system', 'prune', '-f', '--volumes'])
    await isEmpty(`killed after ${Math.round(part * ms)} ms`)
  }
})

test('nothing is left behind', nothingIsLeft)

test.run()
