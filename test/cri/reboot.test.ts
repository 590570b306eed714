/** The power goes while pods run and more are being made; the machine boots again with the same disk. In User Mode Linux, whatever machine this is. */
import { execFileSync } from 'node:child_process'
import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { findMachine, runInMachine } from '../../scripts/vm.ts'
import { needs } from '../lib/needs.ts'
import { type After, type Before, MARK } from '../lib/reboot-guest.ts'
import { testDirectory } from '../lib/traces.ts'

needs('program:mkfs.ext4')

const machine = findMachine()
if (!machine) {
  process.stdout.write('# skipped (setup): needs User Mode Linux\n')
  process.exit(0)
}

const DISK_BYTES = 512 * 2 ** 20
const BOOT_MS = 120_000
const directory = testDirectory()
const disk = join(directory, 'disk')

/** What the guest has told before its machine ended. */
async function boot<T>(...args: string[]): Promise<T> {
  const command = [process.execPath, 'dist/test/lib/reboot-guest.js', ...args]
  const options = { limitMs: BOOT_MS, show: false, disk }
  const { output } = await runInMachine(machine as NonNullable<typeof machine>, command, options)
  const line = output.split('\n').find((each) => each.startsWith(MARK))
  assert.ok(line, output)
  return JSON.parse(line.slice(MARK.length)) as T
}

let before: Before
let after: After

test('the power goes, and the machine boots again', async () => {
  writeFileSync(disk, '')
  truncateSync(disk, DISK_BYTES)
  execFileSync('mkfs.ext4', ['-q', disk])
  before = await boot<Before>('before')
  after = await boot<After>('after', JSON.stringify(before))
})

test('no pod is ready, and none is lost but those that were just being made', () => {
  assert.is(after.pods[before.ready], 'SANDBOX_NOTREADY')
  assert.is(after.pods[before.stopped], 'SANDBOX_NOTREADY')
  for (const state of Object.values(after.pods)) assert.is(state, 'SANDBOX_NOTREADY')
})

test('what ran is ended for that reason; what had ended is what it was', () => {
  const of = (id: string) => {
    const { state, exitCode, reason } = after.containers[id] ?? {}
    return [state, exitCode, reason]
  }
  assert.equal(of(before.running), ['CONTAINER_EXITED', 255, 'Unknown'])
  assert.equal(of(before.limited), ['CONTAINER_EXITED', 255, 'Unknown'])
  assert.match(after.containers[before.running]?.message ?? '', /machine was restarted/)
  assert.equal(of(before.exited), ['CONTAINER_EXITED', 7, 'Error'])
  assert.equal(of(before.killed), ['CONTAINER_EXITED', 137, 'OOMKilled'])
  assert.equal(of(before.created), ['CONTAINER_CREATED', 0, ''])
  for (const { state } of Object.values(after.containers)) assert.is.not(state, 'CONTAINER_RUNNING')
})

test('logs are there, and so are limits, before or after their last change', () => {
  assert.ok(after.log.includes('ready'), after.log.join('\n'))
  assert.ok([64, 96].map((mib) => String(mib * 2 ** 20)).includes(after.memoryLimit))
})

test('no record is damaged, also of what was being made', () => {
  assert.ok(after.cutOff > 0, 'the power went too early to tell')
  assert.equal(after.damage, [])
})

test('in a pod of the boot before nothing starts; the next attempt of it runs', () => {
  assert.match(after.refusal, /not ready/)
  assert.equal(after.again, { pod: 'SANDBOX_READY', output: ['again'] })
})

test('everything can be removed, and nothing of it is left', () => {
  assert.equal(after.left, [])
  rmSync(directory, { recursive: true })
})

test.run()
