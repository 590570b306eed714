/** A creation without a mount namespace that fails or is killed anywhere, and a delete: of its mounts, which are the host's, none is left, and no other has changed. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import { binding } from '../../src/kernel/binding.ts'
import { ownCaller } from '../../src/kernel/caller.ts'
import { createContainer } from '../../src/oci/create.ts'
import { deleteContainer } from '../../src/oci/delete.ts'
import { placeOf } from '../../src/oci/record.ts'
import { eventually } from '../lib/eventually.ts'
import { faultyMonitor } from '../lib/faults.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { creation, ociOfFile, type Patch } from '../lib/oci.ts'
import { processesOf } from '../lib/traces.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:g++')

const { oci, nothingIsLeft } = ociOfFile()
const STAY = 'exec sleep 1000'

const shared: Patch = (spec) => {
  spec.linux.namespaces = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'mount')
  // What is in a container at all is swept in kernel/init-faults.
  spec.mounts = (spec.mounts ?? []).filter(({ destination }) => destination === '/proc')
  Object.assign(spec.linux, { maskedPaths: [], readonlyPaths: ['/proc/sys'] })
}

/** The host's mounts: by number and place what is told of each. */
function mounts(): Map<string, string> {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n')
  // A number is another mount's when that is gone.
  return new Map(lines.map((line) => [line.split(' ').slice(0, 5).join(' '), line]))
}

const ofFile = (): string[] =>
  [...mounts().values()].filter((line) => line.split(' ')[4]?.startsWith(oci.directory))

/** Each that was there before and still is, is as it was. */
function isUntouched(before: Map<string, string>): void {
  const now = mounts()
  for (const [id, line] of before) assert.is(now.get(id) ?? line, line)
}

const rest = (): string[] =>
  existsSync(oci.root) ? readdirSync(oci.root).filter((name) => name !== '.seccomp') : []

test('the nth call on the way into the container fails, for every n, and the host is as before', async () => {
  const bundle = oci.bundle('x', STAY, shared)
  const directory = join(oci.directory, 'faulty')
  mkdirSync(directory)
  const { program, nth } = faultyMonitor(directory, 'launch')
  const { spawn: real } = binding
  binding.spawn = (given) =>
    real({ ...given, file: given.args[0] === 'berth-launch' ? program : given.file })
  const before = mounts()
  let failures = 0
  try {
    for (let n = 1, untouched = 0; untouched < 20; n++) {
      assert.ok(n < 2000)
      writeFileSync(nth, String(n))
      const error = await createContainer(creation(oci.root, bundle, 'x')).then(
        ({ launch }) => launch.close(),
        (reason: unknown) => reason,
      )
      const said = `call ${n}: ${error === undefined ? '' : describe(error)}`
      if (error === undefined) {
        untouched++
        await deleteContainer(ownCaller(), oci.root, placeOf(oci.root, 'x'), {
          force: true,
          warn: () => {},
        })
      } else {
        untouched = 0
        failures++
      }
      assert.equal(rest(), [], said)
      assert.equal(ofFile(), [], said)
      isUntouched(before)
    }
  } finally {
    binding.spawn = real
  }
  assert.ok(failures > 50, String(failures))
})

test('berth-oci killed at any call or time of a creation, and of a delete: the next delete leaves nothing', async () => {
  const before = mounts()
  const bundle = oci.bundle('k', STAY, shared)
  const work = (n: number, act: string): Promise<number> => {
    const program = join(REPOSITORY, 'dist/test/lib/oci-work.js')
    const child = spawn(process.execPath, [program, oci.root, bundle, 'k', String(n), act], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
      child.stdout.destroy()
    })
    return new Promise((resolve) => child.once('exit', () => resolve(Number(text))))
  }
  const clean = async (said: string): Promise<void> => {
    await oci.ok(['delete', '--force', 'k'])
    assert.equal(rest(), [], said)
    assert.equal(ofFile(), [], said)
    await eventually(said, () => processesOf([oci.directory]).length === 0)
    isUntouched(before)
  }
  for (const act of ['create', 'delete']) {
    if (act === 'delete') await work(0, 'create')
    const calls = await work(0, act)
    assert.ok(calls > 10, `${act}: ${calls}`)
    await clean(act)
    for (let n = calls; n > 0; n -= act === 'delete' ? 5 : 14) {
      if (act === 'delete') await work(0, 'create')
      await work(n, act)
      await clean(`${act} killed at call ${n} of ${calls}`)
    }
  }
  for (let ms = 0; ms < 20; ms += 5) {
    const [node, ...first] = oci.command
    const child = spawn(node, [...first, 'create', '--bundle', bundle, 'k'], { stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await eventually('it has begun', () => existsSync(join(oci.root, 'k/record.json')), {
      everyMs: 1,
    })
    await delay(ms)
    child.kill('SIGKILL')
    await ended
    await clean(`killed ${ms} ms after its record`)
  }
})

test('nothing is left behind', nothingIsLeft)
test.run()
