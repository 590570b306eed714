import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable as WritableStream } from 'node:stream'
import { Writable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Log } from '../../../src/cri/log.ts'
import { ServiceManager, takeNotifyEnvironment } from '../../../src/cri/notify.ts'
import { binding } from '../../../src/kernel/binding.ts'
import { eventually } from '../../lib/eventually.ts'

const lines: string[] = []
const log = Log.to(
  new Writable({
    write(chunk, _, done) {
      lines.push(String(chunk))
      done()
    },
  }),
  { level: 'debug', format: 'text' },
)

/** Binds, says so, and prints each datagram as a JSON line; with `paused` it begins to read when a line comes in. */
const LISTENER = `
import json, socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print('"bound"', flush=True)
if sys.argv[2] == 'paused': sys.stdin.readline()
while True: print(json.dumps(s.recv(65536).decode()), flush=True)
`

class Listener {
  readonly messages: string[] = []
  readonly #child: ChildProcessByStdio<WritableStream, Readable, null>

  constructor(name: string, mode: 'reads' | 'paused' = 'reads') {
    this.#child = spawn('python3', ['-c', LISTENER, name, mode], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    createInterface({ input: this.#child.stdout }).on('line', (line) =>
      this.messages.push(JSON.parse(line)),
    )
  }

  async bound(): Promise<this> {
    await eventually('it listens', () => this.messages[0] === 'bound')
    this.messages.shift()
    return this
  }

  resume(): void {
    this.#child.stdin.write('\n')
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
  }
}

let directory = ''
test.before.each(() => {
  directory = mkdtempSync(join(tmpdir(), 'berth-notify-'))
  lines.length = 0
})
test.after.each(() => rmSync(directory, { recursive: true }))

test('ready, reload and end, as sd_notify(3) has them', async () => {
  const socket = join(directory, 'notify')
  using listener = await new Listener(socket).bound()
  const manager = new ServiceManager({ socket, watchdogMs: undefined }, log)
  await manager.ready('3 pods')
  await manager.reloading()
  await manager.ready('good\nMAINPID=1')
  await manager.stopping()
  await eventually('all are there', () => listener.messages.length === 4)
  const [first, second, third, last] = listener.messages
  assert.is(first, 'READY=1\nSTATUS=3 pods')
  const [, microseconds = ''] = /^RELOADING=1\nMONOTONIC_USEC=(\d+)$/.exec(second ?? '') ?? []
  const now = Number(process.hrtime.bigint() / 1000n)
  assert.ok(now - Number(microseconds) >= 0 && now - Number(microseconds) < 60_000_000)
  assert.is(third, 'READY=1\nSTATUS=good MAINPID=1')
  assert.is(last, 'STOPPING=1')
  assert.equal(lines, [])
})

test('an abstract socket', async () => {
  const socket = `@berth-notify-${process.pid}`
  using listener = await new Listener(socket).bound()
  await new ServiceManager({ socket, watchdogMs: undefined }, log).status('x')
  await eventually('it is there', () => listener.messages[0] === 'STATUS=x')
})

test('a service manager that is busy is told a little later', async () => {
  const socket = join(directory, 'notify')
  using listener = await new Listener(socket, 'paused').bound()
  const manager = new ServiceManager({ socket, watchdogMs: undefined }, log)
  const fill = () => {
    for (;;) binding.notifySocket(socket, 'fill')
  }
  assert.throws(fill, /EAGAIN/)
  const told = manager.ready('late')
  await wait(100)
  listener.resume()
  await told
  await eventually('it is there', () => listener.messages.at(-1) === 'READY=1\nSTATUS=late')
})

test('a service manager that is gone is a warning, no failure; without one nothing is sent', async () => {
  await new ServiceManager({ socket: join(directory, 'none'), watchdogMs: undefined }, log).ready(
    '',
  )
  assert.match(lines[0] ?? '', /cannot be told.*ENOENT/)
  await new ServiceManager({ socket: undefined, watchdogMs: 10 }, log).ready('')
  await new ServiceManager({ socket: 'vsock:2:1', watchdogMs: 10 }, log).ready('')
  assert.is(lines.length, 2)
  assert.match(lines[1] ?? '', /no unix socket/)
})

test('signs of life come while the check succeeds, and stop when it fails, hangs or is slow', async () => {
  const socket = join(directory, 'notify')
  using listener = await new Listener(socket).bound()
  const manager = new ServiceManager({ socket, watchdogMs: 200 }, log)
  let check = async (): Promise<void> => {}
  manager.startWatchdog(() => check())
  await eventually('it lives', () => listener.messages.length >= 3)
  assert.equal([...new Set(listener.messages)], ['WATCHDOG=1'])

  check = async () => {
    throw new Error('the socket does not answer')
  }
  await eventually('the failure is told', () => lines.some((l) => l.includes('does not answer')))
  await silent(listener)

  check = () => wait(150)
  await eventually('slowness is told', () => lines.some((l) => l.includes('too slow')))
  await silent(listener)

  check = async () => {}
  const before = listener.messages.length
  await eventually('it lives again', () => listener.messages.length > before)

  check = () => new Promise(() => {})
  await eventually('hanging is told', () => lines.some((l) => l.includes('has not ended')))
  await silent(listener)
  manager.stopWatchdog()
})

/** No sign of life for longer than the service manager waits. */
async function silent(listener: Listener): Promise<void> {
  await wait(50)
  const before = listener.messages.length
  await wait(300)
  assert.is(listener.messages.length, before)
}

test('the variables are taken out, and a watchdog of another process is not ours', () => {
  const environment = { NOTIFY_SOCKET: '/n', WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7', A: 'b' }
  assert.equal(takeNotifyEnvironment({ ...environment }, 8), {
    socket: '/n',
    watchdogMs: undefined,
  })
  assert.equal(takeNotifyEnvironment(environment, 7), { socket: '/n', watchdogMs: 60_000 })
  assert.equal(environment, { A: 'b' } as never)
  assert.equal(takeNotifyEnvironment({ NOTIFY_SOCKET: '', WATCHDOG_USEC: '-1' }, 7), {
    socket: undefined,
    watchdogMs: undefined,
  })
})

test('a path that no socket can have is refused', () => {
  for (const path of ['', `/${'a'.repeat(107)}`, `@${'a'.repeat(108)}`, '/a\0b']) {
    assert.throws(() => binding.notifySocket(path, 'x'), /path must be|ENAMETOOLONG/)
  }
  assert.throws(() => binding.notifySocket(`/tmp/${'a'.repeat(102)}`, 'x'), /ENOENT/)
})

test.run()
