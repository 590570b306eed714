/** The bench beside a runtime that runs already: it takes with it what it has put there. That runtime is another berth here. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CriDaemon } from '../lib/cri.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2', 'program:docker-registry')

/** A step that the bench tells of when it has measured berth, and has had pods of the other one. */
const MIDST = /scale: other: to 12 pods/

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })

/** Its exit status and all that it has printed; told to end once it prints what matches. */
function bench(until?: RegExp): Promise<{ status: number | null; text: string }> {
  const program = join(REPOSITORY, 'dist/bench/scale.js')
  const peer = `other=${daemon.socket}`
  const args = ['--pods', '12', '--rounds', '3', '--suites', 'scale,memory', '--peer', peer]
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part: string) => {
      const before = until?.test(text)
      text += part
      if (before === false && until?.test(text)) child.kill('SIGTERM')
    })
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, text })))
}

async function nothingIsThere(): Promise<void> {
  assert.equal((await daemon.call('ListPodSandbox')).items, [])
  assert.equal((await daemon.call('ListImages')).images, [])
}

test('the daemon starts', () => daemon.start())

test('a run leaves neither pods nor its image', async () => {
  const { status, text } = await bench()
  assert.is(status, 0, text)
  assert.match(text, /the daemon at 12 pods/)
  await nothingIsThere()
})

test('neither does one that is interrupted, which tells what it has measured', async () => {
  const { status, text } = await bench(MIDST)
  assert.is.not(status, 0)
  assert.match(text, /interrupted by SIGTERM/)
  await nothingIsThere()
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
