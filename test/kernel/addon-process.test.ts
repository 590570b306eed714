import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isErrno } from '../../src/base/fault.ts'
import { binding } from '../../src/kernel/binding.ts'
import { AT_FDCWD, O_PATH } from '../../src/kernel/constants.ts'
import { Fd } from '../../src/kernel/fd.ts'
import { openProcess, signalProcess } from '../../src/kernel/process.ts'
import { needs } from '../lib/needs.ts'
import { testDirectory } from '../lib/traces.ts'

needs('root')

const directory = testDirectory()
test.after(() => rmSync(directory, { recursive: true }))

const nullDevice = new Fd(openSync('/dev/null', 'r+'))
const shell = new Fd(binding.openat2(AT_FDCWD, '/bin/sh', O_PATH, 0, 0))

/** Runs a shell; `fds` after stdin, stdout and stderr. Its output goes to a file, whose text is `output()`. */
function run(script: string, fds: readonly number[] = [], env: readonly string[] = ['PATH=/bin']) {
  const path = join(directory, 'output')
  using output = new Fd(openSync(path, 'w'))
  const { pid, status } = binding.spawn({
    file: shell.number,
    args: ['sh', '-c', script],
    env,
    fds: [nullDevice.number, output.number, output.number, ...fds],
  })
  return { pid, status, output: () => readFileSync(path, 'utf8') }
}

test('a child has its arguments, its environment, and the exit code is its own', async () => {
  const { status, output } = run(
    'echo "$0 $A"; env | wc -l; exit 7',
    [],
    ['PATH=/bin:/usr/bin', 'A=b c'],
  )
  assert.equal(await status, { code: 7, signal: 0 })
  // PWD is the shell's own.
  assert.match(output(), /^sh b c\n[23]\n$/)
})

test('a child that a signal ends has code 128 + signal', async () => {
  for (const signal of [9, 15, 10]) {
    const { status } = run(`kill -${signal} $$; sleep 1000`)
    assert.equal(await status, { code: 128 + signal, signal })
  }
})

test('a child has the fds it was given, in their order, and no others', async () => {
  const [one, two] = [join(directory, 'one'), join(directory, 'two')]
  writeFileSync(one, '')
  writeFileSync(two, '')
  using first = new Fd(openSync(one, 'r'))
  using second = new Fd(openSync(two, 'r'))
  // In both orders, so that each is at some time the one whose number is taken.
  for (const [three, four] of [
    [first, second],
    [second, first],
  ] as const) {
    const { status, output } = run('readlink /proc/self/fd/3 /proc/self/fd/4; ls /proc/self/fd', [
      three.number,
      four.number,
    ])
    await status
    const paths = three === first ? [one, two] : [two, one]
    // 5 is the directory that ls reads.
    assert.equal(output().trim().split('\n'), [...paths, '0', '1', '2', '3', '4', '5'])
  }
})

test('all signals of a child are at their defaults and unblocked', async () => {
  const { status, output } = run('exec cat /proc/self/status')
  await status
  const masks = output()
    .split('\n')
    .filter((line) => /^Sig(Blk|Ign|Cgt):/.test(line))
  assert.is(masks.length, 3)
  for (const line of masks) assert.match(line, /\s0{16}$/)
})

test('what cannot be executed is an error of execveat, and leaves no child', () => {
  using text = new Fd(openSync('/etc/passwd', 'r'))
  const spawn =
    (file: number, fds: number[] = []) =>
    () =>
      binding.spawn({ file, args: ['x'], env: [], fds })
  const fails = (code: string) => (error: unknown) => isErrno(error, code)
  assert.throws(spawn(text.number), fails('EACCES'))
  assert.throws(spawn(99999), fails('EBADF'))
  assert.throws(spawn(shell.number, [99999]), fails('EBADF'))
  assert.is(readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim(), '')
})

test('a child by its path may be a script, leads a process group, stands in /, and answers through pipes', async () => {
  const script = join(directory, 'script')
  writeFileSync(
    script,
    '#!/bin/sh\nread -r word\necho "$word $0 $(pwd) $$ $(cut -d" " -f5 /proc/$$/stat)"\n',
    {
      mode: 0o755,
    },
  )
  const [stdin, stdout] = [binding.pipe(), binding.pipe()]
  const { pid, status } = binding.spawn({
    file: script,
    args: [script],
    env: ['PATH=/usr/bin:/bin'],
    fds: [stdin.read, stdout.write, nullDevice.number],
    group: true,
    directory: '/',
  })
  closeSync(stdin.read)
  closeSync(stdout.write)
  writeSync(stdin.write, 'hello\n')
  closeSync(stdin.write)
  assert.equal(await status, { code: 0, signal: 0 })
  assert.equal(readFileSync(stdout.read, 'utf8').trim().split(/\s+/), [
    'hello',
    script,
    '/',
    `${pid}`,
    `${pid}`,
  ])
  closeSync(stdout.read)
  const none = { file: `${script}.none`, args: ['x'], env: [], fds: [] }
  assert.throws(
    () => binding.spawn(none),
    (error: unknown) => isErrno(error, 'ENOENT'),
  )
})

test('many children are waited for at once, and files still work meanwhile', async () => {
  const children = Array.from({ length: 40 }, () => run('exec sleep 1000'))
  assert.is((await readFile('/proc/self/comm', 'utf8')).length > 0, true)
  for (const { pid } of children) {
    using child = openProcess(pid)
    assert.ok(child && signalProcess(child, 9))
  }
  for (const { status } of children) assert.is((await status).signal, 9)
})

test('a process that is gone is told, and another is never hit', async () => {
  const { pid, status } = run('exec sleep 1000')
  using child = openProcess(pid)
  assert.ok(child)
  signalProcess(child, 9)
  await status
  assert.is(signalProcess(child, 9), false)
  assert.is(openProcess(-1), undefined)
})

test('a worker thread that ends while a call waits harms nobody', async () => {
  const path = join(directory, 'held')
  using holder = new Fd(openSync(path, 'w'))
  binding.flock(holder.number, true)
  const url = new URL('../../src/kernel/binding.js', import.meta.url).href
  const worker = new Worker(
    `import(${JSON.stringify(url)}).then(({ binding }) => {
      const fs = require('node:fs')
      for (let i = 0; i < 5; i++) binding.flockWait(fs.openSync(${JSON.stringify(path)}), false)
      require('node:worker_threads').parentPort.postMessage('waiting')
    })`,
    { eval: true },
  )
  await new Promise((resolve) => worker.once('message', resolve))
  await worker.terminate()
  // The threads of the dead worker get the lock now, and find nobody to tell.
  holder.close()
  using next = new Fd(openSync(path, 'r'))
  await binding.flockWait(next.number, true)
})

test.run()
