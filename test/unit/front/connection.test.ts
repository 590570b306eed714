/** The daemon's end of a front's connection, with a caller that reads nothing, or late. */
import { mkdtempSync, openSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FrontConnection } from '../../../src/front/connection.ts'
import { RemoteCaller } from '../../../src/front/remote-caller.ts'
import { binding } from '../../../src/kernel/binding.ts'
import { Fd } from '../../../src/kernel/fd.ts'

const CALL = {
  build: '',
  program: 'berth',
  directory: '/',
  umask: 0o022,
  terminals: 0,
  rows: 0,
  columns: 0,
  args: [],
  env: {},
}

/** Both ends, the caller's not read yet. */
async function withPair(
  use: (connection: FrontConnection, caller: Socket) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'berth-front-'))
  using place = new Fd(openSync(directory, 'r'))
  using listener = new Fd(binding.listenUnix(place.number, 'socket'))
  const caller = connect(join(directory, 'socket'))
  caller.pause()
  const connection = new FrontConnection((await binding.acceptUnix(listener.number)).fd)
  try {
    await use(connection, caller)
  } finally {
    connection.close()
    caller.destroy()
    rmSync(directory, { recursive: true })
  }
}

const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length

test('a caller that does not read is tried again by one timer, whatever waits for it', async () => {
  await withPair(async (connection) => {
    const before = timers()
    for (let i = 0; i < 100; i++) connection.send('write', Buffer.alloc(64 * 1024, 1))
    assert.is(timers(), before + 1)
    await delay(50)
    assert.ok(timers() <= before + 1)
  })
})

test('what is put is with the caller before the end of the command is', async () => {
  await withPair(async (connection, caller) => {
    const remote = new RemoteCaller(connection, process.pid, CALL)
    connection.onFrame((name, payload) => remote.take(name, payload))
    await remote.stdio.flushed()
    remote.stdio.put('stdout', 'a')
    remote.stdio.put('stderr', 'b')
    let isFlushed = false
    const flushed = remote.stdio.flushed().then(() => {
      isFlushed = true
    })
    const answer = Buffer.from([4, 0, 0, 0, 'a'.charCodeAt(0), 0, 0, 0, 0])
    caller.write(answer)
    await delay(50)
    assert.not.ok(isFlushed, 'the second is not written yet')
    caller.write(answer)
    await flushed
    remote.stdio.put('stdout', 'c')
    caller.destroy()
    await remote.stdio.flushed()
  })
})

test.run()
