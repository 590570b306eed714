/** native/front has started berth-launch before it knows what for: it takes its order, is replaced where it cannot, and is gone where nobody wants it. */
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readFileIfAny } from '../../src/base/file.ts'
import { within } from '../../src/base/within.ts'
import { FrontConnection } from '../../src/front/connection.ts'
import { type FrameName, joinTexts, uint32 } from '../../src/front/protocol.ts'
import { binding } from '../../src/kernel/binding.ts'
import { Fd } from '../../src/kernel/fd.ts'
import { readOnlyMount } from '../../src/kernel/mount-api.ts'
import { programAhead } from '../../src/oci/launch.ts'
import { eventually } from '../lib/eventually.ts'
import { Front } from '../lib/front.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'

needs('root')

const LIMIT_MS = 10_000
/** What the front has of its own is above what callers may have. */
const FIRST_OF_FRONT = 512
/** What berth-launch has to say to words that it does not know, and its exit code. */
const USAGE = /^usage: berth-launch/
const USAGE_CODE = 2

interface Talk {
  readonly connection: FrontConnection
  /** berth-launch, as long as it waits. */
  readonly waiting: number
  readonly ended: Promise<{ code: number | null; stderr: string }>
  next(): Promise<readonly [FrameName | undefined, Buffer]>
  /** Has the front make a child of the program. */
  spawn(program: Fd, words: readonly string[], env?: readonly string[]): void
}

const front = new Front()
const launch = readOnlyMount(join(REPOSITORY, 'build/Release/berth-launch'))

/** A daemon of our own, once the front has begun berth-launch. */
async function talk(use: (talk: Talk) => Promise<void>): Promise<void> {
  const state = join(front.directory, 'own')
  mkdirSync(state)
  using directory = new Fd(openSync(state, 'r'))
  using listener = new Fd(binding.listenUnix(directory.number, 'front.sock'))
  const child = spawn(join(front.directory, 'berth-oci'), ['run', 'x'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: front.path, BERTH_STATE: state },
  })
  let stderr = ''
  child.stderr.on('data', (bytes) => {
    stderr += String(bytes)
  })
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
    child.once('close', (code) => resolve({ code, stderr })),
  )
  const connection = new FrontConnection((await binding.acceptUnix(listener.number)).fd)
  const frames: [FrameName | undefined, Buffer][] = []
  const readers: (() => void)[] = []
  connection.onFrame((name, payload) => {
    frames.push([name, payload])
    readers.shift()?.()
  })
  const next = async () => {
    if (frames.length === 0)
      await within(LIMIT_MS, new Promise<void>((resolve) => readers.push(resolve)))
    return frames.shift() ?? assert.unreachable()
  }
  try {
    assert.is((await next())?.[0], 'call')
    // The daemon judges --preserve-fds by what is open there.
    const callers = () =>
      readdirSync(`/proc/${child.pid}/fd`).filter((fd) => Number(fd) < FIRST_OF_FRONT)
    const before = callers()
    assert.ok(connection.sendWith('ready', Buffer.alloc(0), [launch.number]))
    assert.is((await next())?.[0], 'go')
    for (let i = 0; i < 100; i++) assert.equal(callers(), before)
    let waiting = 0
    await eventually('berth-launch waits', () => {
      waiting = childrenOf(child.pid ?? 0)[0] ?? 0
      return (readFileIfAny(`/proc/${waiting}/cmdline`) ?? '') === 'berth-launch\0wait\0'
    })
    await use({
      connection,
      waiting,
      ended,
      next: next as Talk['next'],
      spawn: (program, words, env = []) => {
        const texts = joinTexts(['p0', 'c0,c1,c2', '', '0', String(words.length), ...words, ...env])
        assert.ok(connection.sendWith('spawn', texts, [program.number]))
      },
    })
    assert.not(existsSync(`/proc/${waiting}`), 'berth-launch is gone')
  } finally {
    connection.close()
    child.kill('SIGKILL')
    await ended
    rmSync(state, { recursive: true })
  }
}

function childrenOf(pid: number): number[] {
  const text = readFileIfAny(`/proc/${pid}/task/${pid}/children`) ?? ''
  return text.split(' ').filter(Boolean).map(Number)
}

/** The exit code of the first child. */
function codeOf([name, payload]: readonly [FrameName | undefined, Buffer]): number {
  assert.is(name, 'ended')
  assert.is(payload.readUInt32LE(0), 0)
  assert.is(payload.readUInt32LE(8), 0)
  return payload.readUInt32LE(4)
}

test('a daemon wants it for the commands that have it make a process', () => {
  for (const words of [
    ['run', 'x'],
    ['--root', '/r', 'create', 'x'],
    ['exec', 'x', 'true'],
  ])
    assert.ok(programAhead(words))
  for (const words of [['list'], ['delete', 'x'], ['--systemd-cgroup', 'run', 'x']])
    assert.is(programAhead(words), undefined)
})

test('it does what it is told, with the descriptors that it is given', async () => {
  await talk(async ({ connection, waiting, ended, next, spawn }) => {
    // Another one would not be stopped.
    process.kill(waiting, 'SIGSTOP')
    spawn(launch, ['berth-launch', 'nonsense'])
    const told = next()
    assert.is(await Promise.race([told, delay(300)]), undefined)
    process.kill(waiting, 'SIGCONT')
    assert.is(codeOf(await told), USAGE_CODE)
    connection.send('exit', uint32(7))
    const { code, stderr } = await ended
    assert.is(code, 7)
    assert.match(stderr, USAGE)
  })
})

test('where it was killed another one is executed', async () => {
  await talk(async ({ connection, waiting, ended, next, spawn }) => {
    process.kill(waiting, 'SIGKILL')
    await eventually('it is dead', () =>
      /\) Z /.test(readFileSync(`/proc/${waiting}/stat`, 'utf8')),
    )
    spawn(launch, ['berth-launch', 'nonsense'])
    assert.is(codeOf(await next()), USAGE_CODE)
    connection.send('exit', uint32(0))
    assert.match((await ended).stderr, USAGE)
  })
})

test('what it cannot be told is executed', async () => {
  await talk(async ({ connection, ended, next, spawn }) => {
    using other = new Fd(openSync('/bin/sh', 'r'))
    spawn(other, ['sh', '-c', 'exit 5'])
    assert.is(codeOf(await next()), 5)
    connection.send('exit', uint32(0))
    assert.is((await ended).code, 0)
  })
  await talk(async ({ connection, waiting, ended, next, spawn }) => {
    process.kill(waiting, 'SIGSTOP')
    // It has no environment.
    spawn(launch, ['berth-launch', 'nonsense'], ['A=b'])
    assert.is(codeOf(await next()), USAGE_CODE)
    connection.send('exit', uint32(0))
    assert.match((await ended).stderr, USAGE)
  })
})

test('where nothing is wanted of it it is gone before the front ends, or Node goes on', async () => {
  await talk(async ({ connection, ended }) => {
    connection.send('exit', uint32(3))
    assert.is((await ended).code, 3)
  })
  const children = join(front.directory, 'children')
  writeFileSync(
    join(front.directory, 'bin/node'),
    `#!/bin/sh\nread -r pids </proc/$$/task/$$/children\necho "[$pids]" >${children}\n`,
  )
  await talk(async ({ connection, ended }) => {
    connection.send('notHere')
    await ended
    assert.is(readFileSync(children, 'utf8'), '[]\n')
  })
})

test.after(async () => {
  launch.close()
  await front.destroy()
})

test.run()
