/** Whatever is sent to a monitor's control socket, by root alone: its containers go on. */
import { readFileSync, statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { connectMonitor } from '../../src/container/monitor.ts'
import { encodeFrame } from '../../src/wire/frame.ts'
import { FRAME } from '../../src/wire/tags.ts'
import { eventually } from '../lib/eventually.ts'
import { MonitorBench } from '../lib/monitor.ts'
import { needs } from '../lib/needs.ts'

needs('root', 'cgroup2', 'program:busybox')

const CONNECTS = 10_000
const AT_ONCE = 1000
const ROUNDS = 300
/** 88 KiB where nobody has asked for anything. */
const OWN_KIB_MAX = 512

const bench = new MonitorBench()
const { monitor } = await bench.run(
  'victim',
  'i=0; while read x; do i=$((i+1)); echo $i; done; exit 9',
  {
    io: { stdin: true, stdinOnce: false, log: 'cri', logPath: bench.logPath('victim') },
  },
)
const { monitor: pid } = await monitor.status()

function dial(): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path: join(monitor.directory, 'ctl') })
    socket.on('error', () => resolve(undefined))
    socket.once('connect', () => resolve(socket))
  })
}

async function lives(): Promise<void> {
  const client = await connectMonitor(monitor.directory)
  const status = await client.status()
  assert.is(status.monitor, pid)
  assert.is(status.containers['victim']?.state, 'running')
  client.close()
}

/** The same numbers every time. */
function* numbers(seed: number): Generator<number> {
  let x = seed
  for (;;) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    yield x >>> 8
  }
}

test('nobody but root may connect', () => {
  assert.is(statSync(join(monitor.directory, 'ctl')).mode & 0o777, 0o600)
})

test(`${CONNECTS} connects, ${AT_ONCE} at once, cost nothing that stays`, async () => {
  for (let done = 0; done < CONNECTS; done += AT_ONCE) {
    const sockets = await Promise.all(Array.from({ length: AT_ONCE }, dial))
    for (const socket of sockets) socket?.destroy()
  }
  await eventually('it answers', async () => {
    await lives()
    return true
  })
  await eventually('it is small again', () => ownKib() <= OWN_KIB_MAX)
})

test('clients that stay and say nothing keep nobody out for ever', async () => {
  const silent = await Promise.all(Array.from({ length: 600 }, dial))
  await Promise.all([monitor.status(), monitor.status()])
  for (const socket of silent) socket?.destroy()
  await eventually('there is room again', async () => {
    await lives()
    return true
  })
})

test('frames of random bytes, of every type, cut anywhere', async () => {
  const random = numbers(1)
  const next = (below: number): number => (random.next().value as number) % below
  const types = Object.values(FRAME).filter((type) => type < 128 && type !== FRAME.stdin)
  for (let i = 0; i < ROUNDS; i++) {
    const payload = Buffer.from(Array.from({ length: next(200) }, () => next(256)))
    const head = Buffer.alloc(5)
    head.writeUInt32LE(payload.length + (i % 3 === 0 ? next(1000) : 0))
    head.writeUInt8(i % 5 === 0 ? next(256) : (types[next(types.length)] ?? 0), 4)
    const bytes = Buffer.concat([head, payload])
    const socket = await dial()
    socket?.write(bytes.subarray(0, i % 4 === 0 ? next(bytes.length) : bytes.length))
    if (i % 2 === 0) socket?.end()
    await new Promise((resolve) => setImmediate(resolve))
    socket?.destroy()
  }
  await lives()
})

test('requests with damaged fields are refused one by one', async () => {
  const random = numbers(2)
  const next = (below: number): number => (random.next().value as number) % below
  for (let i = 0; i < ROUNDS; i++) {
    // A field of `tag, zero, length, bytes` that lies somewhere.
    const field = Buffer.alloc(8 + next(40))
    field.writeUInt16LE(100 + next(80), 0)
    field.writeUInt16LE(i % 7 === 0 ? next(65536) : 0, 2)
    field.writeUInt32LE(i % 3 === 0 ? next(2 ** 24) * 256 : field.length - 8, 4)
    const frame = encodeFrame('exec', Buffer.concat([field, field]))
    frame.writeUInt8(1 + next(12), 4)
    if (frame.readUInt8(4) === FRAME.quit) continue
    const socket = await dial()
    socket?.write(frame)
    await new Promise((resolve) => setImmediate(resolve))
    socket?.destroy()
  }
  await lives()
})

test('lengths beyond every limit end the connection at once, and nothing is kept for them', async () => {
  for (const length of [0xffff_ffff, 0x7fff_ffff, 64 * 1024 * 1024, 1024 * 1024 + 1]) {
    const socket = await dial()
    const head = Buffer.alloc(5)
    head.writeUInt32LE(length)
    head.writeUInt8(FRAME.exec, 4)
    const closed = new Promise((resolve) => socket?.once('close', resolve))
    socket?.resume()
    socket?.write(head)
    await closed
  }
  assert.ok(ownKib() <= OWN_KIB_MAX)
  await lives()
})

test('half a frame of the greatest length from many clients is bounded, and given back', async () => {
  const head = Buffer.alloc(5 + 500_000)
  head.writeUInt32LE(1024 * 1024)
  head.writeUInt8(FRAME.exec, 4)
  const sockets = await Promise.all(Array.from({ length: 20 }, dial))
  await Promise.all(sockets.map((socket) => new Promise((resolve) => socket?.write(head, resolve))))
  await lives()
  for (const socket of sockets) socket?.destroy()
  await eventually('it is small again', () => ownKib() <= OWN_KIB_MAX)
})

test('its container has noticed nothing', async () => {
  const client = await connectMonitor(monitor.directory)
  const session = await client.attach('victim', { stdin: true })
  const exit = client.wait('victim')
  await session.write(Buffer.from('a\nb\nc\n'))
  await eventually('it has answered', () => bench.log('victim').length === 3)
  assert.equal(
    bench.log('victim').map(([, , text]) => text),
    ['1', '2', '3'],
  )
  await client.signal('victim', { signal: 9 })
  assert.is((await exit).code, 137)
  client.close()
})

test('everything is taken away', () => bench.end())

/** Without the pages of its program, of which it has the more the fewer other monitors there are. */
function ownKib(): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const [, kib] = /^Pss_Anon:\s+(\d+) kB/m.exec(text) ?? []
  return Number(kib)
}

test.run()
