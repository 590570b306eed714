/** Signals, terminals and restarts of `berth run`. */
import { execFileSync, spawn } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { lockFile } from '../../src/kernel/lock.ts'
import { berthOfFile, finish } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needing, needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()

const running = (name: string) =>
  eventually(
    `${name} runs`,
    async () =>
      (await berth.run(['ps', '-q', '-f', `name=${name}`, '-f', 'status=running'])).stdout !== '',
  )

for (const [signal, code] of [
  ['SIGTERM', 143],
  ['SIGINT', 130],
  ['SIGHUP', 129],
  ['SIGUSR1', 138],
] as const) {
  test(`${signal} to berth run reaches the program, whose end is 128 + its number`, async () => {
    const child = berth.spawn([
      'run',
      '--rm',
      '--init',
      '--net',
      'none',
      '--name',
      'sig',
      'hello',
      'sleep',
    ])
    const end = finish(child, 'run')
    await running('sig')
    child.kill(signal)
    assert.is((await end).code, code)
    assert.is(await berth.ok(['ps', '-aq']), '')
  })
}

test('with --no-sig-proxy a signal ends berth alone', async () => {
  const child = berth.spawn([
    'run',
    '--net',
    'none',
    '--name',
    'alone',
    '--no-sig-proxy',
    'hello',
    'sleep',
  ])
  const end = finish(child, 'run')
  await running('alone')
  child.kill('SIGTERM')
  assert.is((await end).code, 143)
  await running('alone')
  await berth.ok(['rm', '-f', 'alone'])
})

test('a program as PID 1 without a handler takes no TERM, and stop kills it', async () => {
  await berth.ok([
    'run',
    '-d',
    '--net',
    'none',
    '--name',
    'deaf',
    '--stop-timeout',
    '1',
    'hello',
    'sleep',
  ])
  await berth.ok(['stop', 'deaf'])
  assert.is(await berth.ok(['wait', 'deaf']), '137')
  await berth.ok(['rm', 'deaf'])
})

test('--init is PID 1, passes signals on, and gives the exit code of the program', async () => {
  const ps = await berth.ok(['run', '--rm', '--init', '--net', 'none', 'hello', 'ps'])
  assert.match(ps, /^1 0 S berth/m)
  assert.match(ps, /^\d+ 1 R ps/m)
  const { code } = await berth.run([
    'run',
    '--rm',
    '--init',
    '--net',
    'none',
    'hello',
    'probe',
    'exit',
    '9',
  ])
  assert.is(code, 9)
  await berth.ok([
    'run',
    '-d',
    '--init',
    '--net',
    'none',
    '--name',
    'in',
    '--stop-signal',
    'USR1',
    'hello',
    'sleep',
  ])
  await berth.ok(['stop', 'in'])
  assert.is(await berth.ok(['wait', 'in']), '138')
  await berth.ok(['rm', 'in'])
})

test('a missing program under --init is 127 too', async () => {
  const { code, stderr } = await berth.run([
    'run',
    '--rm',
    '--init',
    '--net',
    'none',
    'hello',
    'nosuch',
  ])
  assert.is(code, 127, stderr)
})

test('an unknown signal is refused', async () => {
  await berth.refused(
    ['run', '--rm', '--net', 'none', '--stop-signal', 'SIGNOTHING', 'hello'],
    /SIGNOTHING/,
  )
})

const terminal = needing(test, 'program:script')

terminal('-t gives a terminal on all three', async () => {
  const { code, stdout } = await berth.terminal([
    'run',
    '--rm',
    '-it',
    '--net',
    'none',
    'hello',
    'probe',
    'is-tty',
  ])
  assert.match(stdout, /stdin=yes stdout=yes stderr=yes/)
  assert.is(code, 0)
})

test('-t without -i works where our stdin and stdout are no terminal', async () => {
  const { code, stdout, stderr } = await berth.run([
    'run',
    '--rm',
    '-t',
    '--net',
    'none',
    'hello',
    'probe',
    'is-tty',
  ])
  assert.is(code, 0, stderr)
  assert.is(stdout, 'stdin=yes stdout=yes stderr=yes\r\n')
})

test('-it without a terminal of ours is refused', async () => {
  await berth.refused(['run', '--rm', '-it', '--net', 'none', 'hello'], /terminal/)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

terminal('the terminal has the size of ours, and TERM is set', async () => {
  const script = `stty rows 33 cols 101; exec ${berth.command.join(' ')} run --rm -it --net none hello probe tty-size`
  const { stdout } = await inTerminal(script)
  assert.match(stdout, /33 101/)
  const env = await berth.terminal(['run', '--rm', '-it', '--net', 'none', 'hello', 'env'])
  assert.match(env.stdout, /^TERM=xterm\r?$/m)
})

terminal('a key that interrupts reaches the program through its own terminal', async () => {
  const child = spawnTerminal([
    'run',
    '--rm',
    '-it',
    '--init',
    '--net',
    'none',
    '--name',
    'keys',
    'hello',
    'sleep',
  ])
  const end = finishKeepingInput(child)
  await running('keys')
  child.stdin.write('\x03')
  assert.is(await end, 130)
})

terminal('the detach keys leave the program running, and attach comes back to it', async () => {
  const child = spawnTerminal(['run', '-it', '--net', 'none', '--name', 'leave', 'hello', 'cat'])
  const end = finishKeepingInput(child)
  await running('leave')
  child.stdin.write('\x10\x11')
  assert.is(await end, 0)
  await running('leave')
  const again = spawnTerminal(['attach', '--detach-keys', 'ctrl-x,x', 'leave'])
  let seen = ''
  again.stdout.on('data', (part: Buffer) => {
    seen += part.toString()
  })
  const left = finishKeepingInput(again)
  await eventually(
    'an echo',
    () => {
      again.stdin.write('word\n')
      return seen.includes('word')
    },
    { everyMs: 200 },
  )
  again.stdin.write('\x18x')
  assert.is(await left, 0)
  await running('leave')
  await berth.ok(['rm', '-f', 'leave'])
})

terminal('keys that are pressed while the program starts are its own', async () => {
  const id = await berth.ok(['create', '-it', '--net', 'none', '--name', 'slow', 'hello', 'cat'])
  const lock = await lockFile(join(berth.state, 'locks', id), { exclusive: true })
  const child = spawnTerminal(['start', '-ai', 'slow'])
  const end = finishKeepingInput(child)
  try {
    await eventually('the terminal is raw', () => {
      const [front = ''] = readFileSync(
        `/proc/${child.pid}/task/${child.pid}/children`,
        'utf8',
      ).split(' ')
      const mode = execFileSync('stty', ['-F', readlinkSync(`/proc/${front}/fd/0`), '-a'])
      return / -icanon/.test(mode.toString())
    })
    // In the terminal's own mode the second of them would be none.
    child.stdin.write('\x10\x11')
  } finally {
    lock.release()
  }
  assert.is(await end, 0)
  await running('slow')
  await berth.ok(['rm', '-f', 'slow'])
})

test('--restart on-failure:2 tries three times, and tells the last code', async () => {
  await berth.ok([
    'run',
    '-d',
    '--net',
    'none',
    '--name',
    'again',
    '--restart',
    'on-failure:2',
    'hello',
    'probe',
    'exit',
    '5',
  ])
  await eventually(
    'it has stopped',
    async () => (await berth.ok(['ps', '-aq', '-f', 'status=exited'])) !== '',
  )
  const [found] = JSON.parse(await berth.ok(['inspect', 'again']))
  assert.is(found.RestartCount, 2)
  assert.is(found.State.ExitCode, 5)
  assert.is(await berth.ok(['wait', 'again']), '5')
  await berth.ok(['rm', 'again'])
})

test('--restart on-failure leaves a success alone', async () => {
  await berth.ok([
    'run',
    '-d',
    '--net',
    'none',
    '--name',
    'fine',
    '--restart',
    'on-failure',
    'hello',
    'true',
  ])
  assert.is(await berth.ok(['wait', 'fine']), '0')
  const [found] = JSON.parse(await berth.ok(['inspect', 'fine']))
  assert.is(found.RestartCount, 0)
  await berth.ok(['rm', 'fine'])
})

for (const policy of ['always', 'unless-stopped']) {
  test(`--restart ${policy} starts again until it is stopped`, async () => {
    await berth.ok([
      'run',
      '-d',
      '--net',
      'none',
      '--name',
      'ever',
      '--restart',
      policy,
      'hello',
      'true',
    ])
    await eventually(
      'two restarts',
      async () => JSON.parse(await berth.ok(['inspect', 'ever']))[0].RestartCount >= 2,
    )
    await berth.ok(['stop', 'ever'])
    const [found] = JSON.parse(await berth.ok(['inspect', 'ever']))
    assert.is(found.State.Status, 'exited')
    await berth.ok(['rm', 'ever'])
  })
}

test('a killed program is started again, and keeps its files', async () => {
  await berth.ok([
    'run',
    '-d',
    '--net',
    'none',
    '--name',
    'phoenix',
    '--restart',
    'always',
    'hello',
    'sleep',
  ])
  await berth.ok(['exec', 'phoenix', 'probe', 'write-file', '/kept', 'yes'])
  const [before] = JSON.parse(await berth.ok(['inspect', 'phoenix']))
  process.kill(before.State.Pid, 'SIGKILL')
  await eventually('it runs again', async () => {
    const [now] = JSON.parse(await berth.ok(['inspect', 'phoenix']))
    return now.State.Running && now.State.Pid > 0 && now.State.Pid !== before.State.Pid
  })
  assert.is(await berth.ok(['exec', 'phoenix', 'cat', '/kept']), 'yes')
  await berth.ok(['rm', '-f', 'phoenix'])
})

test('--rm and --restart exclude each other', async () => {
  await berth.refused(
    ['run', '--rm', '--restart', 'always', '--net', 'none', 'hello'],
    /--rm and --restart exclude/,
  )
})

function spawnTerminal(args: string[]) {
  const words = [...berth.command, ...args].map((word) => `'${word}'`).join(' ')
  return spawn('script', ['--quiet', '--return', '--command', words, '/dev/null'], {
    env: berth.env(),
    cwd: REPOSITORY,
    stdio: 'pipe',
  })
}

function inTerminal(command: string) {
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    env: berth.env(),
    cwd: REPOSITORY,
    stdio: 'pipe',
  })
  return finish(child, command)
}

function finishKeepingInput(child: ReturnType<typeof spawnTerminal>): Promise<number | null> {
  child.stdout.resume()
  child.stderr.resume()
  return new Promise((resolve) => child.on('close', resolve))
}

test('nothing is left behind', nothingIsLeft)

test.run()
