/** berth-oci where memory is scarce: what it does between clone and exec counts against the container's limit. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needs } from '../lib/needs.ts'
import { ociOfFile } from '../lib/oci.ts'

needs('root', 'cgroup2', 'cgroup:memory', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()
const KIB = 1024

test('a container with 512 KiB of memory starts, takes a further process, and is held to it', async () => {
  oci.bundle('tiny', 'echo begun; exec sleep 1000', (spec) => {
    spec.linux.resources = { memory: { limit: 512 * KIB, swap: 512 * KIB } }
  })
  const { code, stderr } = await oci.create('tiny')
  assert.is(code, 0, stderr)
  await oci.ok(['start', 'tiny'])
  await eventually('it runs', () => oci.output('tiny') === 'begun\n')
  assert.is(readFileSync(join(oci.cgroup('tiny'), 'memory.max'), 'utf8'), `${512 * KIB}\n`)
  assert.is(await oci.ok(['exec', 'tiny', 'echo', 'further']), 'further\n')
  const hog = await oci.run(['exec', 'tiny', 'dd', 'if=/dev/zero', 'of=/dev/null', 'bs=4M'])
  assert.is.not(hog.code, 0)
  assert.match(readFileSync(join(oci.cgroup('tiny'), 'memory.events'), 'utf8'), /^oom_kill [1-9]/m)
  await oci.ok(['delete', '--force', 'tiny'])
})

test('nothing is left behind', nothingIsLeft)
test.run()
