/** A file system of the host that answers nothing, as an NFS mount does whose server is gone: one container cannot have it, and nobody else notices. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  runContainer,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2', 'file:/dev/fuse', 'program:python3')

const UNAVAILABLE = 14

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })
const hung = join(daemon.berth.directory, 'hung')

/** Mounts FUSE and answers no request. One that it has read (`taken`) no signal ends. With its end the kernel answers all that wait, with an error. */
const HANG = `
import ctypes, os, select, struct, sys
fd = os.open('/dev/fuse', os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = 'fd=%d,rootmode=40000,user_id=0,group_id=0' % fd
if libc.mount(b'hung', sys.argv[1].encode(), b'fuse', 0, options.encode()): sys.exit(ctypes.get_errno())
print('mounted', flush=True)
while 0 not in select.select([0] + [fd] * (sys.argv[2] == 'taken'), [], [])[0]:
  _, opcode, unique = struct.unpack('=IIQ', os.read(fd, 1 << 17)[:16])
  print('opcode', opcode, flush=True)
  if opcode == 26: # FUSE_INIT
    os.write(fd, struct.pack('=IiQIIIIHHIIHHI7I', 80, 0, unique, 7, 31, 4096, 0, 9, 9, 4096, 1, 1, 0, 0, *[0] * 7))
libc.umount2(sys.argv[1].encode(), 2)
`

async function hang(requests: 'taken' | 'left' = 'left') {
  mkdirSync(hung, { recursive: true })
  const child = spawn('python3', ['-c', HANG, hung, requests], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.on('data', (part: Buffer) => {
    said += part.toString()
  })
  await eventually('the file system is mounted', () => said.includes('mounted'))
  return { child, said: () => said }
}

async function unhang(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.stdin?.end()
  await ended
}

const mounted = (hostPath: string) => ({
  containerPath: '/data',
  hostPath,
  readonly: false,
  propagation: 'PROPAGATION_PRIVATE' as const,
})

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

test('a container whose host_path hangs is not made, and other calls are answered meanwhile', async () => {
  const pod = await runPod(daemon)
  const { child } = await hang()
  try {
    const refused = failure(
      daemon.call('CreateContainer', {
        podSandboxId: pod.id,
        config: containerConfig(['/bin/probe', 'true'], { mounts: [mounted(join(hung, 'x'))] }),
      }),
    )
    const other = await runContainer(daemon, pod, ['/bin/probe', 'true'])
    assert.is((await exited(daemon, other)).exitCode, 0)
    const { code, text } = await refused
    assert.is(code, UNAVAILABLE)
    assert.match(text, /mounts\[0\]\.host_path: .*does not answer/)
  } finally {
    await unhang(child)
  }
})

/** The first process of such a container is made by its start, not before (src/pod/ahead.ts). */
const sharesProcesses = {
  linux: { securityContext: { namespaceOptions: { network: 'NODE', pid: 'POD', ipc: 'POD' } } },
} as const

test('a container that hangs while it is started can be stopped, with its pod', async () => {
  const pod = await runPod(daemon, sharesProcesses)
  const running = await runContainer(daemon, pod, ['/bin/probe', 'sleep', '600'])
  mkdirSync(hung, { recursive: true })
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config: containerConfig(['/bin/probe', 'true'], {
      mounts: [mounted(join(hung, 'x'))],
      ...sharesProcesses,
    }),
  })
  const { child } = await hang()
  try {
    const start = failure(daemon.call('StartContainer', { containerId }))
    await new Promise((resolve) => setTimeout(resolve, 500))
    await daemon.call(
      'StopContainer',
      { containerId: running, timeout: '5' },
      { deadlineMs: 15_000 },
    )
    await daemon.call('StopContainer', { containerId, timeout: '0' }, { deadlineMs: 15_000 })
    await start
    assert.is((await exited(daemon, containerId)).exitCode, 128)
    await daemon.call('RemovePodSandbox', { podSandboxId: pod.id }, { deadlineMs: 15_000 })
  } finally {
    await unhang(child)
  }
})

test('a first process that no signal ends while it is made: the next daemon starts, and the container is created', async () => {
  const pod = await runPod(daemon)
  const { child, said } = await hang('taken')
  let mark = ''
  try {
    const { containerId } = await daemon.call('CreateContainer', {
      podSandboxId: pod.id,
      config: containerConfig(['/bin/probe', 'true'], { mounts: [mounted(hung)] }),
    })
    const status = join(daemon.berth.state, 'pods', pod.id, 'status.json')
    const asks = () => /opcode 3/.test(said())
    await eventually('it hangs', () => {
      const known = JSON.parse(readFileSync(status, 'utf8')).containers[containerId]
      return known?.state === 'creating' && asks()
    })
    await daemon.end('SIGKILL')
    await daemon.start(40_000)
    assert.is((await statusOf(daemon, containerId)).state, 'CONTAINER_CREATED')
    const other = await runContainer(daemon, pod, ['/bin/probe', 'true'])
    assert.is((await exited(daemon, other)).exitCode, 0)
    const { root } = daemon.berth
    mark = join(root, 'pods', pod.id, 'containers', containerId, 'ahead.json')
    assert.ok(existsSync(mark))
  } finally {
    await unhang(child)
  }
  await eventually('it is taken back', () => !existsSync(mark))
})

test.after.each(async () => {
  const { items } = await daemon.call('ListPodSandbox').catch(() => ({ items: [] }))
  for (const { id } of items) await daemon.call('RemovePodSandbox', { podSandboxId: id })
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  await clean()
})

test.run()
