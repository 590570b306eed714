/** native/front: what a daemon does and what is left to Node, with one result; callers and daemons that are hostile, gone, hung or of another kind. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readFileIfAny } from '../../src/base/file.ts'
import { within } from '../../src/base/within.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

process.env['BERTH_TEST_FRONT'] = 'daemon'
const { Front, frontOfFile } = await import('../lib/front.ts')
const { ociOfFile } = await import('../lib/oci.ts')
const { oci, nothingIsLeft } = ociOfFile()
const front = frontOfFile() as InstanceType<typeof Front>
const socket = join(front.state, 'front.sock')
const program = join(front.directory, 'berth-oci')

/** The same words once by the daemon and once by Node. */
function both(words: readonly string[], cwd = oci.directory, byNode = 1) {
  const run = (state: string) =>
    spawnSync(program, words, {
      cwd,
      encoding: 'utf8',
      env: { PATH: `${join(front.directory, 'bin')}:${process.env['PATH']}`, BERTH_STATE: state },
    })
  const result = (r: ReturnType<typeof run>) => ({
    code: r.status,
    out: r.stdout,
    err: r.stderr.replaceAll(/time="?[^ "]+"?|"time":"[^"]+"/g, 'TIME'),
  })
  const [daemon, node] = [result(run(front.state)), result(run('/nothing-there'))]
  const left = front.leftToNode()
  assert.is(left.length, byNode, `done by Node: ${left.join('; ')}`)
  assert.equal(daemon, node)
  return daemon
}

test('output, errors and exit codes are those of Node', async () => {
  oci.bundle('same', 'exit 7')
  const root = ['--root', oci.root]
  assert.is(both([...root, 'list']).code, 0)
  assert.is(both([]).code, 0)
  assert.is(both(['--version']).code, 0)
  assert.is(both(['create', '--help']).code, 0)
  assert.match(both([...root, 'state', 'nothing']).err, /container does not exist: nothing/)
  assert.match(both([...root, 'nonsense']).err, /unknown command/)
  assert.match(both([...root, 'kill', 'nothing', 'SIGNONE']).err, /unknown signal/)
  assert.is(both([...root, 'exec', 'nothing', 'true']).code, 255)
  assert.is(both([...root, 'delete', '--force', 'nothing']).code, 0)
  assert.match(
    both([...root, '--rootless=true', 'run', 'x']).err,
    /--rootless=true is not supported/,
  )
  assert.is(both([...root, 'run', '--bundle', 'same', 'same']).code, 7)
  // One after the other, of the same command: none has the options of the one before it.
  for (const words of [['--quiet'], [], ['--format', 'json'], ['--quiet'], []]) {
    assert.is(both([...root, 'list', ...words]).code, 0)
  }
  assert.is(both(['list', '--quiet']).code, 0)
  const log = join(oci.directory, 'both.log')
  both(['--log', 'both.log', '--log-format', 'json', ...root, 'start', 'nothing'])
  const lines = readFileSync(log, 'utf8').trim().split('\n')
  assert.is(lines.length, 2)
  for (const line of lines) {
    assert.is((JSON.parse(line) as { msg: string }).msg, 'container does not exist: nothing')
  }
  oci.bundle('alive', 'sleep 1000')
  await oci.create('alive')
  // Neither asks anybody (direct.test.ts).
  assert.is(both([...root, 'state', 'alive'], oci.directory, 0).code, 0)
  assert.is(both([...root, 'list', '--format', 'json']).code, 0)
  assert.is(both([...root, 'ps', '--format', 'json', 'alive']).code, 0)
  await oci.ok(['delete', '--force', 'alive'])
})

test('a hook gets all that is given to it, and its end is told as by Node', () => {
  const run = (id: string, script: string, env?: string[]) => {
    oci.bundle(id, 'true', (spec) => {
      spec.hooks = {
        createRuntime: [{ path: '/bin/sh', args: ['sh', '-c', script], ...(env && { env }) }],
      }
    })
    return both(['--root', oci.root, 'run', '--bundle', id, id])
  }
  const many = Array.from({ length: 3000 }, (_, i) => `V${i}=${i}`)
  assert.is(run('hook-env', 'test "$V2999" = 2999', many).code, 0)
  assert.match(run('hook-code', 'exit 137').err, /ended with 137/)
  assert.match(run('hook-signal', 'kill -KILL $$').err, /ended with signal 9/)
})

test('the container is a child of the caller: its parent, keyring, limits, umask and descriptors', async () => {
  const bundle = oci.bundle('child', 'ulimit -c; cat <&3; cat /proc/self/oom_score_adj')
  const script = `exec 3</etc/hostname; ulimit -c 5; umask 077; echo 77 >/proc/self/oom_score_adj
    "$0" "$@" run --preserve-fds 1 --pid-file pid --bundle . child`
  const out = execFileSync('sh', ['-c', script, ...oci.command], { cwd: bundle, encoding: 'utf8' })
  assert.is(out, `5\n${readFileSync('/etc/hostname', 'utf8')}77\n`)
  assert.is(statSync(join(bundle, 'pid')).mode & 0o777, 0o600)
  assert.equal(front.leftToNode(), [])
})

test('a signal goes on to the program, whose exit code is that of run', async () => {
  oci.bundle('signal', 'trap "exit 9" TERM; echo up; while :; do sleep 0.1; done')
  const [env, ...first] = oci.command
  const bundle = join(oci.directory, 'signal')
  const child = spawn(env, [...first, 'run', '--bundle', bundle, 'signal'], { stdio: 'pipe' })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  child.kill('SIGTERM')
  assert.is(await new Promise((resolve) => child.once('exit', resolve)), 9)
  assert.equal(front.leftToNode(), [])
})

test('a caller that is killed while it creates leaves nothing', async () => {
  const hook = { path: '/bin/sh', args: ['sh', '-c', 'echo $$ >hook.pid; exec sleep 1000'] }
  const bundle = oci.bundle('gone', 'true', (spec) => {
    spec.hooks = { createRuntime: [hook] }
  })
  const [env, ...first] = oci.command
  const child = spawn(env, [...first, 'create', '--bundle', bundle, 'gone'], { stdio: 'ignore' })
  await eventually('the hook runs', () => readFileIfAny(join(bundle, 'hook.pid')) !== undefined)
  child.kill('SIGKILL')
  await eventually('the container is gone', () => !existsSync(join(oci.root, 'gone')))
  assert.not.ok(existsSync(oci.cgroup('gone')))
  process.kill(Number(readFileSync(join(bundle, 'hook.pid'), 'utf8')), 'SIGKILL')
})

test('whoever sees the machine otherwise, or may do less, does the call himself', () => {
  const list = [...oci.command, 'list']
  for (const before of [
    ['unshare', '--mount'],
    ['unshare', '--net'],
    ['unshare', '--uts'],
    ['setpriv', '--bounding-set', '-sys_time'],
    ['setpriv', '--no-new-privs'],
    ['chroot', '/'],
  ]) {
    const [file = '', ...args] = [...before, ...list]
    execFileSync(file, args)
    assert.is(front.leftToNode().length, before[0] === 'chroot' ? 0 : 1, before.join(' '))
  }
  execFileSync(
    'sh',
    ['-c', '"$0" "$@" update --resources - nothing </dev/null || true', ...oci.command],
    { stdio: 'ignore' },
  )
  execFileSync(
    'sh',
    ['-c', '"$0" "$@" exec --process /dev/stdin nothing </dev/null || true', ...oci.command],
    { stdio: 'ignore' },
  )
  assert.is(front.leftToNode().length, 2)
})

/** A daemon that is none: what it says to a call. */
async function impostor(
  answer: (socket: Socket) => void,
  act: (state: string) => Promise<void>,
  isDeaf = false,
) {
  const state = join(front.directory, 'impostor')
  mkdirSync(state)
  const clients: Socket[] = []
  const server = createServer({ pauseOnConnect: isDeaf }, (client) => {
    clients.push(client)
    client.on('error', () => {})
    answer(client)
  })
  await new Promise<void>((resolve) => server.listen(join(state, 'front.sock'), resolve))
  try {
    await act(state)
  } finally {
    server.close()
    for (const client of clients) client.destroy()
    rmSync(state, { recursive: true })
  }
}

function list(
  state: string,
  more: Record<string, string> = {},
): Promise<{ code: number | null; stderr: string }> {
  const path = `${join(front.directory, 'bin')}:${process.env['PATH']}`
  const child = spawn(program, ['--root', oci.root, 'list'], {
    env: { PATH: path, BERTH_STATE: state, ...more },
  })
  let stderr = ''
  child.stderr.on('data', (bytes) => {
    stderr += String(bytes)
  })
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stderr })))
}

const frame = (type: string, payload = Buffer.alloc(0)): Buffer => {
  const head = Buffer.alloc(5)
  head.writeUInt32LE(payload.length)
  head.write(type, 4)
  return Buffer.concat([head, payload])
}

test('a daemon that hangs, is of another build or speaks nonsense costs no call', async () => {
  const answers: ((client: Socket) => void)[] = [
    () => {},
    (client) => client.destroy(),
    (client) => client.write(frame('z')),
    (client) => client.write(Buffer.alloc(64, 0xff)),
    (client) => client.write(frame('x', Buffer.alloc(4))),
  ]
  for (const answer of answers) {
    await impostor(answer, async (state) => {
      assert.equal(await list(state), { code: 0, stderr: '' })
      assert.is(front.leftToNode().length, 1)
    })
  }
})

test('a daemon that reads nothing of a call costs it nothing, however long it is', async () => {
  const long = { A: 'a'.repeat(128_000), B: 'b'.repeat(128_000) }
  const deaf = async (state: string): Promise<void> => {
    assert.equal(await within(20_000, list(state, long)), { code: 0, stderr: '' })
    assert.is(front.leftToNode().length, 1)
  }
  await impostor(() => {}, deaf, true)
})

test('a daemon that ends in the middle of a call is told, and nothing is done twice', async () => {
  const answer = (client: Socket): void => {
    client.once('data', () => {
      client.write(frame('r'))
      client.once('data', () => client.destroy())
    })
  }
  await impostor(answer, async (state) => {
    const { code, stderr } = await list(state)
    assert.is(code, 1)
    assert.match(stderr, /the daemon at .*front\.sock has ended while it did this/)
    assert.equal(front.leftToNode(), [])
  })
})

test('peers that say nothing, nonsense or too much hold up nobody', async () => {
  assert.is(statSync(socket).mode & 0o777, 0o600)
  const hostile = [
    Buffer.alloc(0),
    Buffer.from([0xff, 0xff, 0xff, 0xff, 0x63]),
    frame('c', Buffer.from('1\0')),
    frame('c', Buffer.alloc(200_000, 0x41)),
    frame('g'),
    Buffer.concat(Array.from({ length: 50 }, () => frame('s', Buffer.alloc(4)))),
  ]
  const peers = hostile.flatMap((bytes) =>
    Array.from({ length: 60 }, () => {
      const peer = connect(socket)
      peer.on('error', () => {})
      peer.write(bytes)
      return peer
    }),
  )
  // More than the daemon takes at once: the call is done in one way or the other.
  assert.equal(await list(front.state), { code: 0, stderr: '' })
  await eventually(
    'the daemon has let go of all',
    async () => {
      front.leftToNode()
      return (await list(front.state)).code === 0 && front.leftToNode().length === 0
    },
    { withinMs: 10_000 },
  )
  for (const peer of peers) peer.destroy()
})

test('calls at once, each with its own directory and output', async () => {
  const names = Array.from({ length: 12 }, (_, i) => `many-${i}`)
  for (const name of names) oci.bundle(name, `echo ${name}; exit ${name.slice(5)}`)
  const results = await Promise.all(
    names.map(
      (name) =>
        new Promise<string>((resolve) => {
          const [env, ...first] = oci.command
          const child = spawn(env, [...first, 'run', name], { cwd: join(oci.directory, name) })
          let out = ''
          for (const stream of [child.stdout, child.stderr]) {
            stream.on('data', (bytes) => {
              out += String(bytes)
            })
          }
          child.once('close', (code) => resolve(`${out.trim()} ${code}`))
        }),
    ),
  )
  assert.equal(
    results,
    names.map((name, i) => `${name} ${i}`),
  )
  assert.equal(
    readdirSync(oci.root).filter((name) => name.startsWith('many')),
    [],
  )
})

test('nothing is left behind', async () => {
  front.leftToNode()
  await nothingIsLeft()
})
test.run()
