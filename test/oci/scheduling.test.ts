/** Fields of a configuration that decide when, where and as what a program runs, as the kernel shows them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { needs } from '../lib/needs.ts'
import { ociOfFile, type Patch } from '../lib/oci.ts'

needs('root', 'cgroup2', 'program:busybox')

const { oci, nothingIsLeft } = ociOfFile()
let count = 0

async function run(script: string, patch: Patch) {
  const id = `run-${++count}`
  return await oci.run(['run', '--bundle', oci.bundle(id, script, patch), id])
}

test('a scheduler, an io priority, a personality and a memory policy are in force', async () => {
  const { stdout, stderr } = await run(
    'cut -d" " -f19,41 /proc/self/stat; ionice; uname -m; grep -m1 -o "interleave:0\\|bind:0" /proc/self/numa_maps',
    (spec) => {
      Object.assign(spec.process, {
        scheduler: { policy: 'SCHED_BATCH', nice: 5 },
        ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 6 },
      })
      Object.assign(spec.linux, {
        personality: { domain: 'LINUX32' },
        memoryPolicy: { mode: 'MPOL_BIND', nodes: '0' },
      })
    },
  )
  // nice and SCHED_BATCH (3).
  assert.match(stdout, /^5 3$/m, stderr)
  assert.match(stdout, /best-effort: prio 6/)
  if (process.arch === 'x64') assert.match(stdout, /^i686$/m)
  assert.match(stdout, /^bind:0$/m)
})

test('what does not fit is refused by its name', async () => {
  const refused = async (patch: Patch, message: RegExp) => {
    const { code, stderr } = await run('true', patch)
    assert.is(code, 1)
    assert.match(stderr, message)
  }
  const ofProcess =
    (fields: object): Patch =>
    (spec) =>
      Object.assign(spec.process, fields)
  const ofLinux =
    (fields: object): Patch =>
    (spec) =>
      Object.assign(spec.linux, fields)
  await refused(ofProcess({ scheduler: { policy: 'SCHED_X' } }), /process\.scheduler\.policy/)
  await refused(
    ofProcess({ scheduler: { policy: 'SCHED_OTHER', runtime: 1 } }),
    /SCHED_DEADLINE only/,
  )
  await refused(
    ofProcess({ ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 8 } }),
    /ioPriority\.priority/,
  )
  await refused(ofLinux({ personality: { domain: 'LINUX', flags: ['X'] } }), /personality\.flags/)
  await refused(
    ofLinux({ memoryPolicy: { mode: 'MPOL_BIND', nodes: '5-2' } }),
    /memoryPolicy\.nodes/,
  )
  await refused(ofLinux({ intelRdt: { closID: 'x' } }), /linux\.intelRdt/)
})

test('nothing is left behind', nothingIsLeft)
test.run()
