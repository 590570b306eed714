/** A seccomp filter with SCMP_ACT_NOTIFY: its listener goes to listenerPath, and who has it answers for the program. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:python3')

const { oci, nothingIsLeft } = ociOfFile()

/** Takes one listener, prints what came with it, and answers one call with the errno 77 (linux/seccomp.h). */
const AGENT = `
import array, fcntl, json, socket, struct, sys
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen(1)
print("ready", flush=True)
peer, _ = server.accept()
text, control, _, _ = peer.recvmsg(65536, socket.CMSG_SPACE(16))
fds = array.array('i', control[0][2])
print(text.decode(), flush=True)
request = bytearray(80)
fcntl.ioctl(fds[0], 0xc0502100, request)
id, = struct.unpack_from('Q', request)
fcntl.ioctl(fds[0], 0xc0182101, bytearray(struct.pack('QqiI', id, 0, -77, 0)))
`

for (const noNewPrivileges of [true, false]) {
  test(`the listener is handed on and its answers hold (noNewPrivileges ${noNewPrivileges})`, async () => {
    const id = `notify-${noNewPrivileges}`
    const socket = join(oci.directory, `${id}.socket`)
    const agent = spawn('python3', ['-c', AGENT, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    agent.stdout.on('data', (bytes: Buffer) => {
      said += bytes.toString()
    })
    await once(agent.stdout, 'data')
    const bundle = oci.bundle(id, 'mkdir /made; echo code $?', (spec) => {
      spec.annotations = { a: 'b' }
      Object.assign(spec.process, { noNewPrivileges })
      spec.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        listenerPath: socket,
        listenerMetadata: 'data of ours',
        syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_NOTIFY' }],
      }
    })
    const ended = once(agent, 'close')
    const { stdout, stderr } = await oci.run(['run', '--bundle', bundle, id])
    assert.match(stdout, /code 1/, stderr)
    assert.match(stderr, /mkdir.*(bad state|errno 77|File descriptor)/i)
    await ended
    const [, line = ''] = said.split('\n')
    const state = JSON.parse(line) as {
      fds: string[]
      pid: number
      metadata: string
      state: { id: string; status: string }
    }
    assert.equal(state.fds, ['seccompFd'])
    assert.type(state.pid, 'number')
    assert.is(state.metadata, 'data of ours')
    assert.is(state.state.id, id)
    assert.is(state.state.status, 'creating')
  })
}

test('nobody at listenerPath ends the creation', async () => {
  const bundle = oci.bundle('alone', 'true', (spec) => {
    spec.linux.seccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      listenerPath: join(oci.directory, 'nobody'),
      syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }],
    }
  })
  await oci.refused(['create', '--bundle', bundle, 'alone'], /listenerPath .*nobody/)
})

test('nothing is left behind', nothingIsLeft)
test.run()
