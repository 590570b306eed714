/** berth-oci by itself: what an engine sees of a container's life. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:python3')

const { oci, nothingIsLeft } = ociOfFile()

interface State {
  readonly ociVersion: string
  readonly id: string
  readonly pid: number
  readonly status: string
  readonly bundle: string
  readonly annotations: Record<string, string>
}
const state = async (id: string): Promise<State> => JSON.parse(await oci.ok(['state', id])) as State

test('run gives the program the stdio and takes its exit code', async () => {
  oci.bundle('run', 'read line; echo "got $line"; echo bad >&2; exit 7')
  const args = ['run', '--bundle', join(oci.directory, 'run'), 'run']
  const { code, stdout, stderr } = await oci.run(args, { input: 'word\n' })
  assert.is(code, 7)
  assert.is(stdout, 'got word\n')
  assert.is(stderr, 'bad\n')
  assert.not.ok(existsSync(join(oci.root, 'run')))
  assert.not.ok(existsSync(oci.cgroup('run')))
})

test('create, start, kill and delete are one state after the other, and each only from the right one', async () => {
  const bundle = oci.bundle('life', 'echo begun; exec sleep 1000', (spec) => {
    spec.annotations = { 'org.example.key': 'value' }
  })
  assert.is((await oci.create('life', ['--pid-file', join(bundle, 'pid')])).code, 0)
  const created = await state('life')
  assert.is(created.status, 'created')
  assert.is(created.bundle, bundle)
  assert.equal(created.annotations, { 'org.example.key': 'value' })
  assert.is(readFileSync(join(bundle, 'pid'), 'utf8'), String(created.pid))
  assert.is(oci.output('life'), '', 'the program does not run yet')
  await oci.refused(['create', '--bundle', bundle, 'life'], /already exists/)
  await oci.refused(['resume', 'life'], /not paused/)

  // What the bundle says after the creation counts for nothing.
  oci.configure(bundle, 'life', 'echo changed')
  await oci.ok(['start', 'life'])
  assert.is(await oci.status('life'), 'running')
  await eventually('the program runs', () => oci.output('life') === 'begun\n')
  await oci.refused(['start', 'life'], /not created/)
  await oci.ok(['kill', 'life', '0'])
  await oci.refused(['delete', 'life'], /not stopped/)
  assert.is(await oci.status('life'), 'running', 'a refusal changes nothing')

  await oci.ok(['pause', 'life'])
  assert.is(await oci.status('life'), 'paused')
  await oci.refused(['exec', 'life', 'true'], /paused/)
  await oci.ok(['resume', 'life'])

  assert.equal(JSON.parse(await oci.ok(['ps', '--format', 'json', 'life'])), [created.pid])
  assert.match(await oci.ok(['list']), /^ID +PID +STATUS[^\n]*\nlife +\d+ +running/)
  await oci.ok(['kill', 'life', 'KILL'])
  await eventually('it is stopped', async () => (await oci.status('life')) === 'stopped')
  assert.is((await state('life')).pid, 0)
  await oci.refused(['kill', 'life', 'TERM'], /container not running/)
  await oci.ok(['delete', 'life'])
  await oci.refused(['state', 'life'], /does not exist/)
  await oci.refused(['delete', 'life'], /does not exist/)
  await oci.ok(['delete', '--force', 'life'])
  assert.not.ok(existsSync(oci.cgroup('life')))
})

test('kill KILL ends all of a container in a PID namespace that is not its own', async () => {
  oci.bundle('owner', 'exec sleep 1000')
  await oci.create('owner')
  await oci.ok(['start', 'owner'])
  const joined = `/proc/${(await state('owner')).pid}/ns/pid`
  for (const [id, path] of [
    ['guest', joined],
    ['host', undefined],
  ] as const) {
    oci.bundle(id, 'sleep 1000 & sleep 1000 & echo begun; wait', (spec) => {
      const { namespaces } = spec.linux as { namespaces: { type: string; path?: string }[] }
      const others = namespaces.filter(({ type }) => type !== 'pid')
      Object.assign(spec.linux, {
        namespaces: [...others, ...(path === undefined ? [] : [{ type: 'pid', path }])],
      })
    })
    await oci.create(id)
    await oci.ok(['start', id])
    await eventually('it has begun', () => oci.output(id) === 'begun\n')
    await oci.ok(['kill', id, 'KILL'])
    const events = join(oci.cgroup(id), 'cgroup.events')
    await eventually('all have ended', () => readFileSync(events, 'utf8').includes('populated 0'))
    assert.is(await oci.status('owner'), 'running')
    await oci.ok(['delete', id])
  }
  await oci.ok(['delete', '--force', 'owner'])
})

test('the process is handed to the subreaper above, which gets its exit status', async () => {
  oci.bundle('orphan', 'exit 23')
  const script = `
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
oci = sys.argv[1:]
subprocess.run(oci + ['create', '--bundle', '${join(oci.directory, 'orphan')}', '--pid-file', 'pid', 'orphan'], check=True)
pid = int(open('pid').read())
subprocess.run(oci + ['start', 'orphan'], check=True)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`
  const out = execFileSync('python3', ['-c', script, ...oci.command], {
    encoding: 'utf8',
    cwd: oci.directory,
  })
  assert.is(out, '23\n')
  await oci.ok(['delete', 'orphan'])
})

test('exec runs beside the program, with its own settings', async () => {
  const bundle = oci.bundle('exec', 'exec sleep 1000', (spec) => {
    Object.assign(spec.process, { env: ['PATH=/bin', 'A=1'] })
  })
  await oci.create('exec')
  await oci.ok(['start', 'exec'])
  const inside = (...args: string[]) => oci.run(['exec', ...args])
  assert.is((await inside('exec', 'sh', '-c', 'exit 9')).code, 9)
  assert.match(
    (
      await inside(
        '--cwd',
        '/bin',
        '-e',
        'B=2',
        '-u',
        '5:6',
        '-g',
        '7',
        'exec',
        'sh',
        '-c',
        'pwd; echo $A$B; id',
      )
    ).stdout,
    /^\/bin\n12\nuid=5 gid=6 groups=6?,?7/,
  )
  // As runc: 255 says that the runtime has failed, not the program.
  const missing = await inside('exec', 'nothing-there')
  assert.is(missing.code, 255)
  assert.match(missing.stderr, /executable file not found in \$PATH/)
  for (const user of ['1000:abc', '-1', '1:2:3', '4294967296', 'root']) {
    assert.match((await inside('-u', user, 'exec', 'true')).stderr, /--user|process\.user/)
  }
  // CVE-2022-29162: a capability that is added is not inheritable.
  const status = await inside('--cap', 'CAP_SYS_ADMIN', 'exec', 'cat', '/proc/self/status')
  assert.match(status.stdout, /CapInh:\t0000000000000000\nCapPrm:\t00000000202004/)

  const file = join(bundle, 'process.json')
  writeFileSync(
    file,
    JSON.stringify({
      user: { uid: 1, gid: 1 },
      args: ['sh', '-c', 'id -u; env'],
      cwd: '/',
      env: ['PATH=/bin', 'X=y'],
    }),
  )
  const { stdout } = await inside('--process', file, 'exec')
  assert.match(stdout, /^1\n/)
  assert.match(stdout, /^X=y$/m)
  assert.not.match(stdout, /^A=/m)
  // As a shell's `<(…)` gives it; one that never ends is no document.
  const piped = (writer: string, ...args: string[]) =>
    execFileSync('sh', ['-c', `${writer} | "$0" "$@" 2>&1 || true`, ...oci.command, ...args])
  for (const name of ['/dev/stdin', '/dev/fd/0', '/proc/self/fd/0']) {
    assert.match(String(piped(`cat ${file}`, 'exec', '--process', name, 'exec')), /^1\n/)
  }
  assert.match(
    String(piped('yes', 'exec', '--process', '/dev/stdin', 'exec')),
    /has more than \d+ bytes/,
  )
  assert.match(
    String(piped('yes', 'update', '--resources', '-', 'exec')),
    /has more than \d+ bytes/,
  )
  execFileSync('mkfifo', [join(bundle, 'fifo')])
  assert.match((await inside('--process', join(bundle, 'fifo'), 'exec')).stderr, /no regular file/)
  const pidFile = join(bundle, 'exec.pid')
  const out = join(bundle, 'detached')
  execFileSync('sh', [
    '-c',
    `"$0" "$@" exec --detach --pid-file "${pidFile}" exec sleep 500 >"${out}" 2>&1`,
    ...oci.command,
  ])
  const pid = Number(readFileSync(pidFile, 'utf8'))
  assert.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), /sleep.500/s)
  await oci.ok(['delete', '--force', 'exec'])
  assert.not.ok(existsSync(`/proc/${pid}/exe`))
})

test('a terminal is sent to the console socket, and serves a process in the foreground', async () => {
  const bundle = oci.bundle('tty', 'tty; read x; echo "<$x>"', (spec) => {
    Object.assign(spec.process, { terminal: true, consoleSize: { width: 99, height: 33 } })
  })
  await oci.refused(['create', '--bundle', bundle, 'tty'], /--console-socket/)
  const script = `
import array, fcntl, os, socket, struct, subprocess, sys, termios
server = socket.socket(socket.AF_UNIX); server.bind('console'); server.listen(1)
oci = sys.argv[1:]
subprocess.run(oci + ['create', '--bundle', '${bundle}', '--console-socket', 'console', 'tty'], check=True)
peer, _ = server.accept()
name, control, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(4))
master = array.array('i', control[0][2])[0]
print(struct.unpack('HHHH', fcntl.ioctl(master, termios.TIOCGWINSZ, b' ' * 8))[:2], name != b'')
subprocess.run(oci + ['start', 'tty'], check=True)
os.write(master, b'typed\\n')
text = b''
while b'>' not in text: text += os.read(master, 100)
print(text.decode().replace('\\r', ''))
`
  const out = execFileSync('python3', ['-c', script, ...oci.command], {
    encoding: 'utf8',
    cwd: oci.directory,
  })
  assert.match(out, /^\(33, 99\) True\n/)
  assert.match(out, /\/dev\/pts\/0\n/)
  assert.match(out, /<typed>/)
  await oci.ok(['delete', '--force', 'tty'])

  const words = [...oci.command, 'run', '--bundle', bundle, 'tty']
  const child = spawn('script', ['-qec', words.join(' '), '/dev/null'], { stdio: 'pipe' })
  let shown = ''
  child.stdout.on('data', (bytes: Buffer) => {
    shown += bytes.toString()
    if (shown.includes('pts/0') && !shown.includes('typed')) child.stdin.write('typed\n')
  })
  const code = await new Promise((resolve) => child.once('close', resolve))
  assert.is(code, 0, shown)
  assert.match(shown, /<typed>/)
})

test('signals that come to a run in the foreground go to the program', async () => {
  const bundle = oci.bundle(
    'signal',
    'trap "echo heard; exit 5" USR2; echo ready; while :; do sleep 0.05; done',
  )
  const [node, ...first] = oci.command
  const child = spawn(node, [...first, 'run', '--bundle', bundle, 'signal'], { stdio: 'pipe' })
  let shown = ''
  child.stdout.on('data', (bytes: Buffer) => {
    shown += bytes.toString()
    if (shown === 'ready\n') child.kill('SIGUSR2')
  })
  assert.is(await new Promise((resolve) => child.once('close', resolve)), 5)
  assert.is(shown, 'ready\nheard\n')
})

test("preserved descriptors are the program's, and no other of ours", async () => {
  const bundle = oci.bundle('fds', 'cat <&3; ls /proc/self/fd; echo LISTEN=$LISTEN_FDS')
  writeFileSync(join(bundle, 'three'), 'content of three\n')
  const run = (redirections: string, ...args: string[]) =>
    execFileSync(
      'sh',
      [
        '-c',
        `"$@" ${redirections}`,
        'sh',
        ...oci.command,
        'run',
        '--bundle',
        bundle,
        ...args,
        'fds',
      ],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
    )
  const redirections = `3<${join(bundle, 'three')} 4</dev/null`
  assert.is(run(redirections, '--preserve-fds', '1'), 'content of three\n0\n1\n2\n3\n4\nLISTEN=\n')
  oci.configure(bundle, 'fds', 'ls /proc/self/fd')
  // ls itself opens the last one.
  assert.is(run(redirections), '0\n1\n2\n3\n')
  // Where the caller has none, Node has one of its own.
  for (const given of [redirections, `4</dev/null`]) {
    assert.throws(() => run(given, '--preserve-fds', '3'), /descriptor [35] is not open/)
  }
})

test('a failed creation leaves nothing, and says why in the log', async () => {
  const bundle = oci.bundle('bad', 'true', (spec) => {
    spec.mounts = [{ destination: '/x', source: '/nowhere/at/all', options: ['bind'] }]
  })
  const log = join(oci.directory, 'log.json')
  const { code, stderr } = await oci.run([
    '--log',
    log,
    '--log-format',
    'json',
    'create',
    '--bundle',
    bundle,
    'bad',
  ])
  assert.is(code, 1)
  assert.match(stderr, /\/nowhere\/at\/all/)
  const last = JSON.parse(readFileSync(log, 'utf8').trim().split('\n').at(-1) ?? '') as Record<
    string,
    string
  >
  assert.is(last['level'], 'error')
  assert.match(last['msg'] ?? '', /\/nowhere\/at\/all/)
  assert.ok(!Number.isNaN(Date.parse(last['time'] ?? '')))
  assert.equal(
    readdirSync(oci.root).filter((name) => !name.startsWith('.')),
    [],
  )
  assert.not.ok(existsSync(oci.cgroup('bad')))
  for (const [args, message] of [
    [['--rootless=true', 'list'], /--rootless=true is not supported/],
    [['create', '--nonsense', 'x'], /unknown option/],
    [['create', '../x'], /invalid container id/],
  ] as const) {
    await oci.refused(args, message)
  }
})

test('a failure once the process is there ends the process, and nothing waits for it', async () => {
  const bundle = oci.bundle('late', 'exec sleep 1000')
  const pidFile = join(oci.directory, 'missing/pid')
  const args = ['--bundle', bundle, '--pid-file', pidFile, 'late']
  for (const command of [['run'], ['run', '--detach'], ['create']]) {
    await oci.refused([...command, ...args], /ENOENT.*missing/)
    assert.not.ok(existsSync(join(oci.root, 'late')))
    assert.not.ok(existsSync(oci.cgroup('late')))
  }
  await oci.create('late')
  await oci.ok(['start', 'late'])
  for (const more of [[], ['--detach']]) {
    await oci.refused(
      ['exec', ...more, '--pid-file', pidFile, 'late', 'sleep', '1000'],
      /ENOENT.*missing/,
    )
  }
  const { pid } = await state('late')
  await eventually('only the first process is left', async () => {
    return (await oci.ok(['ps', '--format', 'json', 'late'])) === `[${pid}]\n`
  })
  await oci.ok(['delete', '--force', 'late'])
})

test('two that create one id at once: one has it', async () => {
  oci.bundle('twice', 'exec sleep 1000')
  const codes = await Promise.all([oci.create('twice'), oci.create('twice')])
  assert.equal(codes.map(({ code }) => code).sort(), [0, 1])
  await oci.ok(['delete', '--force', 'twice'])
})

test('nothing is left behind', nothingIsLeft)
test.run()
