/** A systemd that does not answer, or is not there: nobody waits for it longer than was said, and nothing is left of the asking. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Fault, type FaultCode } from '../../src/base/fault.ts'
import { holdScope, requireSystemd } from '../../src/cgroup/index.ts'
import { needs } from '../lib/needs.ts'
import { testDirectory, traces } from '../lib/traces.ts'

needs('root', 'cgroup2', 'program:unshare', 'program:systemd-run')

// The place of systemd's sockets is empty in a mount namespace of the file's own, which it runs in again.
const INSIDE = 'BERTH_TEST_WITHOUT_SYSTEMD'
const outside = process.env[INSIDE]
if (outside === undefined) {
  const script = `mount -t tmpfs none /run && exec ${process.execPath} ${fileURLToPath(import.meta.url)}`
  const { status } = spawnSync('unshare', ['--mount', 'sh', '-c', script], {
    env: { ...process.env, [INSIDE]: readlinkSync('/proc/self/ns/mnt') },
    stdio: 'inherit',
  })
  process.exit(status ?? 1)
}
assert.is.not(outside, readlinkSync('/proc/self/ns/mnt'))

const directory = testDirectory()
const clean = traces({ roots: [directory] })
const heldBy = join(directory, 'alive')
writeFileSync(heldBy, '')

const hold = (timeoutMs: number): Promise<void> =>
  holdScope({
    slice: 'berth-test.slice',
    unit: 'berth-x.scope',
    description: 'x',
    heldBy,
    timeoutMs,
  })

async function failsWith(act: Promise<void>, code: FaultCode, text: RegExp): Promise<number> {
  const begin = performance.now()
  const error = await act.then(
    () => undefined,
    (failed) => failed,
  )
  assert.instance(error, Fault)
  assert.is(error.code, code)
  assert.match(error.message, text)
  return performance.now() - begin
}

test('a machine that systemd does not run is refused by name', () => {
  assert.throws(requireSystemd, /needs a machine that systemd runs/)
  mkdirSync('/run/systemd/system', { recursive: true })
  requireSystemd()
})

test('a systemd that cannot be reached is tried again to the end of the time', async () => {
  const ms = await failsWith(
    hold(1000),
    'UNAVAILABLE',
    /has not made berth-x.scope in berth-test.slice: Failed to connect to bus/,
  )
  assert.ok(ms > 500 && ms < 5000, `${ms} ms`)
})

test('a systemd that says nothing is waited for as long as was said', async () => {
  const clients: Socket[] = []
  const server = createServer((client) => clients.push(client.on('error', () => {})))
  await new Promise<void>((resolve) => server.listen('/run/systemd/private', resolve))
  try {
    const ms = await failsWith(hold(1000), 'DEADLINE_EXCEEDED', /no answer within 1000 ms/)
    assert.ok(ms >= 990 && ms < 5000, `${ms} ms`)
    assert.is(clients.length, 1)
  } finally {
    for (const client of clients) client.destroy()
    await new Promise((resolve) => server.close(resolve))
  }
})

test('nothing is left of it', async () => {
  assert.equal(readdirSync(directory), ['alive'])
  rmSync(directory, { recursive: true })
  await clean()
})

test.run()
