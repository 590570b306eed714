/** berth-oci and berth-launch killed at every stage of a creation and a start: `delete --force` leaves nothing. */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'
import { processesOf } from '../lib/traces.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()

/** After a kill: whatever is there goes with one command, and the id can be used again. */
async function isClean(id: string): Promise<void> {
  await oci.ok(['delete', '--force', id])
  assert.not.ok(existsSync(join(oci.root, id)))
  assert.not.ok(existsSync(oci.cgroup(id)))
  assert.equal(
    readdirSync(oci.root).filter((name) => name.startsWith('.trash')),
    [],
  )
  await eventually('no process is left', () => processesOf([oci.directory]).length === 0)
}

/** A hook that kills its parent, or the parent of that. */
const killer = (depth: 'parent' | 'grandparent'): string => {
  const path = join(oci.directory, `kill-${depth}`)
  const parent = '$(awk "/^PPid/ { print \\$2 }" /proc/PID/status)'
  const step = `p=${parent.replace('PID', '$p')}; `
  writeFileSync(
    path,
    `#!/bin/sh\np=$$; ${step.repeat(depth === 'parent' ? 1 : 2)}kill -9 $p; sleep 0.2\n`,
    { mode: 0o755 },
  )
  return path
}

test('berth-oci killed while the hooks of the host run', async () => {
  for (const kind of ['prestart', 'createRuntime'] as const) {
    oci.bundle(kind, 'exec sleep 1000', (spec) => {
      spec.hooks = { [kind]: [{ path: killer('parent') }] }
    })
    await oci.create(kind)
    assert.is(await oci.status(kind), 'creating')
    await oci.refused(['start', kind], /not created/)
    await isClean(kind)
  }
})

test('the process killed while a createContainer hook runs in it', async () => {
  oci.bundle('inner', 'exec sleep 1000', (spec) => {
    spec.linux.namespaces = (spec.linux.namespaces ?? []).filter(({ type }) => type !== 'pid')
    spec.hooks = { createContainer: [{ path: killer('parent') }] }
  })
  const { code, stderr } = await oci.create('inner')
  assert.is(code, 1)
  assert.match(stderr, /killed while it was being made/)
  assert.not.ok(existsSync(join(oci.root, 'inner')))
  await isClean('inner')
})

test('the first process killed between create and start', async () => {
  oci.bundle('waiting', 'exec sleep 1000')
  const pidFile = join(oci.directory, 'waiting.pid')
  await oci.create('waiting', ['--pid-file', pidFile])
  process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL')
  await eventually('it is stopped', async () => (await oci.status('waiting')) === 'stopped')
  await oci.refused(['start', 'waiting'], /not created/)
  await isClean('waiting')
})

test('berth-oci killed after any time, in create, run, start and delete', async () => {
  oci.bundle('any', 'exec sleep 1000')
  const bundle = join(oci.directory, 'any')
  const killAfter = async (ms: number, args: readonly string[]) => {
    const [node, ...first] = oci.command
    const child = spawn(node, [...first, ...args], { stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await delay(ms)
    child.kill('SIGKILL')
    await ended
  }
  // How long one takes here, whatever else the machine does.
  const begin = performance.now()
  await oci.create('any')
  const whole = performance.now() - begin
  await oci.ok(['delete', '--force', 'any'])
  for (const part of [0.6, 0.8, 0.9, 1]) {
    await killAfter(whole * part, ['create', '--bundle', bundle, 'any'])
    await isClean('any')
  }
  for (const part of [0.9]) {
    await killAfter(whole * part, ['run', '--bundle', bundle, 'any'])
    await isClean('any')
  }
  for (const command of [['start'], ['delete', '--force']]) {
    await oci.create('any')
    await killAfter(whole * 0.7, [...command, 'any'])
    await isClean('any')
  }
})

test('a damaged record is told by its name, and nothing is taken away by guesses', async () => {
  oci.bundle('damaged', 'exec sleep 1000')
  const pidFile = join(oci.directory, 'damaged.pid')
  await oci.create('damaged', ['--pid-file', pidFile])
  const record = join(oci.root, 'damaged/record.json')
  const good = readFileSync(record, 'utf8')
  writeFileSync(record, good.slice(0, 20))
  await oci.refused(['delete', '--force', 'damaged'], /record\.json is damaged/)
  writeFileSync(record, good)
  await isClean('damaged')
})

test('nothing is left behind', nothingIsLeft)
test.run()
