/** Every kernel call of a command that native/front does itself fails, or is its last: it is told or done otherwise, and `delete --force` leaves nothing. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ownCaller } from '../../src/kernel/caller.ts'
import { createContainer } from '../../src/oci/create.ts'
import { deleteContainer } from '../../src/oci/delete.ts'
import { placeOf } from '../../src/oci/record.ts'
import { eventually } from '../lib/eventually.ts'
import type { Front } from '../lib/front.ts'
import { needs } from '../lib/needs.ts'
import { creation } from '../lib/oci.ts'
import { processesOf } from '../lib/traces.ts'

needs('root', 'cgroup2', 'program:busybox', 'program:strace')

process.env['BERTH_TEST_FRONT'] = 'alone'
const { frontOfFile } = await import('../lib/front.ts')
const { ociOfFile } = await import('../lib/oci.ts')
const { oci, nothingIsLeft } = ociOfFile()
const front = frontOfFile() as Front
const ID = 'x'
const bundle = oci.bundle(ID, 'exec sleep 1000')
const place = placeOf(oci.root, ID)

/** Of each kind of call that these commands make. */
const CALLS = {
  start: 'openat flock newfstatat read socket connect sendto recvfrom unlinkat',
  delete:
    'openat flock newfstatat read getdents64 pidfd_open pidfd_send_signal write poll rmdir mkdirat renameat unlinkat',
}
const ORDINAL_MAX = 12

async function make(): Promise<void> {
  const { launch } = await createContainer(creation(oci.root, bundle, ID))
  await launch.close()
}

/** Runs the command with the nth call of the kind failing, or killed at it; undefined where it has made fewer. */
function withFault(words: readonly string[], call: string, fault: string, n: number) {
  const inject = `inject=${call}:${fault}:when=${n}`
  const args = ['-qq', '-e', inject, '-e', `trace=${call}`, '-o', join(oci.directory, 'calls')]
  const { status, stderr } = spawnSync(
    'strace',
    [...args, join(front.directory, 'berth-oci'), '--root', oci.root, ...words],
    {
      encoding: 'utf8',
      env: { PATH: `${join(front.directory, 'bin')}:${process.env['PATH']}`, BERTH_STATE: '/none' },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  return { status, stderr }
}

/** How many calls of each kind the command makes where nothing fails. */
function countCalls(words: readonly string[], call: string): number {
  const { stdout } = spawnSync(
    'sh',
    [
      '-c',
      `strace -qq -e trace=${call} -o "$0" "$@" && grep -c '^${call}(' "$0"`,
      join(oci.directory, 'calls'),
      ...[join(front.directory, 'berth-oci'), '--root', oci.root, ...words],
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  )
  return Math.min(Number(stdout), ORDINAL_MAX)
}

for (const command of ['start', 'delete'] as const) {
  const words = command === 'delete' ? ['delete', '--force', ID] : ['start', ID]
  test(`${command}: each of its calls fails, or is its last`, async () => {
    let faults = 0
    for (const call of CALLS[command].split(' ')) {
      await make()
      const count = countCalls(words, call)
      await deleteContainer(ownCaller(), oci.root, place, { force: true, warn: () => {} })
      for (const fault of ['error=EIO', 'signal=KILL']) {
        for (let n = 1; n <= count; n++) {
          await make()
          const { status, stderr } = withFault(words, call, fault, n)
          const said = `${call} ${n} ${fault}`
          if (fault === 'error=EIO' && status !== 0) assert.match(stderr, /msg=/, said)
          await deleteContainer(ownCaller(), oci.root, place, { force: true, warn: () => {} })
          assert.equal(readdirSync(oci.root), [], said)
          assert.not.ok(existsSync(oci.cgroup(ID)), said)
          const isGone = () => processesOf([oci.directory]).length === 0
          await eventually(`${said}: no process is left`, isGone)
          faults++
        }
      }
    }
    assert.ok(faults > 20, String(faults))
  })
}

test('nothing is left behind', nothingIsLeft)
test.run()
