/** What a service manager gives a service, handed on to the program: LISTEN_FDS and NOTIFY_SOCKET. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:python3')

const { oci, nothingIsLeft } = ociOfFile()

test("descriptors of LISTEN_FDS are the program's, before those of --preserve-fds; of another process they are not", () => {
  const show =
    'cat <&3; cat <&4; env | grep -c LISTEN_; echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES'
  const bundle = oci.bundle('listen', show)
  for (const name of ['three', 'four']) writeFileSync(join(bundle, name), `${name}\n`)
  const run = (variables: string, ...args: string[]) => {
    const script = `cd ${bundle}; export ${variables}; exec "$@" 3<three 4<four`
    const words = [...oci.command, 'run', '--bundle', bundle, ...args, 'listen']
    const stdio = ['ignore', 'pipe', 'pipe'] as ['ignore', 'pipe', 'pipe']
    return execFileSync('sh', ['-c', script, 'sh', ...words], { encoding: 'utf8', stdio })
  }
  const ours = 'LISTEN_PID=$$ LISTEN_FDNAMES=web'
  assert.is(run(`${ours} LISTEN_FDS=2`), 'three\nfour\n3\n2 1 web\n')
  assert.is(run(`${ours} LISTEN_FDS=1`, '--preserve-fds', '1'), 'three\nfour\n3\n1 1 web\n')
  assert.throws(() => run(`${ours} LISTEN_FDS=3`), /LISTEN_FDS=3: descriptor 5 is not open/)
  oci.configure(bundle, 'listen', 'ls /proc/self/fd; env | grep -c LISTEN_; true')
  assert.is(run('LISTEN_PID=1 LISTEN_FDS=2'), '0\n1\n2\n3\n0\n')
})

/** The container sees the host's python. */
const withPython: Patch = (spec) => {
  for (const path of ['/usr', '/lib', '/lib64']) {
    spec.mounts?.push({ destination: path, source: path, options: ['rbind', 'ro'] })
  }
}
const SAY = `import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for text in ['STATUS=waiting', 'READY=0', 'X=1\\nREADY=1']:
  s.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])
`
const HEAR = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
print(s.recv(4096).decode(), flush=True)
`

async function told(name: string, act: (env: NodeJS.ProcessEnv) => Promise<number>) {
  const path = join(oci.directory, `${name}.sock`)
  const listener = spawn('python3', ['-c', HEAR, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  listener.stdout.on('data', (data) => lines.push(String(data)))
  await eventually('it listens', () => lines.join('').startsWith('bound\n'))
  const ended = once(listener, 'exit')
  const pid = await act({ ...process.env, NOTIFY_SOCKET: path })
  await ended
  assert.is(lines.join(''), `bound\nREADY=1\nMAINPID=${pid}\n\n`)
}

test('start waits until the program is ready, and tells its caller', async () => {
  oci.bundle('ready', `python3 -c "${SAY}"; exec sleep 1000`, withPython)
  await told('ready', async (env) => {
    await oci.create('ready', [], [], env)
    await oci.ok(['start', 'ready'], { env })
    return JSON.parse(await oci.ok(['state', 'ready'])).pid
  })
  // It is the first process's: a further one is no service.
  assert.not.match(await oci.ok(['exec', 'ready', 'env']), /NOTIFY_SOCKET/)
  await oci.ok(['delete', '--force', 'ready'])
})

test('run tells of itself while it waits for the container', async () => {
  const bundle = oci.bundle('service', `python3 -c "${SAY}"; exit 3`, withPython)
  await told('service', async (env) => {
    const [node, ...words] = oci.command
    const child = spawn(node, [...words, 'run', '--bundle', bundle, 'service'], {
      env,
      stdio: 'inherit',
    })
    const [code] = await once(child, 'exit')
    assert.is(code, 3)
    return child.pid ?? 0
  })
})

test('a program that ends without a word holds nobody up', async () => {
  oci.bundle('mute', 'exit 0')
  const env = { ...process.env, NOTIFY_SOCKET: join(oci.directory, 'nobody') }
  await oci.create('mute', [], [], env)
  await oci.ok(['start', 'mute'], { env })
  await oci.ok(['delete', '--force', 'mute'])
})

test('nothing is left behind', nothingIsLeft)
test.run()
