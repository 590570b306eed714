/** A container that may write to the host's directory of logs (a hostPath of it is common) puts links there for berth, which writes as root. */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CriDaemon,
  containerConfig,
  exited,
  failure,
  logLines,
  runPod,
  statusOf,
} from '../lib/cri.ts'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { traces } from '../lib/traces.ts'

needs('root', 'overlay', 'cgroup2')

const daemon = new CriDaemon()
const clean = traces({ roots: [daemon.berth.directory] })
const { directory } = daemon.berth
/** What the attacker wants to be written to. */
const precious = join(directory, 'precious')
mkdirSync(precious)

/** What is in the way of the log is put there before the container is made: from then on it may be open. */
async function created(
  logPath: string,
  command: string[],
  {
    logDirectory,
    before = () => {},
  }: { logDirectory?: string; before?: (logs: string) => void } = {},
) {
  const pod = await runPod(daemon, logDirectory === undefined ? {} : { logDirectory })
  const logs = String(pod.config.logDirectory)
  before(logs)
  const config = containerConfig(command, { logPath })
  const { containerId } = await daemon.call('CreateContainer', {
    podSandboxId: pod.id,
    config,
    sandboxConfig: pod.config,
  })
  return { containerId, logs }
}

test('the daemon starts', async () => {
  await daemon.loadHello()
  await daemon.start()
})

for (const [what, depth] of [
  ['the directory of the log', 'a'],
  ['a directory above it', 'a/b'],
] as const) {
  test(`${what} is a link: nothing is written where it leads`, async () => {
    const { containerId } = await created(`${depth}/0.log`, ['probe', 'echo', 'x'], {
      before: (logs) => symlinkSync(precious, join(logs, 'a')),
    })
    const { text } = await failure(daemon.call('StartContainer', { containerId }))
    assert.match(text, /log/)
    assert.equal(readdirSync(precious), [])
  })
}

test('the log itself is a link', async () => {
  const victim = join(precious, 'victim')
  writeFileSync(victim, '')
  const { containerId } = await created('a/0.log', ['probe', 'echo', 'x'], {
    before: (logs) => {
      mkdirSync(join(logs, 'a'))
      symlinkSync(victim, join(logs, 'a/0.log'))
    },
  })
  await failure(daemon.call('StartContainer', { containerId }))
  assert.equal(logLines(victim), [])
  rmSync(victim)
})

test("the pod's directory itself is a link", async () => {
  const logDirectory = join(directory, 'moved')
  const { containerId } = await created('0.log', ['probe', 'echo', 'x'], {
    logDirectory: `${logDirectory}/`,
    before: () => {
      rmSync(logDirectory, { recursive: true })
      symlinkSync(precious, logDirectory)
    },
  })
  const { text } = await failure(daemon.call('StartContainer', { containerId }))
  assert.match(text, /log/)
  assert.equal(readdirSync(precious), [])
})

test('the log is a fifo: nobody opens it', async () => {
  const fifo = join(directory, 'fifo')
  execFileSync('mkfifo', [fifo])
  // Where a writer comes and goes, its reader is told of the end; not before.
  const reader = new Socket({ fd: openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK) })
  let wasOpened = false
  reader.on('end', () => {
    wasOpened = true
  })
  reader.resume()
  try {
    const { containerId } = await created('0.log', ['probe', 'echo', 'x'], {
      before: (logs) => linkSync(fifo, join(logs, '0.log')),
    })
    const { text } = await failure(daemon.call('StartContainer', { containerId }))
    assert.match(text, /log.*Invalid argument/)
    await delay(100)
    assert.not.ok(wasOpened)
    closeSync(openSync(fifo, 'w'))
    await eventually('its reader would have been told', () => wasOpened)
  } finally {
    reader.destroy()
  }
})

test('the log is a device: it is not opened, which alone may start a watchdog or rewind a tape', async () => {
  // No driver has this number (devices.txt keeps it for local use): the opening of it would be ENXIO, and EACCES where there are no devices.
  const { containerId } = await created('0.log', ['probe', 'echo', 'x'], {
    before: (logs) => execFileSync('mknod', [join(logs, '0.log'), 'c', '60', '0']),
  })
  const { text } = await failure(daemon.call('StartContainer', { containerId }))
  assert.match(text, /log.*Invalid argument/)
})

test('a link that comes later, before the log is opened anew: the old one is written on', async () => {
  const { containerId, logs } = await created('a/0.log', ['probe', 'lines', '1000000', '10'])
  await daemon.call('StartContainer', { containerId })
  const { logPath } = await statusOf(daemon, containerId)
  assert.is(logPath, join(logs, 'a/0.log'))
  renameSync(join(logs, 'a'), join(logs, 'old'))
  symlinkSync(precious, join(logs, 'a'))
  await failure(daemon.call('ReopenContainerLog', { containerId }))
  const had = logLines(join(logs, 'old/0.log')).length
  await eventually('it goes on', () => logLines(join(logs, 'old/0.log')).length > had)
  assert.equal(readdirSync(precious), [])
})

test("a link above the pod's directory is the kubelet's own", async () => {
  const real = join(directory, 'disk')
  mkdirSync(real)
  symlinkSync(real, join(directory, 'linked'))
  const logDirectory = join(directory, 'linked/pod')
  const { containerId } = await created('a//./0.log', ['probe', 'echo', 'x'], {
    logDirectory: `${logDirectory}/`,
  })
  await daemon.call('StartContainer', { containerId })
  await exited(daemon, containerId)
  assert.is((await statusOf(daemon, containerId)).logPath, join(logDirectory, 'a/0.log'))
  assert.equal(logLines(join(real, 'pod/a/0.log')), ['x'])
})

test('nothing is left behind', async () => {
  await daemon.destroy()
  assert.not(existsSync(directory))
  await clean()
})

test.run()
