/**
 * The power goes while images are pulled, loaded, committed, removed and collected; after the next boot the store is whole and the pull completes. In User
 * Mode Linux. BERTH_POWER_CUTS is how often.
 */
import { execFileSync } from 'node:child_process'
import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { findMachine, runInMachine } from '../../scripts/vm.ts'
import { needs } from '../lib/needs.ts'
import { MARK, type Seen } from '../lib/power-guest.ts'
import { testDirectory } from '../lib/traces.ts'

needs('program:mkfs.ext4')

const machine = findMachine()
if (!machine) {
  process.stdout.write('# skipped (setup): needs User Mode Linux\n')
  process.exit(0)
}

const CUTS = Number(process.env['BERTH_POWER_CUTS'] ?? 5)
const SEED = Number(process.env['BERTH_TEST_SEED'] ?? 4)
const DISK_BYTES = 256 * 2 ** 20
const BOOT_MS = 300_000
const directory = testDirectory()
const disk = join(directory, 'disk')

/** Boots, and comes back when the guest has cut the power. */
async function boot(seed: number): Promise<Seen> {
  const command = [process.execPath, 'dist/test/lib/power-guest.js', String(seed)]
  const options = { limitMs: BOOT_MS, show: false, disk }
  const { output } = await runInMachine(machine as NonNullable<typeof machine>, command, options)
  const line = output.split('\n').find((each) => each.startsWith(MARK))
  assert.ok(line, output)
  return JSON.parse(line.slice(MARK.length)) as Seen
}

test(`${CUTS} cuts: the store opens, is whole, and the pull completes`, async () => {
  writeFileSync(disk, '')
  truncateSync(disk, DISK_BYTES)
  execFileSync('mkfs.ext4', ['-q', disk])
  const boots: Seen[] = []
  for (let i = 0; i <= CUTS; i++) boots.push(await boot(SEED * 100 + i))
  for (const [i, { damage, damageThen, left }] of boots.entries()) {
    assert.equal(damage, [], `after cut ${i} of seed ${SEED}`)
    assert.equal(damageThen, [], `after cut ${i} of seed ${SEED}, pulled again`)
    assert.equal(left, [], `after cut ${i} of seed ${SEED}, pruned`)
  }
  const busy = boots.filter(({ images, layers, debris }) => images + layers + debris > 0)
  assert.ok(busy.length > 0, 'no cut has met any work')
})

test.after(() => rmSync(directory, { recursive: true }))
test.run()
