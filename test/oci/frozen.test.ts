/** berth-oci exec where what it joins is frozen: by `pause`, or by the container itself. Nothing else must wait for it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../lib/eventually.ts'
import { needing, needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()

const processes = (group: string): number =>
  readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).length

async function started(id: string, script: string, patch?: Patch): Promise<void> {
  oci.bundle(id, script, patch)
  assert.is((await oci.create(id)).code, 0)
  await oci.ok(['start', id])
}

/** Paused, with a further process that is on its way. */
async function joining(id: string) {
  await started(id, 'exec sleep 1000')
  await oci.ok(['pause', id])
  const further = oci.run(['exec', '--ignore-paused', id, 'echo', 'thawed'])
  await eventually('it is on its way', () => processes(oci.cgroup(id)) === 2)
  // Not itself: an async function would wait for it.
  return { further }
}

test('resume does not wait for an exec that waits for it', async () => {
  const { further } = await joining('resumed')
  await oci.ok(['resume', 'resumed'])
  const { code, stdout, stderr } = await further
  assert.is(code, 0, stderr)
  assert.is(stdout, 'thawed\n')
  await oci.ok(['delete', '--force', 'resumed'])
})

test('kill and delete do not wait for an exec in a paused container, and end it', async () => {
  const { further } = await joining('deleted')
  await oci.ok(['kill', 'deleted', 'KILL'])
  await oci.ok(['delete', '--force', 'deleted'])
  assert.is.not((await further).code, 0)
})

/** With a writable hierarchy of its own, whose group below the first process is in; nothing may be in that above. */
const delegated: Patch = (spec) => {
  for (const mount of spec.mounts ?? []) {
    if (mount.type === 'cgroup') Object.assign(mount, { options: ['nosuid', 'noexec', 'nodev'] })
  }
}
const DELEGATE =
  'cd /sys/fs/cgroup && mkdir -p below/own && echo $$ >below/own/cgroup.procs && echo +hugetlb >cgroup.subtree_control && echo there'

for (const frozen of ['below/own', 'below']) {
  const id = frozen.replace('/', '-')
  needing(test, 'cgroup:hugetlb')(
    `exec where a container has frozen ${frozen}, which it made and is in, is refused, and the container can be killed and deleted`,
    async () => {
      await started(id, `${DELEGATE}; exec sleep 1000`, delegated)
      await eventually('it is in a group of its own', () => oci.output(id) === 'there\n')
      assert.is(await oci.ok(['exec', id, 'echo', 'joined']), 'joined\n')
      writeFileSync(join(oci.cgroup(id), frozen, 'cgroup.freeze'), '1')
      await oci.refused(['exec', id, 'true'], /the container has frozen its cgroup/)
      await oci.refused(
        ['exec', '--cgroup', 'below/own', id, 'true'],
        /the container has frozen its cgroup/,
      )
      assert.is(processes(join(oci.cgroup(id), 'below/own')), 1)
      await oci.ok(['kill', id, 'KILL'])
      await oci.ok(['delete', '--force', id])
    },
  )
}

test('nothing is left behind', nothingIsLeft)
test.run()
