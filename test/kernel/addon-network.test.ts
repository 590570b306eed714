/** Acts in a network namespace that no process of the test is in, and telling the service manager. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isErrno } from '../../src/base/fault.ts'
import { binding } from '../../src/kernel/binding.ts'
import { connectInside, networkCounters, networkCountersOfAll } from '../../src/kernel/netns.ts'
import { eventually } from '../lib/eventually.ts'
import { MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:python3')

const bench = new MonitorBench()
const clean = traces({ roots: [bench.directory] })
const PORT = 4711

const monitor = await bench.monitor()
const { network = '' } = await monitor.holdNamespaces({
  namespaces: [{ type: 'network' }],
  sysctls: [],
  loopback: true,
})

/** Runs a program in the namespace. */
const inside = (...args: string[]) =>
  spawn('nsenter', [`--net=${network}`, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })

/** What a server in the namespace is asked and answers; it sends to the client's end, and closes. */
const SERVER = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], ${PORT}))
s.listen()
print('listening', flush=True)
c, _ = s.accept()
text = b''
while True:
    part = c.recv(65536)
    if not part: break
    text += part
c.sendall(b'got ' + str(len(text)).encode())
c.close()
`

async function exchange(host: string, bytes: number): Promise<string> {
  const server = inside('python3', '-c', SERVER, host)
  await once(server.stdout, 'data')
  const socket = await connectInside(network, { host, port: PORT, timeoutMs: 5000 })
  const parts: Buffer[] = []
  socket.on('data', (part: Buffer) => parts.push(part))
  const end = once(socket, 'end')
  socket.end(Buffer.alloc(bytes))
  await end
  await once(server, 'exit')
  return Buffer.concat(parts).toString()
}

for (const host of ['127.0.0.1', '::1']) {
  test(`a connection to ${host} of the namespace carries both ways, and each way ends by itself`, async () => {
    assert.is(await exchange(host, 1_000_000), 'got 1000000')
  })
}

test("the counters are the namespace's, and this process stays where it is", async () => {
  const before = (await networkCounters(network)).find(({ name }) => name === 'lo')
  assert.ok((before?.received.bytes ?? 0n) > 2_000_000n)
  await exchange('127.0.0.1', 1_000_000)
  const after = (await networkCounters(network)).find(({ name }) => name === 'lo')
  assert.ok((after?.received.bytes ?? 0n) - (before?.received.bytes ?? 0n) > 1_000_000n)
  assert.ok((after?.sent.packets ?? 0n) > (before?.sent.packets ?? 0n))
  await allAtHome()
})

test('many at once, and no thread stays there', async () => {
  const all = await Promise.all(Array.from({ length: 50 }, () => networkCounters(network)))
  for (const counters of all) assert.ok(counters.some(({ name }) => name === 'lo'))
  await allAtHome()
})

test('many namespaces are read one after the other, and what is none does not spoil the others', async () => {
  const [first, none, second] = await networkCountersOfAll([network, '/dev/null', network])
  for (const each of [first, second]) {
    if (!Array.isArray(each)) throw each
    assert.ok(each.some(({ name }) => name === 'lo'))
  }
  assert.ok(none instanceof Error && isErrno(none, 'EINVAL'))
  assert.equal(await networkCountersOfAll([]), [])
  await allAtHome()
})

for (const [what, act, code] of [
  ['a port where nobody listens', () => connectIn('127.0.0.1', 1), 'ECONNREFUSED'],
  ['an address without a route', () => connectIn('192.0.2.1', PORT), 'ENETUNREACH'],
  ['a path that is not there', () => binding.netnsStats('/no/such'), 'ENOENT'],
  ['a path that is no namespace', () => binding.netnsStats('/dev/null'), 'EINVAL'],
  ['another type of namespace', () => binding.netnsStats('/proc/self/ns/uts'), 'EINVAL'],
] as const) {
  test(`${what} is ${code}`, async () => {
    await rejects(act(), code)
  })
}

const connectIn = (host: string, port: number) =>
  connectInside(network, { host, port, timeoutMs: 5000 })

test('a connection that nobody answers ends after the time that was given', async () => {
  const busy = inside('python3', '-c', BUSY)
  await once(busy.stdout, 'data')
  const begin = performance.now()
  await rejects(
    connectInside(network, { host: '127.0.0.1', port: PORT, timeoutMs: 300 }),
    'ETIMEDOUT',
  )
  const took = performance.now() - begin
  assert.ok(took >= 290 && took < 3000, `${took}`)
  busy.kill('SIGKILL')
  await once(busy, 'exit')
})

for (const [what, host, port] of [
  ['a name', 'localhost', 1],
  ['a port of 17 bits', '127.0.0.1', 65536],
] as const) {
  test(`${what} for an address is a TypeError`, async () => {
    try {
      await connectIn(host, port)
      assert.unreachable()
    } catch (error) {
      assert.instance(error, TypeError)
    }
  })
}

for (const kind of ['path', 'abstract'] as const) {
  test(`a datagram reaches a service manager's socket by its ${kind}`, async () => {
    const name = kind === 'path' ? join(bench.directory, 'notify') : `@berth-test-${process.pid}`
    const reader = spawn('python3', ['-c', READER, name], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(reader.stdout, 'data')
    let text = ''
    reader.stdout.on('data', (part: Buffer) => {
      text += part
    })
    binding.notifySocket(name, 'READY=1\nSTATUS=é')
    await once(reader, 'exit')
    assert.is(text.trim(), 'READY=1\nSTATUS=é')
    await rejects((async () => binding.notifySocket(name, 'x'))(), 'ECONNREFUSED')
  })
}

for (const [what, name, code] of [
  ['a socket that is not there', '/no/such', 'ENOENT'],
  ['a name that is too long', `/${'x'.repeat(200)}`, 'ENAMETOOLONG'],
] as const) {
  test(`${what} is ${code}`, () => rejects((async () => binding.notifySocket(name, 'x'))(), code))
}

test('a relative path is a TypeError', () => {
  for (const name of ['run/x', ''])
    assert.throws(() => binding.notifySocket(name, 'x'), /path must be absolute/)
})

/** The thread that was away ends when its result has been told, a moment after. */
async function allAtHome(): Promise<void> {
  await eventually('no thread is in the namespace', () =>
    readdirSync('/proc/self/task').every((task) => netnsOf(task) !== readlinkSync(network)),
  )
}

function netnsOf(task: string): string {
  try {
    return readlinkSync(`/proc/self/task/${task}/ns/net`)
  } catch {
    return 'it has ended'
  }
}

async function rejects(promise: Promise<unknown>, code: string): Promise<void> {
  try {
    await promise
  } catch (error) {
    assert.is((error as NodeJS.ErrnoException).code, code)
    return
  }
  assert.unreachable(`did not fail with ${code}`)
}

test('nothing is left behind', async () => {
  await bench.end()
  await clean()
})

/** A server that takes no connection, and so many clients that the kernel answers no further one. */
const BUSY = `
import socket, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', ${PORT}))
s.listen(0)
clients = [socket.socket() for _ in range(4)]
for c in clients:
    c.setblocking(False)
    c.connect_ex(('127.0.0.1', ${PORT}))
print('full', flush=True)
time.sleep(1000)
`
const READER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('bound', flush=True)
sys.stdout.buffer.write(s.recv(4096))
`

test.run()
