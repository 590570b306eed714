/** CVE-2024-21626 from the command line: descriptors of ours that a container's process gets, or can name as its working directory. */
import { closeSync, openSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { createContainer } from '../../src/engine/create.ts'
import { execContainer } from '../../src/engine/exec.ts'
import { findContainer } from '../../src/engine/find.ts'
import { removeContainer } from '../../src/engine/remove.ts'
import { startContainer } from '../../src/engine/start.ts'
import type { Session } from '../../src/engine/types.ts'
import { berthOfFile } from '../lib/berth.ts'
import { engineOf, optionsOf, runDetached } from '../lib/engine.ts'
import { collect } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const engine = engineOf(berth)
const FDS = Array.from({ length: 28 }, (_, i) => i + 3)
const STDIO = /^0 .*\n1 .*\n2 .*\n$/
/** What docker and berth take by its letters: the container's own /, or /proc/self. */
const PLACES = ['/..', '/../..', '/../../../..', '/../../../../../..']
/** The image has none. */
const OF_THE_HOST = /^(usr|boot|sbin)$/m

/** Runs a container, or says why not. */
async function run(...words: string[]): Promise<string> {
  const { id } = await createContainer(engine, optionsOf('--net', 'none', ...words))
  try {
    const session = await startContainer(engine, id, { stdin: false, rows: 0, columns: 0 })
    return await collect(session as Session)
  } catch (error) {
    return `refused: ${(error as Error).message}`
  } finally {
    await removeContainer(engine, id, { force: true, volumes: true })
  }
}

async function exec(workdir: string | undefined, ...command: string[]): Promise<string> {
  try {
    const session = (await execContainer(engine, 'target', {
      command,
      workdir,
      interactive: false,
      terminal: false,
      detach: false,
      env: [],
      privileged: true,
      rows: 0,
      columns: 0,
    })) as Session
    return await collect(session)
  } catch (error) {
    return `refused: ${(error as Error).message}`
  }
}

test('a program of run has its stdio and nothing else, whatever its caller holds open', async () => {
  const leaks = [1, 2, 3].map(() => openSync('/', 'r'))
  for (const extra of [[], ['--init'], ['--privileged'], ['--userns=100000:100000:65536']]) {
    assert.match(await run(...extra, 'hello', 'probe', 'fds'), STDIO, extra.join(' '))
  }
  const terminal = await run('--tty', 'hello', 'probe', 'fds')
  assert.match(terminal, /^(\d \/dev\/(pts\/0|console)\r\n){3}$/)
  for (const fd of leaks) closeSync(fd)
})

test('a program of exec has its stdio and nothing else', async () => {
  await runDetached(engine, '--net', 'none', '--name', 'target', 'hello', 'sleep', '1000')
  assert.match(await exec(undefined, 'probe', 'fds'), STDIO)
  assert.match(await berth.ok(['exec', '-d', 'target', 'true']), /^$/)
})

test('the command line leaks nothing that it was given', async () => {
  assert.match(`${await berth.ok(['run', '--rm', '--net=none', 'hello', 'probe', 'fds'])}\n`, STDIO)
  assert.match(`${await berth.ok(['exec', 'target', 'probe', 'fds'])}\n`, STDIO)
})

test('a working directory below /proc/self/fd is refused by run', async () => {
  for (const fd of FDS) {
    const said = await run('--workdir', `/proc/self/fd/${fd}`, 'hello', 'pwd')
    assert.match(said, /^refused: .*\/proc\/self\/fd\/\d/, `${fd}: ${said}`)
  }
  for (const place of PLACES) {
    const listed = await run('--workdir', `/proc/self/fd/7${place}`, 'hello', 'ls')
    assert.not.match(listed, OF_THE_HOST, place)
  }
})

test('a working directory below /proc/self/fd is refused by exec', async () => {
  for (const fd of FDS) {
    const said = await exec(`/proc/self/fd/${fd}`, 'pwd')
    assert.match(said, /^refused: .*\/proc\/self\/fd\/\d/, `${fd}: ${said}`)
  }
  for (const place of PLACES) {
    assert.not.match(await exec(`/proc/self/fd/7${place}`, 'ls'), OF_THE_HOST, place)
  }
  assert.is((await findContainer(engine, 'target')).status.state, 'running')
})

test('nothing is left behind', nothingIsLeft)

test.run()
