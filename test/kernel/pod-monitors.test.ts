/** The spare monitor of a daemon, when what is around it goes wrong: the daemon goes on, and nothing is lost. */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isMonitorAlive, Monitor } from '../../src/container/monitor.ts'
import { newId } from '../../src/engine/record.ts'
import { Monitors } from '../../src/pod/monitors.ts'
import { podPaths } from '../../src/pod/paths.ts'
import { eventually } from '../lib/eventually.ts'
import { lives } from '../lib/lives.ts'
import { needs } from '../lib/needs.ts'
import { processesOf, testDirectory, traces } from '../lib/traces.ts'

needs('root', 'cgroup2')

const directory = testDirectory()
const clean = traces({ roots: [directory] })
const roots = { root: join(directory, 'root'), state: join(directory, 'state') }
const at = podPaths(roots)
for (const path of [at.live, at.pods]) mkdirSync(path, { recursive: true, mode: 0o700 })
let warnings: string[] = []
const monitors = new Monitors(roots, (text) => warnings.push(text))

/** The id of the one that comes next. */
const waiting = (): Promise<string> =>
  eventually('a monitor waits', () => {
    const id = monitors.nextId('holding')
    return existsSync(at.spare(id)) && id
  })

const pidOf = (place: string): number =>
  JSON.parse(readFileSync(join(place, 'status.json'), 'utf8')).monitor

/** What rm -r does not take: a mount below the directory. */
function withMount<T>(place: string, act: () => T | Promise<T>): Promise<T> {
  const path = join(place, 'mount')
  mkdirSync(path, { recursive: true })
  assert.is(spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', path]).status, 0)
  return Promise.resolve()
    .then(act)
    .finally(() => {
      spawnSync('umount', [path])
      rmSync(place, { recursive: true })
    })
}

/** Has a pod come and go; its monitor's pid. */
async function ended(id: string): Promise<number> {
  using monitor = await monitors.take(id, 'holding').monitor
  const { monitor: pid } = await monitor.status()
  await monitor.quit()
  await eventually('it ends', () => !isMonitorAlive(at.monitor(id)))
  for (const path of [at.monitor(id), at.pod(id)]) rmSync(path, { recursive: true, force: true })
  return pid
}

test.before.each(() => {
  warnings = []
})

test('what one before has left and cannot be removed is told, and the rest removed', async () => {
  const bad = at.spare('a-bad-one')
  const other = at.spare('b-other')
  await withMount(bad, () => {
    mkdirSync(other)
    monitors.recover()
    assert.not(existsSync(other))
    assert.is(warnings.length, 1)
    assert.match(warnings.join(), /cannot remove.*EBUSY/)
  })
})

test('where its directory cannot become the pod’s, it waits on', async () => {
  monitors.recover()
  monitors.keepSpare()
  const id = await waiting()
  const pid = pidOf(at.spare(id))
  rmSync(at.live, { recursive: true })
  assert.throws(() => monitors.take(id, 'holding'), /ENOENT/)
  assert.is(monitors.nextId('holding'), id)
  mkdirSync(at.live, { mode: 0o700 })
  assert.is(await ended(id), pid)
})

test('one that was killed a moment ago is no pod’s: it has another', async () => {
  const id = await waiting()
  process.kill(pidOf(at.spare(id)), 'SIGKILL')
  // Nothing else happens here meanwhile: its connection does not tell.
  while (isMonitorAlive(at.spare(id)));
  assert.is(monitors.nextId('holding'), id)
  await ended(id)
  assert.is.not(await waiting(), id)
})

test('what a killed one leaves and cannot be removed is told, and ends nothing', async () => {
  const id = await waiting()
  await withMount(at.spare(id), async () => {
    process.kill(pidOf(at.spare(id)), 'SIGKILL')
    await eventually('it is told', () => warnings.length > 0)
    assert.match(warnings.join(), /cannot remove.*EBUSY/)
  })
  await ended(newId())
  await waiting()
})

test('where somebody has removed the directory of spares, the next pod has a monitor, and another waits again', async () => {
  const id = await waiting()
  rmSync(at.spares, { recursive: true })
  await ended(monitors.nextId('holding'))
  assert.is.not(await waiting(), id)
  assert.is(statSync(at.spares).mode & 0o777, 0o700)
  assert.equal(warnings, [])
})

test('where none can be started, that is told once, and pods have their own', async () => {
  await waiting()
  rmSync(at.spares, { recursive: true })
  writeFileSync(at.spares, '')
  const told = () => warnings.filter((text) => /no monitor waits/.test(text)).length
  await ended(monitors.nextId('holding'))
  await eventually('it is told', () => told() === 1)
  await ended(monitors.nextId('holding'))
  await delay(200)
  assert.equal(warnings.length, 1)
  rmSync(at.spares)
  await ended(monitors.nextId('holding'))
  await waiting()
})

test('without room for its files none waits, nor runs, and pods make their own', async () => {
  const waits = await waiting()
  rmSync(at.spareRoot, { recursive: true })
  writeFileSync(at.spareRoot, '')
  const told = () => warnings.filter((text) => /no monitor waits.*ENOTDIR/.test(text)).length
  await ended(waits)
  await eventually('it is told', () => told() === 1)
  assert.equal(readdirSync(at.spares), [])
  assert.equal(processesOf([directory]), [])
  await ended(monitors.nextId('holding'))
  rmSync(at.spareRoot)
  await ended(monitors.nextId('holding'))
  await waiting()
  assert.is(told(), 1)
})

test('one that hangs before it waits: the next pod has its own, and the end waits no longer for it than for others', async () => {
  const id = await waiting()
  const hold = Monitor.prototype.holdNamespaces
  let hanging = 0
  Monitor.prototype.holdNamespaces = async function (...asked) {
    hanging = (await this.status()).monitor
    process.kill(hanging, 'SIGSTOP')
    return hold.apply(this, asked)
  }
  try {
    await ended(id)
    await eventually('the next one hangs', () => hanging > 0)
    await ended(monitors.nextId('holding'))
    await monitors.end()
    await eventually('it is killed', () => !lives(hanging))
  } finally {
    Monitor.prototype.holdNamespaces = hold
  }
})

test('nothing is left behind', async () => {
  await monitors.end()
  rmSync(directory, { recursive: true })
  await clean()
})

test.run()
