/** Every kernel call of berth-oci's creation and start fails, or berth-oci is killed before it: it is told, and `delete --force` leaves nothing. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../src/base/fault.ts'
import { binding } from '../../src/kernel/binding.ts'
import { ownCaller } from '../../src/kernel/caller.ts'
import { createContainer } from '../../src/oci/create.ts'
import { deleteContainer } from '../../src/oci/delete.ts'
import { placeOf } from '../../src/oci/record.ts'
import { startAndTell } from '../../src/oci/start.ts'
import { eventually } from '../lib/eventually.ts'
import { faultyMonitor, withFault } from '../lib/faults.ts'
import { REPOSITORY } from '../lib/images.ts'
import { needs } from '../lib/needs.ts'
import { creation, ociOfFile } from '../lib/oci.ts'
import { processesOf } from '../lib/traces.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:g++')

const CALLS_MAX = 2000
/** All calls have had their turn when so many in a row make no difference. */
const UNTOUCHED = 20
/** Kills of one command: a process has to be started for each. */
const KILLS = 6

const { oci, nothingIsLeft } = ociOfFile()
const ID = 'x'
const bundle = oci.bundle(ID, 'exec sleep 1000', (spec) => {
  // What is in a container at all is swept in kernel/init-faults.
  spec.mounts = (spec.mounts ?? []).filter(({ destination }) => destination === '/proc')
  Object.assign(spec.linux, { maskedPaths: [], readonlyPaths: [] })
  spec.hooks = { createRuntime: [{ path: '/bin/true' }], poststart: [{ path: '/bin/true' }] }
})
const place = placeOf(oci.root, ID)
const warn = (): void => {}

async function life(): Promise<void> {
  const { launch } = await createContainer(creation(oci.root, bundle, ID))
  await launch.close()
  await startAndTell(ownCaller(), place, { notify: undefined, warn })
}

const remove = (): Promise<void> =>
  deleteContainer(ownCaller(), oci.root, place, { force: true, warn })

async function isGone(said: string): Promise<void> {
  assert.equal(
    existsSync(oci.root) ? readdirSync(oci.root).filter((name) => name !== '.seccomp') : [],
    [],
    said,
  )
  assert.not(existsSync(oci.cgroup(ID)), said)
  await eventually(`${said}: no process is left`, () => processesOf([oci.directory]).length === 0)
}

/** Each n has its turn; says how many made a difference. */
async function sweep(attempt: (n: number) => Promise<boolean>): Promise<number> {
  let failures = 0
  for (let n = 1, untouched = 0; untouched < UNTOUCHED; n++) {
    assert.ok(n < CALLS_MAX)
    if (await attempt(n)) untouched++
    else {
      untouched = 0
      failures++
    }
  }
  return failures
}

test('the nth call of berth-oci fails, for every n', async () => {
  const failures = await sweep(async (n) => {
    const { failed, error } = await withFault(n, life)
    const said = `call ${n}, ${failed}`
    if (error !== undefined) assert.match(describe(error), /\w/, said)
    await remove()
    await isGone(said)
    return error === undefined
  })
  assert.ok(failures > 30, String(failures))
})

test('the nth call on the way into the container fails, for every n', async () => {
  const directory = join(oci.directory, 'faulty')
  mkdirSync(directory)
  const { program, nth } = faultyMonitor(directory, 'launch')
  const { spawn: real } = binding
  const ofLaunch = ({ file, args }: { file: string | number; args: readonly string[] }) =>
    args[0] === 'berth-launch' ? program : file
  binding.spawn = (given) => real({ ...given, file: ofLaunch(given) })
  try {
    const failures = await sweep(async (n) => {
      writeFileSync(nth, String(n))
      const error = await life().catch((reason: unknown) => reason)
      const said = `call ${n}: ${error === undefined ? '' : describe(error)}`
      if (error !== undefined) assert.match(said, /Input\/output error/)
      await remove()
      await isGone(said)
      return error === undefined
    })
    assert.ok(failures > 50, String(failures))
  } finally {
    binding.spawn = real
  }
})

test('berth-oci is killed before its nth call, in create, start and delete', async () => {
  const work = (n: number, act: string): Promise<string> => {
    const program = join(REPOSITORY, 'dist/test/lib/oci-work.js')
    const words = [program, oci.root, bundle, ID, String(n), act]
    const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
      // The container has the other end of it, too.
      child.stdout.destroy()
    })
    return new Promise((resolve) => child.once('exit', () => resolve(text)))
  }
  for (const act of ['create', 'start', 'delete']) {
    const prepare = async (): Promise<void> => {
      if (act === 'create') return
      const { launch } = await createContainer(creation(oci.root, bundle, ID))
      await launch.close()
    }
    await prepare()
    const calls = Number(await work(0, act))
    assert.ok(calls > KILLS, `${act}: ${calls}`)
    await remove()
    for (let i = 0; i < KILLS; i++) {
      const n = 1 + Math.floor((i * calls) / KILLS)
      await prepare()
      await work(n, act)
      await remove()
      await isGone(`${act} killed at call ${n} of ${calls}`)
    }
  }
})

test('nothing is left behind', nothingIsLeft)
test.run()
