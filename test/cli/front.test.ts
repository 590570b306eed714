/** berth by way of native/front: what a daemon does and what is left to Node, with one result; and who goes away in the middle. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needing, needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

process.env['BERTH_TEST_FRONT'] = 'daemon'
const { berthOfFile, finish } = await import('../lib/berth.ts')
const { berth, nothingIsLeft } = berthOfFile()
const front = berth.front
if (!front) throw new Error('this file runs with a daemon')
const cwd = join(berth.directory, 'here')
mkdirSync(cwd)

/** So often in a row the same is open. */
const REST_LOOKS = 10

/** Node in every case, by the first line of the file. */
const NODE = join(REPOSITORY, 'bin/berth.cjs')

interface How {
  readonly input?: string | Buffer
  readonly env?: Record<string, string>
  /** What a shell does before. */
  readonly before?: string
  /** Done by Node on both sides, for its caller must do it himself. */
  readonly isLeft?: boolean
}

/** What differs from one run to the next. */
function plain(text: string): string {
  return text
    .replaceAll(/\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b/g, 'ID')
    .replaceAll(/\b[a-z]+-[a-z]+-[0-9a-f]{4}\b/g, 'NAME')
    .replaceAll(/\b([a-z]+)[XY]\b/g, '$1')
    .replaceAll(/\d+ (seconds?|minutes?)( ago)?/g, 'TIME')
    .replaceAll(/"timeNs": "\d+"/g, 'TIME')
    .replaceAll(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/ +/g, ' ')
}

/** The same words once by the daemon and once by Node, each with a letter of its own for an `@`: stdout, stderr and exit code are one. */
function both(
  words: readonly string[],
  { input = '', env = {}, before = ':', isLeft = false }: How = {},
) {
  const run = (letter: string, program: string, own: Record<string, string> = {}) => {
    const all = { ...berth.env(), ...own, ...env }
    const options = { cwd, encoding: 'utf8', env: all, input } as const
    const named = words.map((word) => word.replace(/(?<=^[a-z]+)@$/, letter))
    const { status, stdout, stderr } = spawnSync(
      'sh',
      ['-c', `${before}; exec "$@"`, 'sh', program, ...named],
      options,
    )
    return { code: status, out: plain(stdout), err: plain(stderr) }
  }
  front?.leftToNode()
  const daemon = run('X', berth.command[0])
  assert.is(front?.leftToNode().length, isLeft ? 1 : 0, `who has done ${words.join(' ')}`)
  const node = run('Y', NODE, { PATH: `${dirname(process.execPath)}:${process.env['PATH']}` })
  assert.equal(daemon, node, words.join(' '))
  return daemon
}

const run = (...words: string[]) => ['run', '--rm', '--net', 'none', ...words]
const detached = (name: string, ...words: string[]) =>
  berth.ok(['run', '-d', '--net', 'none', '--name', name, 'hello', ...words])

test('output, errors and exit codes are those of Node', async () => {
  await berth.ok(run('hello', 'true'))
  assert.is(both(['ps', '-a']).code, 0)
  assert.is(both(['images']).code, 0)
  assert.is(both(['image', 'ls', '--format', 'json']).code, 0)
  assert.match(both(['run', '--help']).out, /^Usage: berth run/)
  assert.is(both(['help', 'exec']).code, 0)
  assert.is(both(['run']).code, 125)
  assert.match(both(['run', '--nonsense', 'hello']).err, /nonsense/)
  assert.match(both(run('--pull', 'never', 'nothing-such')).err, /nothing-such/)
  assert.match(both(run('--gpus', 'all', 'hello')).err, /--gpus is not supported/)
  assert.is(both(run('hello', 'probe', 'exit', '9')).code, 9)
  assert.is(both(run('hello', 'nosuch')).code, 127)
  assert.is(both(run('hello', '/etc/passwd')).code, 126)
  assert.is(both(run('-i', 'hello', 'cat'), { input: 'through' }).out, 'through')
  assert.is(both(run('hello', 'cat'), { input: 'not read' }).out, '')
  assert.match(both(run('-it', 'hello')).err, /stdin is no terminal/)
  assert.match(both(['inspect', 'nothing']).err, /no container and no image/)
  assert.match(both(['logs', 'nothing']).err, /no container "nothing"/)
  for (const command of ['stop', 'kill', 'rm', 'start', 'wait', 'pause', 'top', 'attach']) {
    assert.is.not(both([command, 'nothing', 'neither']).code, 0)
  }
})

test('a call has nothing of the one before it', async () => {
  const names = ['first', 'second']
  for (const name of names) {
    mkdirSync(join(cwd, name, 'files'), { recursive: true })
    writeFileSync(join(cwd, name, 'files', 'name'), name)
  }
  const env = ['probe', 'env']
  for (const name of names) {
    const how = { env: { WHO: name }, before: `cd ${name}` }
    assert.match(both(run('-e', 'WHO', 'hello', ...env), how).out, `WHO=${name}\n`)
    assert.is(both(run('-v', './files:/f', 'hello', 'cat', '/f/name'), how).out, name)
    assert.is.not(both(run('hello', 'cat', '/f/name'), how).code, 0)
    assert.not.match(both(run('hello', ...env), how).out, 'WHO')
    both(['ps', '-a', '--format', 'json'], how)
    both(['ps'], how)
  }
  // Of another state, which is no daemon's.
  const elsewhere = { env: { BERTH_ROOT: join(cwd, 'root') }, isLeft: true }
  assert.is(both(['ps', '-q'], elsewhere).out, '')
  both(['ps', '-q'])
})

test('containers that both see, and such as each changes', async () => {
  await detached('one', 'sleep')
  const lines = ['probe', 'lines', '5', '0', 'both']
  await berth.run(['run', '--net', 'none', '--name', 'two', 'hello', ...lines])
  both(['ps'])
  both(['ps', '-a', '--format', 'json'])
  both(['ps', '-qa', '--no-trunc'])
  both(['inspect', 'one', 'two'])
  both(['logs', 'two'])
  both(['logs', '-t', '--tail', '2', 'two'])
  both(['logs', '-f', 'two'])
  both(['wait', 'two'])
  both(['exec', 'one', ...lines])
  assert.is(both(['exec', 'one', 'probe', 'exit', '42']).code, 42)
  assert.is(both(['exec', 'one', 'nosuch']).code, 127)
  assert.is(both(['exec', '-i', 'one', 'cat'], { input: 'through' }).out, 'through')
  both(['exec', '-d', 'one', 'true'])
  both(['top', 'one'])
  both(['stats', '--no-stream', '--format', 'json', 'two'])
  both(['start', 'one'])
  both(['kill', '-s', 'nonsense', 'one'])
  both(['rm', 'one'])
  assert.is(both(['create', '--net', 'none', '--name', 'new@', 'hello', 'sleep']).code, 0)
  assert.is(
    both(['run', '-d', '--init', '--net', 'none', '--name', 'up@', 'hello', 'sleep']).code,
    0,
  )
  for (const words of [
    ['start', 'new@'],
    ['update', '--restart', 'on-failure', 'new@'],
    ['pause', 'up@'],
    ['unpause', 'up@'],
    ['restart', 'up@'],
    ['rename', 'up@', 'other@'],
    ['kill', '-s', 'USR1', 'other@'],
    ['wait', 'other@'],
    ['stop', '-t', '0', 'new@', 'other@'],
  ]) {
    assert.is(both(words).code, 0)
  }
  both(['rm', 'new@', 'nothing', 'other@'])
  await berth.ok(['rm', '-f', 'one', 'two'])
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('paths, variables, limits and standing are those of the caller', async () => {
  writeFileSync(join(cwd, 'env'), 'FROM_FILE=1\nGIVEN\n')
  writeFileSync(join(cwd, 'labels'), 'a=b\n')
  const env = { GIVEN: 'by the caller' }
  const words = run('--env-file', 'env', '--label-file', 'labels', '-e', 'GIVEN', '-e', 'ABSENT')
  const { out } = both([...words, 'hello', 'env'], { env })
  assert.match(out, /^FROM_FILE=1$/m)
  assert.match(out, /^GIVEN=by the caller$/m)
  assert.not.match(out, /ABSENT/)
  assert.match(both(run('-v', '.:/here:ro', 'hello', 'ls', '/here')).out, /labels/)
  assert.match(both(run('--env-file', 'missing', 'hello')).err, /cannot read missing/)
  assert.match(both(run('--security-opt', 'seccomp=missing', 'hello')).err, /missing/)
  both(run('--cidfile', 'no/such/place', 'hello'))
  const id = await finish(
    spawn(berth.command[0], run('--cidfile', 'cid', 'hello', 'true'), {
      cwd,
      env: berth.env(),
      stdio: 'pipe',
    }),
    'run --cidfile',
  )
  assert.is(id.code, 0, id.stderr)
  assert.match(readFileSync(join(cwd, 'cid'), 'utf8'), /^[0-9a-f]{64}$/)
  const script = `ulimit -c 5; echo 77 >/proc/self/oom_score_adj; exec "$0" "$@"`
  const asked = [
    ...run('hello'),
    'probe',
    'print-file',
    '/proc/self/limits',
    '/proc/self/oom_score_adj',
  ]
  const shown = execFileSync('sh', ['-c', script, ...berth.command, ...asked], {
    env: berth.env(),
    encoding: 'utf8',
  })
  assert.match(shown, /Max core file size +(5120|2560|5) /)
  assert.match(shown, /^77$/m)
  assert.equal(front.leftToNode(), [])
})

test('what may be is judged by the limits of the caller', () => {
  // Where nobody may raise limits the first is refused.
  for (const limit of ['nofile=3000:3000', 'nofile=1500:1500']) {
    both(run('--ulimit', limit, 'hello', 'true'), { before: 'ulimit -n 2000' })
  }
})

test('signals that the caller ignores or blocks are none of berth', async () => {
  const start = (option: string, words: readonly string[]) =>
    spawn('env', [option, ...berth.command, ...words], { env: berth.env(), stdio: 'pipe' })
  const ignoring = start('--ignore-signal=CHLD', run('hello', 'probe', 'exit', '9'))
  assert.is((await finish(ignoring, 'run', { timeoutMs: 20_000 })).code, 9)
  await detached('s', 'sleep')
  const before = await openedAtRest()
  const blocking = start('--block-signal=TERM', ['wait', 's'])
  await eventually('it is under way', () => opened() > before)
  blocking.kill('SIGTERM')
  assert.is((await finish(blocking, 'wait', { timeoutMs: 20_000 })).code, 143)
  assert.equal(front.leftToNode(), [])
  await berth.ok(['rm', '-f', 's'])
})

test('who must do it himself does: pulls, other places, another umask, other commands', () => {
  const left = { isLeft: true }
  both(run('127.0.0.1:1/nothing:here', 'true'), left)
  both(['version'], left)
  both(['--version'], left)
  both(['nonsense'], left)
  both(['--debug', 'ps'], left)
  both(['ps', '-a'], { ...left, env: { TZ: 'Asia/Tokyo' } })
  both(['ps', '-a'], { ...left, env: { BERTH_ROOT: join(berth.directory, 'another') } })
  both(['--root', join(berth.directory, 'another'), 'ps'], left)
  both(['exec', '--env-file', '/dev/stdin', 'nothing', 'true'], left)
  both(run('--env-file', '/dev/stdin', 'hello', 'env'), { ...left, input: 'IN=1\n' })
  rmSync(join(berth.directory, 'another'), { recursive: true, force: true })
  execFileSync('sh', ['-c', 'umask 077; exec "$0" ps', berth.command[0]], { env: berth.env() })
  assert.is(front.leftToNode().length, 1)
})

test('--state finds the daemon as BERTH_STATE does', () => {
  const { BERTH_ROOT: _root, BERTH_STATE: _state, ...env } = berth.env()
  const places = ['--root', berth.root, `--state=${berth.state}`]
  execFileSync(berth.command[0], [...places, 'ps'], { env })
  assert.equal(front.leftToNode(), [])
})

test('megabytes in and out are whole', () => {
  const input = Buffer.alloc(5_000_000)
  for (let at = 0; at < input.length; at++) input[at] = (at * 31 + (at >> 8)) & 0xff
  const out = execFileSync(berth.command[0], run('-i', 'hello', 'cat'), {
    env: berth.env(),
    input,
    maxBuffer: input.length * 2,
  })
  assert.ok(out.equals(input))
  assert.equal(front.leftToNode(), [])
})

test('a reader that goes, and a disk that is full, are told as by Node', async () => {
  await berth.run(['run', '--net', 'none', '--name', 'l', 'hello', 'probe', 'lines', '20000', '0'])
  for (const program of [berth.command, [process.execPath, join(REPOSITORY, 'bin/berth.cjs')]]) {
    const sh = (script: string) =>
      spawnSync('bash', ['-c', script, 'bash', ...program], { env: berth.env(), encoding: 'utf8' })
    assert.is(sh('set -o pipefail; "$@" logs l | head -n 1 >/dev/null').status, 141)
    const full = sh('"$@" ps -a >/dev/full')
    assert.is(full.status, 125)
    assert.match(full.stderr, /^berth: ENOSPC: no space left on device, write\n$/)
  }
  await berth.ok(['rm', 'l'])
})

/** What the daemon has open: a command that goes on for nobody would hold a monitor's socket. */
const opened = () => readdirSync(`/proc/${front.pid}/fd`).length
/** What is open where nobody calls: the last call's descriptors are closed some time after its answer. */
async function openedAtRest(): Promise<number> {
  const counts: number[] = []
  await eventually(
    'the daemon closes what its calls have opened',
    () => {
      counts.unshift(opened())
      counts.splice(REST_LOOKS)
      return counts.length === REST_LOOKS && counts.every((count) => count === counts[0])
    },
    { everyMs: 50 },
  )
  return opened()
}

test('a caller that is killed leaves its container running, and nothing in the daemon', async () => {
  await detached('b', 'sleep')
  const ends = [
    ['run', '--rm', '-i', '--net', 'none', '--name', 'a', 'hello', 'sleep'],
    ['logs', '-f', 'b'],
    ['wait', 'b'],
    ['exec', 'b', 'sleep'],
    ['attach', 'b'],
    ['stats', 'b'],
  ]
  // The first watching of a file opens something for good.
  spawnSync('timeout', ['-s', 'KILL', '1', berth.command[0], 'logs', '-f', 'b'], {
    env: berth.env(),
  })
  const before = await openedAtRest()
  for (const words of ends) {
    const child = spawn(berth.command[0], words, {
      env: berth.env(),
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    await eventually(`${words[0]} is under way`, async () =>
      words[0] === 'run' ? (await berth.ok(['ps'])).includes(' a\n') : opened() > before,
    )
    child.kill('SIGKILL')
    await eventually(`${words[0]} is over`, () => opened() <= before)
  }
  const names = JSON.parse(await berth.ok(['ps', '--format', 'json'])) as { name: string }[]
  assert.equal(names.map(({ name }) => name).sort(), ['a', 'b'])
  assert.equal(front.leftToNode(), [])
  await berth.ok(['rm', '-f', 'a', 'b'])
})

test('a stop without an end keeps the container for nobody who has gone', async () => {
  await detached('w', 'sleep')
  const before = await openedAtRest()
  const child = berth.spawn(['stop', '-t', '-1', 'w'])
  await eventually('it is under way', () => opened() > before)
  child.kill('SIGKILL')
  const { code, stderr } = await berth.run(['rm', '-f', 'w'], { timeoutMs: 20_000 })
  assert.is(code, 0, stderr)
  assert.equal(front.leftToNode(), [])
})

test('a log is followed until a moment that is farther than any timer', async () => {
  await detached('u', 'probe', 'lines', '40', '20')
  assert.match(await berth.ok(['logs', '-f', '--until', '2099-01-01', 'u']), /^line 40$/m)
  await berth.ok(['rm', 'u'])
})

needing(test, 'program:script')('the terminal is as it was when berth is killed', async () => {
  await detached('t', 'sleep')
  const script = `before=$(stty -g)
    ${berth.command[0]} exec -it t sleep </dev/tty & pid=$!
    for i in $(seq 100); do stty | grep -q -- -icanon && break; sleep 0.1; done
    stty | grep -o -- -icanon; kill -TERM $pid; wait $pid; echo "code $?"
    test "$before" = "$(stty -g)" && echo restored`
  const shown = spawnSync('script', ['--quiet', '--command', `bash -c '${script}'`, '/dev/null'], {
    env: berth.env(),
    encoding: 'utf8',
  })
  assert.match(shown.stdout, /-icanon\s+code 143\s+restored/, shown.stdout + shown.stderr)
  assert.equal(front.leftToNode(), [])
  await berth.ok(['rm', '-f', 't'])
})

test('a run in the foreground goes on when its daemon is killed', async () => {
  const words = ['run', '--rm', '--init', '--net', 'none', '--name', 'j', 'hello']
  const child = berth.spawn([...words, 'probe', 'lines', '100000', '50'])
  child.stdin.end()
  let out = ''
  child.stdout.on('data', (bytes) => {
    out += String(bytes)
  })
  await eventually('it writes', () => out.includes('line 2\n'))
  assert.equal(front.leftToNode(), [])
  process.kill(front.pid, 'SIGKILL')
  let left = ''
  await eventually('Node goes on', () => {
    left += front.leftToNode().join('')
    return left !== ''
  })
  assert.match(left, / container rejoin --rm /)
  const before = out.length
  await eventually('it is heard again', () => out.length > before)
  child.kill('SIGTERM')
  const code = await new Promise((resolve) => child.once('close', resolve))
  assert.is(code, 143)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('nothing is left behind', async () => {
  front.leftToNode()
  await nothingIsLeft()
})
test.run()
