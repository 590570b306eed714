/** The commands for containers that run or have run. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { berthOfFile } from '../lib/berth.ts'
import { eventually } from '../lib/eventually.ts'
import { lacks, needs } from '../lib/needs.ts'

needs('root', 'overlay', 'cgroup2')

const { berth, nothingIsLeft } = berthOfFile()
const detached = (name: string, ...rest: string[]) =>
  berth.ok(['run', '-d', '--net', 'none', '--name', name, ...rest])
const inspect = async (name: string) => JSON.parse(await berth.ok(['inspect', name]))[0]
const remove = (...names: string[]) => berth.ok(['rm', '-f', ...names])

test('run -d prints the id, and the container runs on', async () => {
  const id = await detached('d', 'hello', 'sleep')
  assert.match(id, /^[0-9a-f]{64}$/)
  assert.is(await berth.ok(['ps', '-q', '--no-trunc']), id)
  const found = await inspect(id.slice(0, 8))
  assert.is(found.Name, 'd')
  assert.is(found.State.Status, 'running')
  await remove('d')
})

test('run -d of a program that is not there is told, with its code', async () => {
  const { code, stderr } = await berth.run([
    'run',
    '-d',
    '--rm',
    '--net',
    'none',
    'hello',
    'nosuch',
  ])
  assert.is(code, 127)
  assert.match(stderr, /nosuch/)
  assert.is(await berth.ok(['ps', '-aq']), '')
})

test('run -d --rm goes by itself when it ends', async () => {
  await berth.ok(['run', '-d', '--rm', '--net', 'none', 'hello', 'true'])
  await eventually('no container', async () => (await berth.ok(['ps', '-aq'])) === '')
})

test('ps: running ones, with -a all; filters; json', async () => {
  await detached('up', '--label', 'x=1', 'hello', 'sleep')
  await berth.run(['run', '--net', 'none', '--name', 'down', 'hello', 'probe', 'exit', '3'])
  await berth.ok(['create', '--net', 'none', '--name', 'new', 'hello'])
  const names = async (...options: string[]) =>
    JSON.parse(await berth.ok(['ps', '--format', 'json', ...options]))
      .map((c: { name: string }) => c.name)
      .sort()
  assert.equal(await names(), ['up'])
  assert.equal(await names('-a'), ['down', 'new', 'up'])
  assert.equal(await names('-a', '-f', 'status=exited'), ['down'])
  assert.equal(await names('-a', '-f', 'status=created'), ['new'])
  assert.equal(await names('-a', '-f', 'exited=3'), ['down'])
  assert.equal(await names('-a', '-f', 'name=o'), ['down'])
  assert.equal(await names('-a', '-f', 'label=x'), ['up'])
  assert.equal(await names('-a', '-f', 'ancestor=hello'), ['down', 'new', 'up'])
  assert.equal(await names('-l'), ['new'])
  await berth.refused(['ps', '-f', 'nonsense=1'], /nonsense/)
  const text = await berth.ok(['ps', '-a'])
  assert.match(text, /Exited \(3\)/)
  assert.match(text, /Created/)
  assert.match(text, /Up /)
  await remove('up', 'down', 'new')
})

test('logs: both streams, the last lines, since, with times', async () => {
  await berth.run([
    'run',
    '--net',
    'none',
    '--name',
    'l',
    'hello',
    'probe',
    'lines',
    '10',
    '0',
    'both',
  ])
  const { stdout, stderr } = await berth.run(['logs', 'l'])
  const all = Array.from({ length: 10 }, (_, i) => `line ${i + 1}\n`).join('')
  assert.is(stdout, all)
  assert.is(stderr, all)
  const last = await berth.run(['logs', '--tail', '4', 'l'])
  assert.is((last.stdout + last.stderr).split('\n').filter(Boolean).length, 4)
  assert.match(await berth.ok(['logs', '-t', 'l']), /^\d{4}-\d\d-\d\dT\S+Z line 1$/m)
  assert.is(await berth.ok(['logs', '--since', '2099-01-01T00:00:00Z', 'l']), '')
  assert.is(await berth.ok(['logs', '--until', '2001-01-01T00:00:00Z', 'l']), '')
  await berth.refused(['logs', '--since', 'nonsense', 'l'], /nonsense/)
  await remove('l')
  await berth.refused(['logs', 'l'], /no container "l"/)
})

test('logs -f follows to the end, and an unfinished line is not lost', async () => {
  await detached('f', 'hello', 'probe', 'lines', '30', '60')
  const { code, stdout } = await berth.run(['logs', '-f', 'f'])
  assert.is(code, 0)
  assert.is(stdout, Array.from({ length: 30 }, (_, i) => `line ${i + 1}\n`).join(''))
  await remove('f')
})

test('exec: stdio, exit codes, user, directory, environment', async () => {
  await detached('e', '-e', 'A=run', 'hello', 'sleep')
  assert.is(await berth.ok(['exec', '-i', 'e', 'cat'], { input: 'through' }), 'through')
  const both = await berth.run(['exec', 'e', 'probe', 'lines', '3', '0', 'both'])
  assert.is(both.stdout, 'line 1\nline 2\nline 3\n')
  assert.is(both.stderr, both.stdout)
  assert.is((await berth.run(['exec', 'e', 'probe', 'exit', '42'])).code, 42)
  const missing = await berth.run(['exec', 'e', 'nosuch'])
  assert.is(missing.code, 127)
  assert.match(missing.stderr, /nosuch/)
  assert.is((await berth.run(['exec', 'e', '/etc/passwd'])).code, 126)
  assert.match(await berth.ok(['exec', '-u', 'user', 'e', 'id']), /^uid=1000 gid=1000 groups=29/)
  assert.match(await berth.ok(['exec', '-u', '5:6', 'e', 'id']), /^uid=5 gid=6/)
  assert.is(await berth.ok(['exec', '-w', '/home', 'e', 'pwd']), '/home')
  const env = await berth.ok(['exec', '-e', 'B=exec', 'e', 'env'])
  assert.match(env, /^A=run$/m)
  assert.match(env, /^B=exec$/m)
  assert.match(await berth.ok(['exec', '-u', 'user', 'e', 'env']), /^HOME=\/home\/user$/m)
  await berth.refused(['exec', '-u', 'nosuch', 'e', 'id'], /nosuch/)
  await berth.refused(['exec', '-w', '/no/such', 'e', 'pwd'], /\/no\/such/)
  assert.is(await berth.ok(['exec', 'e', 'true']), '')
  await remove('e')
})

test('exec -t gives a terminal; -d leaves at once', async () => {
  await detached('e', 'hello', 'sleep')
  assert.match(
    (await berth.run(['exec', '-t', 'e', 'probe', 'is-tty'])).stdout,
    /stdin=yes stdout=yes stderr=yes/,
  )
  await berth.ok(['exec', '-d', 'e', 'probe', 'write-file', '/done', 'yes'])
  await eventually(
    'it has written',
    async () => (await berth.run(['exec', 'e', 'cat', '/done'])).stdout === 'yes',
  )
  await remove('e')
})

test('exec has the container’s namespaces, capabilities and filter', async () => {
  await detached('e', '--cap-drop', 'ALL', '--cap-add', 'KILL', 'hello', 'sleep')
  assert.match(await berth.ok(['exec', 'e', 'probe', 'caps']), /^bounding KILL\neffective KILL$/m)
  assert.match(await berth.ok(['exec', 'e', 'cat', '/proc/self/status']), /^Seccomp:\t2$/m)
  assert.match(await berth.ok(['exec', 'e', 'ps']), /^1 0 S sleep$/m)
  assert.is(
    await berth
      .ok(['exec', 'e', 'cat', '/proc/self/cgroup'])
      .then((t) => t.split('\n').find((l) => l.startsWith('0::'))),
    '0::/',
  )
  await remove('e')
})

test('exec in what does not run is refused', async () => {
  await berth.ok(['create', '--net', 'none', '--name', 'c', 'hello'])
  await berth.refused(['exec', 'c', 'true'], /cannot exec in container c: it is created/)
  await berth.refused(['exec', 'nosuch', 'true'], /no container "nosuch"/)
  await remove('c')
})

test('start -a, attach and stdin once', async () => {
  await berth.ok(['create', '-i', '--net', 'none', '--name', 's', 'hello', 'cat'])
  assert.is(await berth.ok(['start', '-a', '-i', 's'], { input: 'again' }), 'again')
  assert.is((await berth.run(['start', '-a', '-i', 's'], { input: 'twice' })).stdout, 'twice')
  await berth.ok(['start', 's'])
  assert.is(await berth.ok(['attach', 's'], { input: 'attached' }), 'attached')
  await remove('s')
})

test('stop, start, restart: the files stay, the exit code is told', async () => {
  await detached('r', '--init', 'hello', 'sleep')
  await berth.ok(['exec', 'r', 'probe', 'write-file', '/kept', 'x'])
  await berth.ok(['stop', 'r'])
  assert.is((await inspect('r')).State.ExitCode, 143)
  await berth.ok(['stop', 'r'])
  await berth.ok(['start', 'r'])
  await berth.ok(['start', 'r'])
  const { Pid } = (await inspect('r')).State
  await berth.ok(['restart', '-t', '1', 'r'])
  assert.is.not((await inspect('r')).State.Pid, Pid)
  assert.is(await berth.ok(['exec', 'r', 'cat', '/kept']), 'x')
  await remove('r')
})

test('kill sends the signal asked for; wait tells the code', async () => {
  await detached('k', '--init', 'hello', 'sleep')
  const waits = berth.ok(['wait', 'k'])
  await berth.ok(['kill', '-s', 'USR1', 'k'])
  assert.is(await waits, '138')
  assert.is(await berth.ok(['wait', 'k']), '138')
  await berth.refused(['kill', 'k'], /cannot kill container k: it is stopped/)
  await berth.refused(['kill', '-s', 'NOSUCH', 'k'], /NOSUCH/)
  await remove('k')
})

test('rm refuses what runs, takes it with -f, and tells each that it cannot', async () => {
  await detached('a', 'hello', 'sleep')
  await berth.refused(['rm', 'a'], /cannot remove container a: it is running/)
  await berth.ok(['create', '--net', 'none', '--name', 'b', 'hello'])
  const { code, stderr } = await berth.run(['rm', 'a', 'nosuch', 'b'])
  assert.is.not(code, 0)
  assert.match(stderr, /cannot remove container a/)
  assert.match(stderr, /nosuch/)
  assert.not.match(await berth.ok(['ps', '-a']), / b\s*$/m)
  await berth.ok(['rm', '-f', 'a'])
  await berth.ok(['rm', '-f', 'nosuch'])
})

test('rename takes effect everywhere, and a taken name is refused', async () => {
  await detached('old', 'hello', 'sleep')
  await berth.ok(['create', '--net', 'none', '--name', 'other', 'hello'])
  await berth.ok(['rename', 'old', 'new'])
  assert.is((await inspect('new')).Name, 'new')
  await berth.refused(['inspect', 'old'], /old/)
  await berth.refused(['rename', 'new', 'other'], /"other" is in use/)
  await berth.refused(['rename', 'new', '../x'], /name/)
  await remove('new', 'other')
})

test('pause and unpause freeze and thaw', async () => {
  await detached('p', 'hello', 'probe', 'lines', '1000000', '100')
  await berth.ok(['pause', 'p'])
  assert.is((await inspect('p')).State.Status, 'paused')
  await berth.refused(['pause', 'p'], /it is paused/)
  await berth.refused(['exec', 'p', 'true'], /it is paused/)
  assert.match(await berth.ok(['ps']), /\(Paused\)/)
  await berth.ok(['unpause', 'p'])
  await berth.refused(['unpause', 'p'], /it is running/)
  await berth.ok(['pause', 'p'])
  await berth.ok(['stop', '-t', '0', 'p'])
  assert.is((await inspect('p')).State.ExitCode, 137)
  await remove('p')
})

test('top and stats tell of the processes', async () => {
  await detached('t', 'hello', 'sleep')
  assert.match(await berth.ok(['top', 't']), /sleep/)
  const text = await berth.ok(['stats', '--no-stream', 't'])
  assert.match(text, /^[0-9a-f]{12}\s+t\s/m)
  const stats = JSON.parse(await berth.ok(['stats', '--no-stream', '--format', 'json', 't']))
  assert.is((Array.isArray(stats) ? stats[0] : stats).name, 't')
  await berth.ok(['stop', '-t', '0', 't'])
  await berth.refused(['top', 't'], /container t is not running/)
  await remove('t')
})

test('update changes the restart policy; a limit without controller is refused by name', async () => {
  await detached('u', '--restart', 'always', 'hello', 'sleep')
  await berth.ok(['update', '--restart', 'no', 'u'])
  assert.is((await inspect('u')).HostConfig.RestartPolicy.Name, 'no')
  process.kill((await inspect('u')).State.Pid, 'SIGKILL')
  assert.is(await berth.ok(['wait', 'u']), '137')
  await berth.ok(['start', 'u'])
  if (lacks('cgroup:memory'))
    await berth.refused(['update', '--memory', '64m', 'u'], /memory.*controller/)
  await berth.refused(['update', 'u'], /no limit to change/)
  await remove('u')
})

test("a user is looked up at each start, in the container's own files", async () => {
  const files = join(berth.directory, 'files')
  mkdirSync(files)
  const passwd = (uid: number) => `later:x:${uid}:${uid}::/home/later:/bin/false\n`
  const add = ['probe', 'append-file', '/etc/passwd', passwd(72).replace('later', 'first')]
  // The image's files are known from here on.
  await berth.ok(['run', '--rm', '--net', 'none', 'hello', 'true'])
  await berth.ok(['create', '--net', 'none', '--name', 'u', '-u', 'later', 'hello', 'id'])
  await berth.refused(['start', 'u'], /no user "later"/)
  for (const uid of [70, 71]) {
    writeFileSync(join(files, 'passwd'), passwd(uid))
    await berth.ok(['cp', join(files, 'passwd'), 'u:/etc/passwd'])
    assert.match(await berth.ok(['start', '-a', 'u']), new RegExp(`uid.*${uid}`))
  }
  await detached('v', 'hello', 'sleep')
  await berth.ok(['exec', 'v', ...add])
  assert.match(await berth.ok(['exec', '-u', 'first', 'v', 'id']), /uid.*72/)
  // Of another container of the image nothing has changed.
  await berth.refused(
    ['run', '--rm', '--net', 'none', '-u', 'later', 'hello', 'id'],
    /no user "later"/,
  )
  await remove('u', 'v')
})

test('diff tells what was added, changed and deleted', async () => {
  await detached('x', 'hello', 'sleep')
  await berth.ok(['exec', 'x', 'probe', 'write-file', '/home/added', 'x'])
  await berth.ok(['exec', 'x', 'probe', 'append-file', '/etc/group', 'x'])
  await berth.ok(['exec', 'x', 'probe', 'rm', '/etc/passwd'])
  const lines = (await berth.ok(['diff', 'x'])).split('\n')
  for (const line of ['A /home/added', 'C /etc/group', 'D /etc/passwd', 'C /home', 'C /etc']) {
    assert.ok(lines.includes(line), `${line} in ${lines.join(', ')}`)
  }
  await remove('x')
})

test('events tell what has happened, filtered, and what happens', async () => {
  const since = new Date().toISOString()
  const follow = berth.spawn(['events', '--format', 'json', '--filter', 'container=ev'])
  let seen = ''
  follow.stdout.on('data', (part: Buffer) => {
    seen += part.toString()
  })
  // It has no way to say that it watches: an event of its own is made until it is seen.
  await eventually('events are followed', async () => {
    await berth.ok(['create', '--net', 'none', '--name', 'ev', 'hello'])
    await remove('ev')
    return seen.includes('destroy')
  })
  await berth.run(['run', '--rm', '--net', 'none', '--name', 'ev', 'hello', 'probe', 'exit', '6'])
  await eventually('its death is told', () => /"die"/.test(seen) && seen.includes('"6"'))
  follow.kill('SIGINT')
  const past = await berth.ok([
    'events',
    '--since',
    since,
    '--until',
    new Date().toISOString(),
    '--filter',
    'event=start',
  ])
  assert.match(past, /start/)
  assert.not.match(past, /create/)
  // Though its container and the record of its end are gone.
  const dead = await berth.ok([
    ...['events', '--no-stream', '--since', since],
    ...['--filter', 'event=die', '--filter', 'container=ev'],
  ])
  assert.match(dead, /exitCode=6/)
})

test('info and version tell of this berth', async () => {
  assert.match(await berth.ok(['info']), new RegExp(join(berth.root)))
  assert.match(await berth.ok(['version']), /\d+\.\d+\.\d+/)
  JSON.parse(await berth.ok(['info', '--format', 'json']))
})

test('system prune takes stopped containers and leaves running ones', async () => {
  await detached('stay', 'hello', 'sleep')
  await berth.run(['run', '--net', 'none', '--name', 'go', 'hello', 'true'])
  await berth.ok(['system', 'prune', '-f'])
  assert.equal(
    JSON.parse(await berth.ok(['ps', '-a', '--format', 'json'])).map(
      (c: { name: string }) => c.name,
    ),
    ['stay'],
  )
  await remove('stay')
})

test('an ambiguous or unknown reference is refused', async () => {
  for (const command of [
    ['start'],
    ['stop'],
    ['kill'],
    ['rm'],
    ['inspect'],
    ['logs'],
    ['wait'],
    ['pause'],
    ['top'],
    ['diff'],
    ['attach'],
    ['stats', '--no-stream'],
    ['restart'],
  ]) {
    await berth.refused([...command, 'nosuch'], /nosuch/)
  }
})

test('nothing is left behind', nothingIsLeft)

test.run()
